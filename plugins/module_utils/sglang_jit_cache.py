# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Caches of compiled kernels on a host: one folder for each image and kind of GPU, and what a launch adds to it."""

from __future__ import annotations

import csv
import os
import re

from ansible_collections.preheat.fleet.plugins.module_utils.gpu_inventory import inventory
from ansible_collections.preheat.fleet.plugins.module_utils.gpu_tools import ToolError, find_tool, run_tool

CONTAINER_JIT_DIR = "/root/.cache/preheat/jit"

# Every cache of compiled kernels, each in a folder of its own. SGL_DG_CACHE_DIR is SGLANG_DG_CACHE_DIR's name
# before 0.5.4; SGLang sets DeepGEMM's own DG_JIT_CACHE_DIR from it. SGLANG_JIT_CACHE_DIR (0.5.19) took over from
# TVM_FFI_CACHE_DIR for SGLang's own kernels and does not follow SGLANG_CACHE_DIR.
_FOLDERS = {
    "CUDA_CACHE_PATH": "cuda",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "SGLANG_CACHE_DIR": "sglang",
    "SGLANG_DG_CACHE_DIR": "deep_gemm",
    "SGLANG_JIT_CACHE_DIR": "sglang_jit",
    "SGL_DG_CACHE_DIR": "deep_gemm",
    "TILELANG_CACHE_DIR": "tilelang",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "TRITON_CACHE_DIR": "triton",
    "TVM_FFI_CACHE_DIR": "tvm_ffi",
}

# What a cache writes without having compiled anything, or while it does.
_INCIDENTAL = re.compile(r"(^lock|\.lock|\.log|\.tmp|\.pid)$")

# More than this is more than a handful of Triton's kernels; a single module of FlashInfer is larger.
_WARM_BYTES_ADDED = 1 << 20
_WARM_SHARE_ADDED = 0.01

_DIGEST_DIGITS = 12
_KEY = re.compile(r"[0-9a-f]{12}-[a-z0-9+-]+")


def environment():
    """The variables that move every cache into the folder that is mounted at CONTAINER_JIT_DIR."""
    return {name: f"{CONTAINER_JIT_DIR}/{folder}" for name, folder in _FOLDERS.items()}


def key(image_id, slug):
    """Name of the folder for an image's id (C(sha256:...)) and a kind of GPU: what was compiled for one fits no other.

    The id, not the registry's digest: it is the same whether the image was pulled or loaded.
    """
    return f"{image_id.rpartition(':')[2][:_DIGEST_DIGITS]}-{slug}"


def gpu_slug(gpus, timeout_seconds=30, find=find_tool, run=run_tool, others=inventory):
    """The kind of these GPUs (indexes or UUIDs) as a part of a path, such as C(nvidia-h100-80gb-hbm3-sm90).

    C(cpu) without GPUs, C(unknown-gpu) where no tool knows them. Of GPUs that the tool does not list, such as
    instances of MIG, all kinds of the host.
    """
    if not gpus:
        return "cpu"
    kinds = _kinds(timeout_seconds, find, run, others)
    wanted = [kinds[str(gpu)] for gpu in gpus if str(gpu) in kinds]
    names = sorted({_slug(kind) for kind in wanted or kinds.values() if kind})
    return "+".join(names) or "unknown-gpu"


def kinds_of_host(timeout_seconds=30, find=find_tool, run=run_tool, others=inventory):
    """Every kind of GPU that a server of this host may run on, as in gpu_slug: none, each alone, all together."""
    names = sorted({_slug(kind) for kind in _kinds(timeout_seconds, find, run, others).values() if kind})
    return sorted({"cpu", *names, "+".join(names) or "unknown-gpu"})


def _kinds(timeout_seconds, find, run, others):
    """{index and UUID: name and, where known, compute capability} of the GPUs of this host."""
    nvidia = _nvidia_kinds(timeout_seconds, find, run)
    return nvidia or {name: gpu["name"] for gpu in others()["gpus"] for name in (str(gpu["index"]), gpu["uuid"])}


def _nvidia_kinds(timeout_seconds, find, run):
    """{index and UUID: name and compute capability}; empty where nvidia-smi does not tell."""
    tool = find("nvidia-smi")
    if not tool:
        return {}
    try:
        arguments = [tool, "--query-gpu=index,uuid,name,compute_cap", "--format=csv,noheader"]
        code, stdout, _unused = run(arguments, timeout_seconds)
    except (ToolError, OSError):
        return {}
    kinds = {}
    for row in csv.reader(stdout.splitlines() if code == 0 else [], skipinitialspace=True):
        if len(row) == 4:
            index, uuid, name, capability = (cell.strip() for cell in row)
            kinds[index] = kinds[uuid] = f"{name} sm{capability.replace('.', '')}"
    return kinds


def _slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def kernel_files(directory):
    """(path inside, its os.stat_result) of every regular file that counts; files may vanish meanwhile."""
    for root, _unused, names in os.walk(directory):
        for name in names:
            path = os.path.join(root, name)
            if _INCIDENTAL.search(name) or os.path.islink(path):
                continue
            try:
                yield os.path.relpath(path, directory), os.stat(path)
            except FileNotFoundError:
                continue


def measure(directory, since):
    """What a launch that began at C(since) (epoch seconds of this host) found in the folder, and what it added.

    Returns C(state) (see state_of), C(files_before), C(bytes_before), C(files_added), C(bytes_added) and
    C(added_in), the caches that grew. A file counts as added when it was written since; so files can be counted
    that another server compiled meanwhile, which shares the folder.
    """
    found = {"files_before": 0, "bytes_before": 0, "files_added": 0, "bytes_added": 0}
    added_in = set()
    for path, status in kernel_files(directory):
        when = "added" if status.st_mtime >= since else "before"
        found[f"files_{when}"] += 1
        found[f"bytes_{when}"] += status.st_size
        if when == "added":
            added_in.add(path.split(os.sep, 1)[0])
    return dict(state=state_of(**found), added_in=sorted(added_in), **found)


def state_of(files_before, bytes_before, files_added, bytes_added):
    """C(cold): nothing was there. C(warm): next to nothing had to be compiled. C(partial): some was there."""
    if not files_before:
        return "cold"
    tolerated = min(_WARM_BYTES_ADDED, _WARM_SHARE_ADDED * bytes_before)
    return "warm" if not files_added or bytes_added <= tolerated else "partial"


def is_key(name):
    """Whether a name can be that of a folder: no path, and none of another layout."""
    return bool(_KEY.fullmatch(name or ""))


def folders(root):
    """[{key, files, bytes}] of the folders under the root of the caches, those with files, by name."""
    found = []
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        sizes = [status.st_size for _path, status in kernel_files(os.path.join(root, name))]
        if sizes and is_key(name):
            found.append({"key": name, "files": len(sizes), "bytes": sum(sizes)})
    return found
