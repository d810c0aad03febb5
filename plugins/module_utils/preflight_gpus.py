# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way of a launch on a host's GPUs. Pure; preflight_checks has the rest."""

from __future__ import annotations

from ansible_collections.preheat.fleet.plugins.module_utils.preflight_findings import gigabytes

_NOT_SET_UP = {"nvidia": "neither the NVIDIA runtime nor CDI is set up", "amd": "CDI is not set up"}
_TOOLKITS = {
    "nvidia": "install nvidia-container-toolkit, then 'nvidia-ctk runtime configure --runtime=docker' and restart "
    "Docker; for CDI 'nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml'",
    "amd": "install amd-container-toolkit and Docker >= 28.2, then 'amd-ctk cdi generate'; leave gpu_access at auto",
}


def check_gpus(params, facts, findings):
    """Are there enough that work, with enough memory; who uses them already?"""
    needed = params["gpus_needed"]
    error = facts["gpu_error"]
    if error:
        note = findings.problem if needed and not facts["gpus"] else findings.notice
        note("gpus_needed", needed, error, "repair the driver; nvidia-smi or amd-smi must work on the host")
    usable = [gpu for gpu in facts["gpus"] if not gpu["error"]]
    if len(usable) < needed and not (error and not facts["gpus"]):
        findings.problem(
            "gpus_needed",
            needed,
            f"{needed} GPU(s) are needed, the host has {len(usable)} that work",
            "ask for fewer (tp_size, dp_size), or take the host out of gpu_hosts",
        )
    wanted = params["gpu_memory_needed_bytes"]
    large = [gpu for gpu in usable if gpu["memory_total_bytes"] is None or gpu["memory_total_bytes"] >= wanted]
    if needed and len(large) < needed <= len(usable):
        largest = max(gpu["memory_total_bytes"] or 0 for gpu in usable)
        findings.problem(
            "gpu_memory_needed_bytes",
            wanted,
            f"{gigabytes(wanted)} of memory are needed on each of {needed} GPU(s), {len(large)} have it "
            f"(the largest has {gigabytes(largest)})",
            "spread the model over more GPUs (tp_size), take a smaller or quantised one, or another host",
        )
    if needed:
        _note_busy(usable, findings)


def _note_busy(gpus, findings):
    for gpu in gpus:
        holders = [process for process in gpu["processes"] if process["memory_used_bytes"] != 0]
        if holders:
            names = ", ".join(f"{process['name']} (pid {process['pid']})" for process in holders)
            findings.notice(
                "gpus_needed",
                gpu["index"],
                f"GPU {gpu['index']} is in use: {names} hold {gigabytes(gpu['memory_used_bytes'] or 0)}",
                "stop them, or keep them off while measuring",
            )


def check_gpu_access(params, facts, findings):
    """Can the Docker engine give them to containers?"""
    access = params["gpu_access"]
    if not (params["gpus_needed"] and facts["docker_version"]) or facts["gpu_vendor"] not in _TOOLKITS:
        return
    has_runtime = facts["has_nvidia_runtime"] and facts["gpu_vendor"] == "nvidia"
    ways = {
        "auto": has_runtime or facts["has_cdi"],
        "device_request": has_runtime,
        "cdi": facts["has_cdi"],
        "none": True,
    }
    if not ways[access]:
        findings.problem(
            "gpu_access",
            access,
            f"the Docker engine cannot give GPUs to containers: {_NOT_SET_UP[facts['gpu_vendor']]}"
            if access == "auto"
            else f"the Docker engine cannot give GPUs to containers by {access}",
            _TOOLKITS[facts["gpu_vendor"]],
        )
