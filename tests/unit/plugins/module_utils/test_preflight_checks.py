from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import preflight_checks

GB = 1000**3


def wanted(**changes):
    """An image that launches need."""
    plain = {"name": "lmsysorg/sglang:v1", "pull": "missing", "size_bytes": 0, "shared": False}
    return {**plain, "variable": "sweep_image", **changes}


def parameters(**changes):
    """Wishes that the host of facts() fulfils."""
    params = {
        "docker_host": "unix:///var/run/docker.sock",
        "docker_required": True,
        "images": [wanted(pull="never")],
        "cache_dir": "/cache",
        "root_dir": "/opt/preheat",
        "venv": "/opt/preheat/venv",
        "may_install_packages": False,
        "disk_margin_bytes": GB,
        "budget_bytes": 0,
        "gpus_needed": 2,
        "gpu_memory_needed_bytes": 70 * GB,
        "gpu_access": "auto",
        "python_minimum": "3.9",
        "clock_tolerance_seconds": 5,
        "variable_names": {},
    }
    assert set(changes) <= set(params)
    return dict(params, **changes)


def gpu(index):
    return {"index": index, "memory_total_bytes": 80 * GB, "memory_used_bytes": 0, "processes": [], "error": None}


def disk(free=100 * GB, device=1, writable=True):
    return {"free_bytes": free, "device": device, "writable": writable, "existing": "/cache"}


def facts(**changes):
    """A host with nothing to complain of."""
    found = {
        "user": "ops",
        "python_version": "3.11.2",
        "has_venv": True,
        "venv_exists": True,
        "clock_offset_seconds": 0.4,
        "docker_version": "28.2.2",
        "docker_api": "1.50",
        "docker_error": None,
        "docker_root_dir": "/var/lib/docker",
        "has_nvidia_runtime": True,
        "has_cdi": False,
        "images": {"lmsysorg/sglang:v1": {"present": True, "size_bytes": 1}},
        "image_tags": [],
        "missing_bytes": 16 * GB,
        "eviction": None,
        "disks": {"/cache": disk(), "/opt/preheat": disk(), "/var/lib/docker": disk()},
        "gpus": [gpu(0), gpu(1)],
        "gpu_vendor": "nvidia",
        "gpu_error": None,
    }
    assert set(changes) <= set(found)
    return dict(found, **changes)


def no_engine(kind):
    return facts(
        docker_version=None,
        docker_api=None,
        docker_root_dir=None,
        docker_error={"kind": kind, "detail": "[Errno] why"},
        images={},
    )


def found(params, host):
    problems, notices = preflight_checks.check(params, host)
    for finding in problems + notices:
        assert set(finding) == {"variable", "value", "message", "remedy"}
        assert finding["message"].endswith(".") and finding["remedy"].endswith(".")
    return problems, notices


def test_a_good_host_has_nothing():
    assert found(parameters(), facts()) == ([], [])


ABSENT = {"present": False, "size_bytes": None, "refusal": "", "download_bytes": None}
NOT_THERE = {"lmsysorg/sglang:v1": ABSENT}
REFUSED = {"lmsysorg/sglang:v1": {**ABSENT, "refusal": "manifest unknown"}}
KNOWN_SIZE = {"lmsysorg/sglang:v1": {**ABSENT, "download_bytes": 45 * GB}}
SMALL = [wanted()]
PULLED = [wanted(size_bytes=90 * GB)]


@pytest.mark.parametrize(
    ("wishes", "host", "variable", "message", "remedy"),
    [
        ({}, facts(python_version="3.8.10"), "python", "older than 3.9", "gpu_host_python"),
        ({}, facts(python_version="3.10.0", has_venv=False, venv_exists=False), "venv", "no ensurepip", "python3-venv"),
        ({}, facts(clock_offset_seconds=-61.5), "clock", "61.5 s behind", "synchronise"),
        ({}, facts(clock_offset_seconds=-5.1), "clock", "5.1 s behind", "synchronise"),
        ({}, facts(clock_offset_seconds=36.0), "clock", "36.0 s ahead of", "synchronise"),
        ({}, no_engine("missing"), "docker_host", "no Docker engine", "gpu_host_install_docker"),
        ({}, no_engine("stopped"), "docker_host", "does not answer", "systemctl"),
        ({}, no_engine("denied"), "docker_host", "user ops may not use", "usermod -ag docker ops"),
        ({}, no_engine("unreachable"), "docker_host", "nothing answers", "host and port"),
        ({}, no_engine("unsupported"), "docker_host", "not supported", "unix://"),
        ({}, no_engine("strange"), "docker_host", "not a Docker engine", "log"),
        ({"docker_required": False}, no_engine("stopped"), "docker_host", "does not answer", "start"),
        ({}, facts(docker_api="1.40", docker_version="19.03"), "docker_host", "API 1.40", "20.10"),
        ({}, facts(images=NOT_THERE), "sweep_image", "nothing there has a similar name", "docker load"),
        (
            {},
            facts(images=NOT_THERE, image_tags=["lmsysorg/sglang:v2"]),
            "sweep_image",
            "lmsysorg/sglang:v2",
            "correct",
        ),
        ({}, facts(disks={**facts()["disks"], "/cache": disk(writable=False)}), "cache_dir", "user ops", "become"),
        (
            {},
            facts(venv_exists=False, disks={**facts()["disks"], "/opt/preheat": disk(writable=False)}),
            "root_dir",
            "may not write",
            "become",
        ),
        ({}, facts(missing_bytes=99 * GB + 1), "cache_dir", "100.0 GB are free where 100.0 GB are needed", "larger"),
        (
            {"budget_bytes": 500 * GB},
            facts(missing_bytes=110 * GB, eviction={"size_bytes": 300 * GB, "evictable_bytes": 10 * GB}),
            "cache_dir",
            "110.0 GB can be free where 111.0 GB are needed",
            "larger",
        ),
        (
            {"budget_bytes": 50 * GB},
            facts(eviction={"size_bytes": 50 * GB, "evictable_bytes": 10 * GB}),
            "budget_bytes",
            "of the 50.0 GB that models may occupy 40.0 GB are taken",
            "prune.yml",
        ),
        ({"images": SMALL}, facts(images=REFUSED), "sweep_image", "cannot be pulled (manifest unknown)", "docker load"),
        ({"images": PULLED}, facts(images=NOT_THERE), "cache_dir", "90.0 GB for images to pull", "free some space"),
        ({"images": SMALL}, facts(images=KNOWN_SIZE), "cache_dir", "90.0 GB for images to pull", "free some space"),
        (
            {"images": [wanted(shared=True, pull="never")]},
            facts(images=NOT_THERE),
            "sweep_image",
            "may not be pulled",
            "docker load",
        ),
        ({}, facts(has_nvidia_runtime=False), "gpu_access", "neither", "nvidia-container-toolkit"),
    ],
)
def test_a_problem_is_told_once_with_its_remedy(wishes, host, variable, message, remedy):
    problems, _notices = found(parameters(**wishes), host)
    assert [problem["variable"] for problem in problems] == [variable]
    assert message in problems[0]["message"]
    assert remedy in problems[0]["remedy"].lower()


@pytest.mark.parametrize(
    ("wishes", "host"),
    [
        ({"docker_required": False}, no_engine("missing")),
        ({"venv": None}, facts(has_venv=False, venv_exists=False)),
        ({"may_install_packages": True}, facts(has_venv=False, venv_exists=False)),
        ({}, facts(disks={**facts()["disks"], "/opt/preheat": disk(writable=False)})),
        ({}, facts(has_venv=False, venv_exists=True)),
        ({}, facts(clock_offset_seconds=None)),
        ({}, facts(clock_offset_seconds=20.0)),  # what starting the module took on a busy host
        ({"images": PULLED, "disk_margin_bytes": 0}, facts(images=NOT_THERE, missing_bytes=0)),
        (
            {"images": PULLED},
            facts(images=NOT_THERE, disks={**facts()["disks"], "/cache": disk(device=2), "/var/lib/docker": disk()}),
        ),
        (
            {"budget_bytes": 500 * GB},
            facts(missing_bytes=110 * GB, eviction={"size_bytes": 300 * GB, "evictable_bytes": 11 * GB}),
        ),
        (  # nothing is missing, so nothing is evicted
            {"budget_bytes": GB},
            facts(missing_bytes=0, eviction={"size_bytes": 300 * GB, "evictable_bytes": 0}),
        ),
    ],
)
def test_no_problem(wishes, host):
    assert found(parameters(**wishes), host) == ([], [])


def test_a_registry_that_refuses_one_of_several_hosts_is_no_problem():
    problems, notices = found(parameters(images=[wanted(shared=True)]), facts(images=REFUSED))
    assert problems == []
    assert "cannot be pulled (manifest unknown)" in notices[0]["message"]


def test_all_problems_come_at_once():
    host = facts(
        python_version="3.8.1",
        clock_offset_seconds=100,
        images=NOT_THERE,
        missing_bytes=500 * GB,
        gpus=[],
        gpu_vendor="none",
    )
    problems, _notices = found(parameters(), host)
    assert [problem["variable"] for problem in problems] == [
        "python",
        "clock",
        "sweep_image",
        "cache_dir",
        "gpus_needed",
    ]


def test_problems_name_the_variables_that_people_set():
    names = {"cache_dir": "model_cache_dir", "gpus_needed": "sweep_server"}
    problems, _notices = found(parameters(variable_names=names), facts(missing_bytes=500 * GB, gpus=[]))
    assert [problem["variable"] for problem in problems] == ["model_cache_dir", "sweep_server"]


def test_a_notice_stops_nothing():
    problems, notices = found(parameters(), facts(missing_bytes=0, disks=dict.fromkeys(facts()["disks"], disk(free=5))))
    assert problems == []
    assert len(notices) == 1
    assert "less than the reserve" in notices[0]["message"]


TAGS = ["preheat-lab/sglang-cpu:0.5.15", "preheat-lab/host:latest", "python:3.11", "localhost:5000/sglang:v0.5.23"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("preheat-lab/sglang-cpu:0.5.16", ["preheat-lab/sglang-cpu:0.5.15"]),
        ("preheat-lab/sglang-cpu", ["preheat-lab/sglang-cpu:0.5.15"]),
        ("preheat-lab/sglangcpu:0.5.15", ["preheat-lab/sglang-cpu:0.5.15"]),
        ("localhost:5000/sglang:v0.5.24", ["localhost:5000/sglang:v0.5.23"]),
        ("something/else:1", []),
    ],
)
def test_near_names(name, expected):
    assert preflight_checks.near_names(name, TAGS) == expected
