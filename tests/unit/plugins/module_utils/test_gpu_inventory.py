from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import gpu_inventory
from ansible_collections.preheat.fleet.plugins.module_utils.gpu_tools import ToolError

DATA = Path(__file__).parents[2] / "data" / "gpu"


def host(tmp_path, tools, pci=()):
    """The inventory of a host with these tools ({name: answer to every call}) and PCI devices."""
    for number, (vendor, device_class) in enumerate(pci):
        folder = tmp_path / f"0000:{number:02x}:00.0"
        folder.mkdir()
        (folder / "vendor").write_text(vendor + "\n")
        (folder / "class").write_text(device_class + "\n")

    def run(argv, _timeout_seconds):
        answer = tools[argv[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return gpu_inventory.inventory(find=lambda name: name if name in tools else None, run=run, pci_folder=str(tmp_path))


H100 = (0, (DATA / "nvidia_smi_h100.xml").read_text(), "")
MI100 = (0, (DATA / "rocm_smi_mi100_x4.json").read_text(), "")
NO_DEVICES = (6, "No devices were found\n", "")
NO_DRIVER = (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", "")
NO_AMD = (1, "", "AMDSMI_STATUS_NO_DRV - Driver not loaded")
NVIDIA_3D, AMD_ACCELERATOR = ("0x10de", "0x030200"), ("0x1002", "0x120000")
NVIDIA_AUDIO, BMC_DISPLAY = ("0x10de", "0x040300"), ("0x1a03", "0x030000")


@pytest.mark.parametrize(
    ("tools", "pci", "vendor_and_gpus", "error"),
    [
        ({}, (), ("none", 0), None),
        ({}, (BMC_DISPLAY, NVIDIA_AUDIO), ("none", 0), None),
        ({}, (NVIDIA_3D, NVIDIA_3D), ("nvidia", 0), "2 NVIDIA GPU(s) on the PCI bus, but nvidia-smi finds none"),
        ({}, (AMD_ACCELERATOR,), ("amd", 0), "1 AMD GPU(s) on the PCI bus"),
        ({"nvidia-smi": H100}, (), ("nvidia", 1), None),
        ({"nvidia-smi": NO_DEVICES}, (), ("none", 0), None),
        ({"nvidia-smi": NO_DRIVER}, (NVIDIA_3D,), ("nvidia", 0), "couldn't communicate with the NVIDIA driver"),
        ({"nvidia-smi": ToolError("it hangs")}, (), ("nvidia", 0), "it hangs"),
        ({"nvidia-smi": PermissionError(13, "denied")}, (), ("nvidia", 0), "denied"),
        ({"nvidia-smi": NO_DEVICES, "rocm-smi": MI100}, (), ("amd", 4), None),
        ({"nvidia-smi": NO_DRIVER, "rocm-smi": MI100}, (), ("amd", 4), None),
        ({"amd-smi": NO_AMD, "rocm-smi": MI100}, (), ("amd", 4), None),
        ({"amd-smi": NO_AMD}, (), ("amd", 0), "AMDSMI_STATUS_NO_DRV"),
    ],
)
def test_inventory(tmp_path, tools, pci, vendor_and_gpus, error):
    info = host(tmp_path, tools, pci)
    assert set(info) == {"vendor", "driver_version", "cuda_version", "gpus", "topology", "error"}
    assert (info["vendor"], len(info["gpus"])) == vendor_and_gpus
    assert error in info["error"] if error else info["error"] is None


def test_a_host_without_a_pci_bus(tmp_path):
    assert gpu_inventory.pci_gpus(str(tmp_path / "missing")) == {}
