# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The GPUs of this host, whoever made them. No GPU and a broken driver are answers, not failures."""

from __future__ import annotations

import os

from ansible_collections.preheat.fleet.plugins.module_utils import gpu_amd, gpu_nvidia
from ansible_collections.preheat.fleet.plugins.module_utils.gpu_tools import ToolError, find_tool, run_tool

TOOLS = (
    ("nvidia", "nvidia-smi", gpu_nvidia.collect),
    ("amd", "amd-smi", gpu_amd.collect_amd_smi),
    ("amd", "rocm-smi", gpu_amd.collect_rocm_smi),
)
PCI_VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}
# Display controllers, 3D controllers and processing accelerators.
PCI_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")


def inventory(timeout_seconds=30, find=find_tool, run=run_tool, pci_folder="/sys/bus/pci/devices"):
    """Return vendor, driver_version, cuda_version, gpus, topology and error of this host."""
    broken = None
    for vendor, name, collect in TOOLS:
        path = find(name)
        if not path:
            continue
        try:
            info = collect(lambda *arguments, path=path: run([path, *arguments], timeout_seconds))
        except (ToolError, OSError) as error:
            broken = broken or _nothing(vendor, str(error))
            continue
        if info["gpus"]:
            return dict(info, vendor=vendor)
    return broken or _without_tool(pci_folder)


def _without_tool(pci_folder):
    """No tool knows of a GPU: say so if the PCI bus has one of a kind whose driver is missing."""
    found = pci_gpus(pci_folder)
    for vendor, tools in (("nvidia", "nvidia-smi"), ("amd", "amd-smi or rocm-smi")):
        if found.get(vendor):
            message = "%d %s GPU(s) on the PCI bus, but %s finds none: install the vendor's driver and tools"
            return _nothing(vendor, message % (found[vendor], vendor.upper(), tools))
    return _nothing("none", None)


def _nothing(vendor, error):
    return {
        "vendor": vendor,
        "driver_version": None,
        "cuda_version": None,
        "gpus": [],
        "topology": {},
        "error": error,
    }


def pci_gpus(pci_folder):
    """Count the GPUs on the PCI bus by vendor."""
    counts = {}
    try:
        devices = os.listdir(pci_folder)
    except OSError:
        return counts
    for device in devices:
        folder = os.path.join(pci_folder, device)
        vendor = PCI_VENDORS.get(_read(folder, "vendor"))
        if vendor and _read(folder, "class").startswith(PCI_CLASSES):
            counts[vendor] = counts.get(vendor, 0) + 1
    return counts


def _read(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
