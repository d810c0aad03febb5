# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nvidia-smi says: `-q -x` (one call for all GPUs and their processes), `-L` for MIG, `topo -m`."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from ansible_collections.preheat.fleet.plugins.module_utils.gpu_tools import (
    ToolError,
    failure,
    known,
    quantity_bytes,
    quantity_int,
    quantity_percent,
)

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_LIST_GPU = re.compile(r"^GPU (\d+):")
_LIST_MIG = re.compile(r"^\s+MIG (\S+)\s+Device\s+(\d+):\s+\(UUID: (\S+)\)")
# What stands in the place of a value when a GPU has fallen off the bus or its firmware has died.
_LOST = ("ERR!", "Unknown Error", "GPU is lost", "GPU requires reset")


def collect(run):
    """Ask nvidia-smi through run(*arguments) -> (exit code, stdout, stderr); the result is gpu_info's."""
    code, stdout, stderr = run("-q", "-x")
    if "No devices were found" in stdout + stderr:
        return {"driver_version": None, "cuda_version": None, "gpus": [], "topology": {}, "error": None}
    if "</nvidia_smi_log>" not in stdout:
        raise ToolError(failure("nvidia-smi", code, stdout, stderr))
    info = parse_log(stdout)
    if code:
        # A dead GPU makes nvidia-smi fail after it has told what it knows of the others.
        info["error"] = info["error"] or failure("nvidia-smi", code, stderr or "reported an error", "")
    if any(gpu["mig"] for gpu in info["gpus"]):
        add_mig_names(info["gpus"], run("-L")[1])
    code, stdout, stderr = run("topo", "-m")
    info["topology"] = parse_topology(stdout) if code == 0 else {}
    return info


def parse_log(text):
    """Parse the XML of `nvidia-smi -q -x`. GPUs are listed there in the order of their indexes."""
    try:
        log = ElementTree.fromstring(text.strip())
    except ElementTree.ParseError as error:
        raise ToolError(f"nvidia-smi -q -x printed XML that cannot be read: {error}") from error
    gpus = [_gpu(index, node) for index, node in enumerate(log.findall("gpu"))]
    broken = [f"GPU {gpu['index']} ({gpu['pci_bus_id']}): {gpu['error']}" for gpu in gpus if gpu["error"]]
    return {
        "driver_version": known(log.findtext("driver_version")),
        "cuda_version": known(log.findtext("cuda_version")),
        "gpus": gpus,
        "topology": {},
        "error": "; ".join(broken) or None,
    }


def _gpu(index, node):
    gpu = {
        "index": index,
        "uuid": known(node.findtext("uuid")),
        "name": known(node.findtext("product_name")),
        "pci_bus_id": known(node.findtext("pci/pci_bus_id")) or node.get("id"),
        "utilization_percent": quantity_percent(node.findtext("utilization/gpu_util")),
        "processes": [_process(process) for process in node.findall("processes/process_info")],
        "mig": None,
        "error": _gpu_error(node),
    }
    gpu.update(_memory(node))
    if (node.findtext("mig_mode/current_mig") or "").strip() == "Enabled":
        gpu["mig"] = [_mig(device) for device in node.findall("mig_devices/mig_device")]
    return gpu


def _memory(node):
    usage = node.find("fb_memory_usage")
    return {
        f"memory_{kind}_bytes": quantity_bytes(usage.findtext(kind)) if usage is not None else None
        for kind in ("total", "free", "used")
    }


def _process(node):
    return {
        "pid": quantity_int(node.findtext("pid")),
        "name": known(node.findtext("process_name")),
        "memory_used_bytes": quantity_bytes(node.findtext("used_memory")),
    }


def _mig(node):
    device = {
        "index": quantity_int(node.findtext("index")),
        "uuid": None,
        "profile": None,
        "gpu_instance_id": quantity_int(node.findtext("gpu_instance_id")),
        "compute_instance_id": quantity_int(node.findtext("compute_instance_id")),
    }
    device.update(_memory(node))
    return device


def _gpu_error(node):
    for path in ("uuid", "fb_memory_usage/total", "fb_memory_usage/used", "utilization/gpu_util"):
        value = (node.findtext(path) or "").strip().strip("[]")
        if value in _LOST:
            return f"nvidia-smi says {value!r}: the GPU is lost, reset it or reboot the host"
    if (node.findtext("gpu_reset_status/reset_required") or "").strip() == "Yes":
        return "a reset of the GPU is required (nvidia-smi --gpu-reset)"
    action = known(node.findtext("gpu_recovery_action"))
    return f"the driver asks for the recovery action {action!r}" if action else None


def add_mig_names(gpus, text):
    """Write uuid and profile of MIG devices, which only `nvidia-smi -L` tells, into the GPUs."""
    named = {}
    gpu_index = None
    for line in text.splitlines():
        gpu_line, mig_line = _LIST_GPU.match(line), _LIST_MIG.match(line)
        if gpu_line:
            gpu_index = int(gpu_line.group(1))
        elif mig_line:
            named[gpu_index, int(mig_line.group(2))] = (mig_line.group(1), mig_line.group(3))
    for gpu in gpus:
        for device in gpu["mig"] or []:
            device["profile"], device["uuid"] = named.get((gpu["index"], device["index"]), (None, None))


def parse_topology(text):
    """Parse the matrix of `nvidia-smi topo -m`: links between GPUs, their NUMA nodes and CPU lists."""
    lines = [line for line in _ESCAPE.sub("", text).splitlines() if line.strip()]
    header = lines[0].split() if lines else []
    if "CPU" not in header:
        return {}
    devices = header[: header.index("CPU")]
    links, numa, cpus = {}, {}, {}
    for line in lines[1:]:
        cells = line.split()
        if not re.match(r"^GPU\d+$", cells[0]) or len(cells) <= len(devices):
            continue
        index = cells[0][3:]
        links[index] = {
            device[3:]: cell
            for device, cell in zip(devices, cells[1:])
            if re.match(r"^GPU\d+$", device) and cell != "X"
        }
        affinity = cells[1 + len(devices) :]
        cpus[index] = known(affinity[0]) if affinity else None
        numa[index] = quantity_int(affinity[1]) if len(affinity) > 1 else None
    return {"links": links, "numa": numa, "cpus": cpus}
