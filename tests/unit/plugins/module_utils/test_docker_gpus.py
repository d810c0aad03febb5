from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import docker_gpus

NVIDIA_CDI = [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}, {"Source": "cdi", "ID": "nvidia.com/gpu=all"}]


@pytest.mark.parametrize(
    ("info", "access", "kind"),
    [
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, "device_request", None),
        ({"Runtimes": {"runc": {}, "nvidia": {}}, "DiscoveredDevices": NVIDIA_CDI}, "device_request", "nvidia.com/gpu"),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": NVIDIA_CDI}, "cdi", "nvidia.com/gpu"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "amd.com/gpu=0"}]}, "cdi", "amd.com/gpu"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.com/nic=0"}]}, "device_request", None),
        ({"Runtimes": None, "DiscoveredDevices": None}, "device_request", None),
    ],
)
def test_gpu_access(info, access, kind):
    assert docker_gpus.gpu_access_of(info) == access
    assert docker_gpus.cdi_kind_of(info) == kind


@pytest.mark.parametrize(
    ("devices", "gpus", "names"),
    [
        (["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-b"], ["GPU-b"], ["nvidia.com/gpu=GPU-b"]),
        (["nvidia.com/gpu=0", "nvidia.com/gpu=1"], ["GPU-b"], ["nvidia.com/gpu=1"]),
        (["amd.com/gpu=0", "amd.com/gpu=1", "amd.com/gpu=all"], ["GPU-b", "GPU-a"], ["amd.com/gpu=1", "amd.com/gpu=0"]),
        (["amd.com/gpu=0"], ["0"], ["amd.com/gpu=0"]),
        (["amd.com/gpu=0"], ["GPU-x"], ["amd.com/gpu=GPU-x"]),
        ([], ["GPU-b"], ["nvidia.com/gpu=GPU-b"]),
    ],
)
def test_cdi_devices(devices, gpus, names):
    info = {"DiscoveredDevices": [{"Source": "cdi", "ID": device} for device in devices]}
    listed = [{"index": 0, "uuid": "GPU-a"}, {"index": 1, "uuid": "GPU-b"}]
    assert docker_gpus.cdi_devices(info, gpus, lambda: listed) == names
