from __future__ import annotations

import os

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_jit_cache as jit
from ansible_collections.preheat.fleet.plugins.module_utils.gpu_tools import ToolError

SINCE = 1_800_000_000.0
KIB, MIB = 1 << 10, 1 << 20
H100 = "0, GPU-a, NVIDIA H100 80GB HBM3, 9.0\n1, GPU-b, NVIDIA H100 80GB HBM3, 9.0\n2, GPU-c, NVIDIA L4, 8.9\n"
NO_OTHERS = {"gpus": []}


def slug(gpus, answer=(0, H100, ""), others=NO_OTHERS):
    def run(argv, timeout_seconds):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return jit.gpu_slug(gpus, find=lambda name: "/bin/" + name if answer else None, run=run, others=lambda: others)


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ([], "cpu"),
        (["GPU-a", "GPU-b"], "nvidia-h100-80gb-hbm3-sm90"),
        ([2], "nvidia-l4-sm89"),
        (["0", "2"], "nvidia-h100-80gb-hbm3-sm90+nvidia-l4-sm89"),
        (["MIG-x"], "nvidia-h100-80gb-hbm3-sm90+nvidia-l4-sm89"),
    ],
)
def test_gpu_slug(gpus, expected):
    assert slug(gpus) == expected


@pytest.mark.parametrize("answer", [None, (9, "driver broken", ""), ToolError("hangs"), (0, "", "")])
def test_without_an_answer_of_nvidia_smi(answer):
    assert slug(["0"], answer) == "unknown-gpu"
    others = {"gpus": [{"index": 0, "uuid": "u", "name": "AMD Instinct MI300X"}]}
    assert slug(["u"], answer, others) == "amd-instinct-mi300x"


def test_one_folder_for_each_image_and_kind_of_gpu():
    assert jit.key("sha256:0123456789abcdef", "cpu") == "0123456789ab-cpu"


def test_every_cache_is_moved():
    folders = set(jit.environment().values())
    assert all(folder.startswith(jit.CONTAINER_JIT_DIR + "/") for folder in folders)
    # Two names of one cache may share a folder, two caches may not.
    assert len(folders) == len(jit.environment()) - 1


def fill(root, files):
    for path, (size, at) in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bytes(size))
        os.utime(target, (at, at))
    return str(root)


OLD, NEW = SINCE - 1000, SINCE + 10
TRITON = {f"triton/{n}/kernel.cubin": (100 * KIB, OLD) for n in range(40)}


@pytest.mark.parametrize(
    ("files", "state", "added", "added_in"),
    [
        ({}, "cold", 0, []),
        ({"triton/x/kernel.cubin": (9, NEW)}, "cold", 1, ["triton"]),
        ({"triton/x/kernel.cubin": (9, OLD)}, "warm", 0, []),
        (TRITON, "warm", 0, []),
        # One small kernel on many is next to nothing.
        ({**TRITON, "triton/x/kernel.cubin": (20 * KIB, NEW)}, "warm", 1, ["triton"]),
        # The first launch with FlashInfer on Triton's cache: minutes of compiling in a few large files.
        ({**TRITON, "flashinfer/prefill.so": (3 * MIB, NEW)}, "partial", 1, ["flashinfer"]),
        ({"a/big": (500 * MIB, OLD), "flashinfer/prefill.so": (3 * MIB, NEW)}, "partial", 1, ["flashinfer"]),
        # Locks and logs are no kernels.
        (
            {"flashinfer/a.so": (9, OLD), "flashinfer/a.lock": (9, NEW), "flashinfer/jit.log": (9 * MIB, NEW)},
            "warm",
            0,
            [],
        ),
        ({"flashinfer/tmp/a.lock": (0, OLD), "triton/x/k.cubin": (9, NEW)}, "cold", 1, ["triton"]),
    ],
)
def test_what_a_launch_found_and_added(tmp_path, files, state, added, added_in):
    sizes = {path: size for path, (size, _at) in files.items()}
    for path, size in sizes.items():
        if size > 100 * MIB:
            (tmp_path / path).parent.mkdir(parents=True)
            os.truncate(os.open(tmp_path / path, os.O_CREAT | os.O_RDWR), size)
            os.utime(tmp_path / path, (OLD, OLD))
    fill(tmp_path, {path: entry for path, entry in files.items() if entry[0] <= 100 * MIB})
    found = jit.measure(str(tmp_path), SINCE)
    assert (found["state"], found["files_added"], found["added_in"]) == (state, added, added_in)
    new = [size for path, (size, at) in files.items() if at == NEW and not path.endswith((".lock", ".log"))]
    assert found["bytes_added"] == sum(new)


def test_a_folder_that_is_not_there(tmp_path):
    assert jit.measure(str(tmp_path / "nowhere"), SINCE)["state"] == "cold"
    assert jit.measure("", SINCE)["files_before"] == 0


def test_links_are_not_followed(tmp_path):
    fill(tmp_path, {"a/kernel.so": (9, OLD)})
    (tmp_path / "a/again.so").symlink_to("kernel.so")
    (tmp_path / "a/dangling.so").symlink_to("nowhere")
    assert jit.measure(str(tmp_path), SINCE)["files_before"] == 1
