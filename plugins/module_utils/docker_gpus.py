# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an engine hands out GPUs, read from what it says of itself. Pure."""

from __future__ import annotations


def gpu_access_of(info):
    """How this engine hands out GPUs: a device request where an NVIDIA runtime is registered, else CDI."""
    if "nvidia" in (info.get("Runtimes") or {}):
        return "device_request"
    return "cdi" if cdi_kind_of(info) else "device_request"


def cdi_kind_of(info):
    """The kind of CDI device (C(nvidia.com/gpu), C(amd.com/gpu)) that the engine has discovered."""
    for device in info.get("DiscoveredDevices") or []:
        kind = device.get("ID", "").split("=", 1)[0]
        if device.get("Source") == "cdi" and kind.endswith("/gpu"):
            return kind
    return None


def cdi_devices(info, gpus, listed):
    """The names of CDI devices for GPUs (indexes or UUIDs); listed() gives the host's GPUs as gpu_info does.

    NVIDIA's specification has UUIDs too, AMD's only indexes. An engine before Docker 28.2 does not tell what it has.
    """
    kind = cdi_kind_of(info) or "nvidia.com/gpu"
    known = {device.get("ID") for device in info.get("DiscoveredDevices") or []}
    names = [f"{kind}={gpu}" for gpu in gpus]
    if not known or known.issuperset(names):
        return names
    index_of = {gpu["uuid"]: gpu["index"] for gpu in listed()}
    return [name if name in known else f"{kind}={index_of.get(gpu, gpu)}" for name, gpu in zip(names, gpus)]
