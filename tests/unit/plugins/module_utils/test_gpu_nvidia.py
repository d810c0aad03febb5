from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import gpu_nvidia
from ansible_collections.preheat.fleet.plugins.module_utils.gpu_tools import ToolError

DATA = Path(__file__).parents[2] / "data" / "gpu"
MIB = 1024**2
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n"
)


def read(name):
    return (DATA / name).read_text()


def answers(log="", listing="", topology="", code=0):
    """A stand-in for running nvidia-smi, fed with what it printed on a real host."""

    def run(*arguments):
        return {
            ("-q", "-x"): (code, log, ""),
            ("-L",): (0, listing, ""),
            ("topo", "-m"): (0, topology, ""),
        }[arguments]

    return run


def test_h100_with_a_process():
    info = gpu_nvidia.collect(answers(read("nvidia_smi_h100.xml"), topology=read("nvidia_topo_h100_x1.txt")))
    assert info == {
        "driver_version": "580.159.04",
        "cuda_version": "13.0",
        "error": None,
        "gpus": [
            {
                "index": 0,
                "uuid": "GPU-9641675a-3230-322b-dc6e-284b7574a256",
                "name": "NVIDIA H100 80GB HBM3",
                "pci_bus_id": "00000000:00:06.0",
                "memory_total_bytes": 81559 * MIB,
                "memory_free_bytes": 78505 * MIB,
                "memory_used_bytes": 2575 * MIB,
                "utilization_percent": 0.0,
                "processes": [{"pid": 402, "name": "python3", "memory_used_bytes": 2566 * MIB}],
                "mig": None,
                "error": None,
            }
        ],
        "topology": {"links": {"0": {}}, "numa": {"0": 0}, "cpus": {"0": "0-15"}},
    }


@pytest.mark.parametrize(
    ("state", "free_mib", "used_mib", "processes"),
    [
        ("idle", 81079, 0, []),
        (
            "serving",
            11760,
            69320,
            [{"pid": 1440, "name": "sglang::scheduler", "memory_used_bytes": 69310 * MIB}],
        ),
    ],
)
def test_h100_before_and_under_a_server(state, free_mib, used_mib, processes):
    info = gpu_nvidia.collect(answers(read(f"nvidia_smi_h100_{state}.xml")))
    (gpu,) = info["gpus"]
    assert info["error"] is None
    assert gpu["error"] is None
    assert gpu["memory_free_bytes"] == free_mib * MIB
    assert gpu["memory_used_bytes"] == used_mib * MIB
    assert gpu["processes"] == processes


def test_mig_devices_get_profile_and_uuid_from_the_list():
    info = gpu_nvidia.collect(answers(read("nvidia_smi_a100_mig.xml"), read("nvidia_list_a100_mig.txt")))
    (gpu,) = info["gpus"]
    assert gpu["utilization_percent"] is None
    assert [device["uuid"][:12] for device in gpu["mig"]] == [
        "MIG-ce861fb0",
        "MIG-a45882f0",
        "MIG-f00d722c",
        "MIG-930574a9",
    ]
    assert gpu["mig"][3] == {
        "index": 3,
        "uuid": "MIG-930574a9-d43a-5d2b-95da-3e68384c8d6b",
        "profile": "1g.20gb",
        "gpu_instance_id": 6,
        "compute_instance_id": 0,
        "memory_total_bytes": 19968 * MIB,
        "memory_free_bytes": 19955 * MIB,
        "memory_used_bytes": 12 * MIB,
    }


def test_mig_without_a_list_keeps_the_devices():
    info = gpu_nvidia.collect(answers(read("nvidia_smi_a100_mig.xml"), listing="garbage"))
    assert [device["uuid"] for device in info["gpus"][0]["mig"]] == [None] * 4


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("<total>81559 MiB</total>", "<total>ERR!</total>", "ERR!"),
        ("<gpu_util>0 %</gpu_util>", "<gpu_util>Unknown Error</gpu_util>", "Unknown Error"),
        ("<gpu_util>0 %</gpu_util>", "<gpu_util>[GPU is lost]</gpu_util>", "GPU is lost"),
        ("<gpu_recovery_action>None<", "<gpu_recovery_action>Reset<", "recovery action 'Reset'"),
    ],
)
def test_a_lost_gpu_is_told_and_the_rest_is_kept(before, after, said):
    log = read("nvidia_smi_h100.xml")
    assert before in log
    info = gpu_nvidia.collect(answers(log.replace(before, after, 1)))
    assert said in info["gpus"][0]["error"]
    assert info["error"].startswith("GPU 0 (00000000:00:06.0): ")
    assert info["gpus"][0]["name"] == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("log", "code", "message"),
    [
        (NO_DRIVER, 9, r"nvidia-smi \(exit code 9\): NVIDIA-SMI has failed because"),
        ("Unable to determine the device handle for GPU0000:07:00.0: Unknown Error\n", 15, "device handle"),
        ("Failed to initialize NVML: Driver/library version mismatch\n", 18, "version mismatch"),
        ("", 127, "no output"),
        ("<?xml version='1.0'?><nvidia_smi_log><gpu></nvidia_smi_log>", 0, "cannot be read"),
    ],
)
def test_a_broken_driver_is_an_error_with_the_tools_own_words(log, code, message):
    with pytest.raises(ToolError, match=message):
        gpu_nvidia.collect(answers(log, code=code))


def test_no_devices_is_not_an_error():
    assert gpu_nvidia.collect(answers("No devices were found\n", code=6))["gpus"] == []


def test_a_failing_exit_code_after_a_complete_log_is_kept():
    info = gpu_nvidia.collect(answers(read("nvidia_smi_h100.xml"), code=14))
    assert "exit code 14" in info["error"]
    assert len(info["gpus"]) == 1


def test_topology_of_eight_gpus_with_nics():
    topology = gpu_nvidia.parse_topology(read("nvidia_topo_h100_x8.txt"))
    assert set(topology["links"]) == {str(index) for index in range(8)}
    assert topology["links"]["3"] == {str(index): "NV18" for index in range(8) if index != 3}
    assert topology["numa"] == {"0": 0, "1": 0, "2": 0, "3": 0, "4": 1, "5": 1, "6": 1, "7": 1}
    assert topology["cpus"]["7"] == "56-111,168-223"


def test_two_linked_gpus():
    info = gpu_nvidia.collect(answers(read("nvidia_smi_h200_x2.xml")))
    assert [(gpu["index"], gpu["name"]) for gpu in info["gpus"]] == [(0, "NVIDIA H200"), (1, "NVIDIA H200")]
    assert len({gpu["uuid"] for gpu in info["gpus"]}) == 2
    assert {gpu["memory_total_bytes"] for gpu in info["gpus"]} == {143771 * MIB}
    topology = gpu_nvidia.parse_topology(read("nvidia_topo_h200_x2.txt"))
    assert topology["links"] == {"0": {"1": "NV18"}, "1": {"0": "NV18"}}


def test_topology_without_nvlink():
    topology = gpu_nvidia.parse_topology(read("nvidia_topo_4090_x8.txt"))
    assert set(topology["links"]["6"].values()) == {"SYS"}
    assert len(topology["links"]["6"]) == 7


@pytest.mark.parametrize("text", ["", "\n\n", "Failed to initialize NVML: Unknown Error\n", "GPU0 GPU1\n"])
def test_topology_of_nothing(text):
    assert gpu_nvidia.parse_topology(text) == {}
