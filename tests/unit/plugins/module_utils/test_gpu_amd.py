from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import gpu_amd
from ansible_collections.preheat.fleet.plugins.module_utils.gpu_tools import ToolError

DATA = Path(__file__).parents[2] / "data" / "gpu"
MIB = 1024**2


def read(name):
    return (DATA / name).read_text()


def answers(**texts):
    """A stand-in for running amd-smi; a topic that is not named fails."""

    def run(topic, *_options):
        return (0, texts[topic], "") if topic in texts else (2, "", "AmdSmiException: not supported")

    return run


def test_amd_smi_static_and_metric():
    info = gpu_amd.collect_amd_smi(
        answers(static=read("amd_smi_static_mi210.json"), metric=read("amd_smi_metric_radeon.json"))
    )
    assert info["driver_version"].startswith("Linuxversion6.14.0")
    assert info["gpus"] == [
        {
            "index": 0,
            "uuid": None,
            "name": "AMD Instinct MI210",
            "pci_bus_id": None,
            "memory_total_bytes": 30576 * MIB,
            "memory_free_bytes": 10126 * MIB,
            "memory_used_bytes": 20450 * MIB,
            "utilization_percent": 91.0,
            "processes": [],
            "mig": None,
            "error": None,
        }
    ]
    assert info["topology"] == {"links": {"0": {}}, "numa": {"0": 1}, "cpus": {}}


def test_amd_smi_list_process_and_topology_in_their_documented_shape():
    process = {"name": "python3", "pid": 77, "memory_usage": {"vram_mem": {"value": 48000, "unit": "B"}}}
    info = gpu_amd.collect_amd_smi(
        answers(
            list='[{"gpu": 0, "bdf": "0000:23:00.0", "uuid": "67ff740f-0000-1000-80e6-b5bb3c3ce0db"}]',
            static='[{"gpu": 0, "asic": {"market_name": "AMD Instinct MI300X"}}, {"gpu": 1, "asic": "N/A"}]',
            metric='[{"gpu": 0, "usage": "N/A", "mem_usage": "N/A"}]',
            process=json.dumps(
                [
                    {"gpu": 0, "process_list": [{"process_info": process}]},
                    {"gpu": 1, "process_list": [{"process_info": "No running processes detected"}]},
                ]
            ),
            topology=json.dumps(
                [{"gpu": 0, "links": [{"gpu": 0, "link_type": "SELF"}, {"gpu": 1, "link_type": "XGMI"}]}]
            ),
        )
    )
    first, second = info["gpus"]
    assert first["uuid"] == "67ff740f-0000-1000-80e6-b5bb3c3ce0db"
    assert first["pci_bus_id"] == "0000:23:00.0"
    assert first["processes"] == [{"pid": 77, "name": "python3", "memory_used_bytes": 48000}]
    assert first["memory_total_bytes"] is None
    assert second["name"] is None
    assert second["processes"] == []
    assert info["topology"]["links"] == {"0": {"1": "XGMI"}, "1": {}}


def test_without_metric_usage_the_size_is_taken_from_static():
    info = gpu_amd.collect_amd_smi(answers(static=read("amd_smi_static_mi210.json"), metric='{"gpu_data": []}'))
    assert info["gpus"][0]["memory_total_bytes"] == 65520 * MIB
    assert info["gpus"][0]["memory_free_bytes"] is None


@pytest.mark.parametrize("texts", [{}, {"static": "Traceback", "metric": "[]"}, {"static": "[]"}])
def test_amd_smi_without_an_answer(texts):
    with pytest.raises(ToolError, match=r"amd-smi (static|metric) --json"):
        gpu_amd.collect_amd_smi(answers(**texts))


def test_rocm_smi_of_four_cards():
    text = "WARNING: AMD GPU device(s) is/are in a low-power state.\n" + read("rocm_smi_mi100_x4.json")
    info = gpu_amd.collect_rocm_smi(lambda *_arguments: (0, text, ""))
    assert info["driver_version"] == "6.3.6"
    assert [gpu["index"] for gpu in info["gpus"]] == [0, 1, 2, 3]
    assert info["gpus"][2] == {
        "index": 2,
        "uuid": "0xd4a9ec48d03d261d",
        "name": "Arcturus GL-XL [Instinct MI100]",
        "pci_bus_id": "0000:C3:00.0",
        "memory_total_bytes": 34342961152,
        "memory_free_bytes": 34342961152 - 6750208,
        "memory_used_bytes": 6750208,
        "utilization_percent": 0.0,
        "processes": [],
        "mig": None,
        "error": None,
    }
    assert info["topology"]["links"]["3"] == {"0": "PCIE", "1": "PCIE", "2": "PCIE"}
    assert info["topology"]["numa"] == {"0": 1, "1": 1, "2": 1, "3": 1}


@pytest.mark.parametrize(("code", "text"), [(1, "{}"), (0, "no JSON"), (0, "[]")])
def test_rocm_smi_without_an_answer(code, text):
    with pytest.raises(ToolError, match="rocm-smi"):
        gpu_amd.collect_rocm_smi(lambda *_arguments: (code, text, ""))
