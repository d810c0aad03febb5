from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.preflight_findings import Findings
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_gpus import check_gpu_access, check_gpus

GB = 1000**3


def gpu(index=0, total=80 * GB, error=None, processes=()):
    return {
        "index": index,
        "memory_total_bytes": total,
        "memory_used_bytes": 0,
        "processes": list(processes),
        "error": error,
    }


def facts(**changes):
    """A host with nothing to complain of."""
    found = {
        "docker_version": "28.2.2",
        "has_nvidia_runtime": True,
        "has_cdi": False,
        "gpus": [gpu(0), gpu(1)],
        "gpu_vendor": "nvidia",
        "gpu_error": None,
    }
    assert set(changes) <= set(found)
    return dict(found, **changes)


def found(wishes, host):
    """(problems, notices)"""
    params = {"gpus_needed": 2, "gpu_memory_needed_bytes": 70 * GB, "gpu_access": "auto", **wishes}
    findings = Findings({})
    check_gpus(params, host, findings)
    check_gpu_access(params, host, findings)
    return findings.problems, findings.notices


@pytest.mark.parametrize(
    ("wishes", "host", "variable", "message", "remedy"),
    [
        ({}, facts(gpus=[], gpu_vendor="none"), "gpus_needed", "the host has 0", "fewer"),
        ({}, facts(gpus=[gpu(0)]), "gpus_needed", "2 GPU(s) are needed, the host has 1", "fewer"),
        ({}, facts(gpus=[gpu(0), gpu(1, error="lost")]), "gpus_needed", "the host has 1 that work", "fewer"),
        ({}, facts(gpus=[], gpu_error="nvidia-smi (exit code 9): no"), "gpus_needed", "exit code 9", "driver"),
        (
            {},
            facts(gpus=[gpu(0), gpu(1, 24 * GB)]),
            "gpu_memory_needed_bytes",
            "70.0 GB of memory are needed on each of 2 GPU(s), 1 have it",
            "tp_size",
        ),
        ({}, facts(has_nvidia_runtime=False), "gpu_access", "neither", "nvidia-container-toolkit"),
        ({"gpu_access": "cdi"}, facts(), "gpu_access", "by cdi", "nvidia-ctk"),
        ({}, facts(gpu_vendor="amd"), "gpu_access", "CDI is not set up", "amd-ctk cdi generate"),
        ({"gpu_access": "device_request"}, facts(gpu_vendor="amd", has_cdi=True), "gpu_access", "by device", "amd-ctk"),
        (
            {"gpu_access": "device_request"},
            facts(has_nvidia_runtime=False, has_cdi=True),
            "gpu_access",
            "by device_request",
            "nvidia-ctk",
        ),
    ],
)
def test_a_problem_is_told_once_with_its_remedy(wishes, host, variable, message, remedy):
    problems, _notices = found(wishes, host)
    assert [problem["variable"] for problem in problems] == [variable]
    assert message in problems[0]["message"]
    assert remedy in problems[0]["remedy"].lower()


@pytest.mark.parametrize(
    ("wishes", "host"),
    [
        ({}, facts()),
        ({"gpus_needed": 0}, facts(gpus=[], gpu_vendor="none")),
        ({"gpus_needed": 0}, facts(has_nvidia_runtime=False)),
        ({}, facts(has_nvidia_runtime=False, has_cdi=True)),
        ({"gpu_access": "none"}, facts(has_nvidia_runtime=False)),
        ({}, facts(has_nvidia_runtime=False, has_cdi=True, gpu_vendor="amd")),
        ({"gpu_access": "none"}, facts(gpu_vendor="amd")),
        ({}, facts(gpus=[gpu(0, None), gpu(1, None)])),
        ({"gpu_memory_needed_bytes": 80 * GB}, facts()),
    ],
)
def test_no_problem(wishes, host):
    assert found(wishes, host) == ([], [])


@pytest.mark.parametrize(
    ("wishes", "host", "message"),
    [
        (
            {},
            facts(gpus=[gpu(0, processes=[{"name": "python3", "pid": 7, "memory_used_bytes": 5}]), gpu(1)]),
            "GPU 0 is in use: python3 (pid 7)",
        ),
        ({"gpus_needed": 0}, facts(gpus=[], gpu_error="nvidia-smi fails"), "nvidia-smi fails"),
        ({"gpus_needed": 1}, facts(gpus=[gpu(0), gpu(1, error="lost")], gpu_error="GPU 1: lost"), "GPU 1: lost"),
    ],
)
def test_notices_stop_nothing(wishes, host, message):
    problems, notices = found(wishes, host)
    assert problems == []
    assert len(notices) == 1
    assert message in notices[0]["message"]
