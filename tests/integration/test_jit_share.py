"""Compiled kernels of one host given to the other: warm.yml with sglang_server_jit_share."""

from __future__ import annotations

import json

import pytest

FOLDER = "/root/.cache/preheat-test-jit"
ARGS = [
    "-e",
    json.dumps(
        {
            "model_cache_models": [{"repo_id": "preheat-lab/tiny-llama"}],
            "model_cache_dir": f"{FOLDER}/hub",
            "sglang_server_jit_cache_dir": f"{FOLDER}/jit",
            "sglang_server_jit_share": True,
        }
    ),
]
STRANGE = "ffffffffffff-cpu"  # of an image that nobody has


@pytest.fixture
def kernels(fleet):
    """Compiled a while ago on gpu1, for the light engine and for an image that gpu2 lacks; gpu2 has one of its own."""
    hosts = ("gpu1", "gpu2")
    for host in hosts:
        fleet.run(host, f"rm -rf {FOLDER}")
    image = fleet.run("gpu1", "docker image inspect --format '{{.Id}}' preheat-lab/light-engine:latest").strip()
    key = f"{image.removeprefix('sha256:')[:12]}-cpu"
    make = "mkdir -p $(dirname {0}) && printf %s {1} > {0} && touch -d '{2}' {0}"
    mine, common, strange = f"{key}/triton/mine.so", f"{key}/triton/common.so", f"{STRANGE}/triton/strange.so"
    fleet.run("gpu1", make.format(f"{FOLDER}/jit/{mine}", "a-kernel-of-gpu1", "2026-01-01 12:00:00.123456789"))
    fleet.run("gpu1", make.format(f"{FOLDER}/jit/{common}", "older", "2026-01-01"))
    fleet.run("gpu1", make.format(f"{FOLDER}/jit/{strange}", "strange", "2026-01-01"))
    fleet.run("gpu2", make.format(f"{FOLDER}/jit/{common}", "newer", "2026-01-02"))
    yield mine, common, strange
    for host in hosts:
        fleet.run(host, f"rm -rf {FOLDER}")


def test_what_one_host_compiled_the_other_has(fleet, kernels):
    mine, common, strange = kernels
    output = fleet.playbook("warm.yml", *ARGS, "--check")
    assert "gpu1 would give" in output
    assert fleet.run("gpu2", f"ls {FOLDER}/jit/{mine} 2>&1 || true").endswith("No such file or directory\n")

    output = fleet.playbook("warm.yml", *ARGS)
    assert "gpu1 gives 0.0 MB to gpu2" in output
    assert fleet.run("gpu2", f"cat {FOLDER}/jit/{mine}") == "a-kernel-of-gpu1"
    assert fleet.run("gpu2", f"cat {FOLDER}/jit/{common}") == "newer"
    assert fleet.run("gpu2", f"stat -c %y {FOLDER}/jit/{mine}") == fleet.run("gpu1", f"stat -c %y {FOLDER}/jit/{mine}")
    assert "No such file" in fleet.run("gpu2", f"ls {FOLDER}/jit/{strange} 2>&1 || true")

    output = fleet.playbook("warm.yml", *ARGS)
    assert "gpu1 gives" not in output


def test_a_host_that_cannot_take_part_is_not_lost(fleet, kernels):
    """Its root of the caches is a file: the share fails, is said, and the host is warm nevertheless."""
    fleet.run("gpu2", f"rm -rf {FOLDER}/jit && mkdir -p {FOLDER} && touch {FOLDER}/jit")
    output = fleet.playbook("warm.yml", *ARGS)
    assert "gpu2 takes no part in sharing compiled kernels" in output
    assert fleet.run("gpu1", "ls -d /tmp/preheat-jit-* 2>/dev/null || true") == ""
