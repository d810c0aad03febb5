"""Slots: near GPUs together, on topologies that real hosts printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import gpu_amd, gpu_nvidia
from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_slots

DATA = Path(__file__).parents[2] / "data/gpu"


def topology(name):
    text = (DATA / name).read_text()
    if name.endswith(".json"):
        return gpu_amd.parse_rocm_smi(json.loads(text))["topology"]
    return gpu_nvidia.parse_topology(text)


def gpus(indexes):
    return [{"index": index, "uuid": f"GPU-{index}"} for index in indexes]


def sets(indexes, links, size):
    return [[gpu["index"] for gpu in group] for group in sweep_slots.gpu_sets(gpus(indexes), links, size)]


@pytest.mark.parametrize(
    ("captured", "indexes", "size", "expected"),
    [
        # Eight V100 as a cube: two NVLinks, one, or none between two GPUs.
        ("nvidia_topo_v100_x8.txt", range(8), 1, [[index] for index in range(8)]),
        ("nvidia_topo_v100_x8.txt", range(8), 2, [[0, 3], [1, 2], [4, 7], [5, 6]]),
        ("nvidia_topo_v100_x8.txt", range(8), 4, [[0, 3, 2, 1], [4, 7, 6, 5]]),
        ("nvidia_topo_v100_x8.txt", [0, 4, 5, 6], 2, [[0, 4], [5, 6]]),
        # All GPUs of these are equally linked: within a NUMA node, also where one GPU is lost.
        ("nvidia_topo_h100_x8.txt", range(8), 4, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("nvidia_topo_h100_x8.txt", range(1, 8), 2, [[1, 2], [4, 5], [6, 7]]),
        ("nvidia_topo_4090_x8.txt", range(1, 8), 2, [[1, 2], [4, 5], [6, 7]]),
        ("nvidia_topo_h100_x8.txt", range(8), 8, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("rocm_smi_mi100_x4.json", range(4), 2, [[0, 1], [2, 3]]),
        ("nvidia_topo_h100_x1.txt", [0], 1, [[0]]),
        ("nvidia_topo_h100_x1.txt", [0], 2, []),
    ],
)
def test_near_gpus_share_a_slot(captured, indexes, size, expected):
    assert sets(indexes, topology(captured), size) == expected


def test_no_cut_is_better():
    """The V100s' pairs, against every way to make pairs of eight GPUs."""
    links = topology("nvidia_topo_v100_x8.txt")

    def pairings(left):
        if not left:
            yield []
        for other in left[1:]:
            rest = [gpu for gpu in left[1:] if gpu is not other]
            yield from ([(left[0], other), *pairs] for pairs in pairings(rest))

    def cost(pairs):
        return sum(sweep_slots.spread(pair, links) for pair in pairs)

    every = [cost(pairs) for pairs in pairings(gpus(range(8)))]
    assert len(every) == 105
    assert cost(sweep_slots.gpu_sets(gpus(range(8)), links, 2)) == pytest.approx(min(every))


@pytest.mark.parametrize("links", [{}, {"links": {}, "numa": {"0": None}, "cpus": {}}])
def test_unknown_links_are_cut_in_index_order(links):
    assert sets(range(5), links, 2) == [[0, 1], [2, 3]]
    assert sets(range(20), links, 8) == [list(range(8)), list(range(8, 16))]


def test_links_from_near_to_far():
    kinds = ["XGMI", "NV18", "NV2", "NV1", "PIX", "PXB", "PHB", "NODE", "PCIE", "SYS", "unheard of"]
    ends = gpus([0, 1])
    found = [sweep_slots.distance(*ends, {"links": {"0": {"1": kind}}, "numa": {}}) for kind in kinds]
    assert found == sorted(found)
    assert len(set(found)) == len(kinds)
    one, other = ({"links": {"0": {"1": "NV4"}}, "numa": {"0": 0, "1": node}} for node in (0, 1))
    assert sweep_slots.distance(*ends, one) < sweep_slots.distance(*ends, other)


@pytest.mark.parametrize(
    ("count", "size", "cpu_slots", "expected"),
    [
        (4, 2, 1, [[0, 1], [2, 3]]),
        (3, 2, 1, [[0, 1]]),
        (1, 2, 1, []),
        (0, 0, 1, [[]]),
        (2, 0, 2, [[], []]),
    ],
)
def test_slots(count, size, cpu_slots, expected):
    found = sweep_slots.slots({"h": gpus(range(count))}, size, cpu_slots)
    assert [[gpu["index"] for gpu in slot["members"][0]["gpus"]] for slot in found] == expected
    assert [slot["name"] for slot in found] == [f"h/{i}" for i in range(len(expected))]


def test_each_gpu_is_in_one_slot_of_its_own_host():
    links = {"a": topology("nvidia_topo_v100_x8.txt")}
    found = sweep_slots.slots({"a": gpus(range(8)), "b": gpus(range(4))}, 2, 1, links)
    assert [slot["name"] for slot in found] == ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1"]
    held = {host: [gpu["index"] for slot in found for member in slot["members"] if member["host"] == host
                   for gpu in member["gpus"]] for host in ("a", "b")}  # fmt: skip
    assert {host: sorted(indexes) for host, indexes in held.items()} == {"a": list(range(8)), "b": list(range(4))}
    assert [gpu["index"] for gpu in found[0]["members"][0]["gpus"]] == [0, 3]


def test_an_exclusive_host_has_one_slot_of_its_nearest_gpus():
    # GPU 0 is linked to none of the others: its set is not the one.
    links = {"a": topology("nvidia_topo_v100_x8.txt")}
    found = sweep_slots.slots({"a": gpus([0, 5, 6, 7]), "b": gpus(range(4))}, 2, 1, links, exclusive_host=True)
    assert [slot["name"] for slot in found] == ["a/0", "b/0"]
    near = [gpu["index"] for gpu in found[0]["members"][0]["gpus"]]
    assert 0 not in near
    on_cpus = sweep_slots.slots({"a": [], "b": []}, 0, 3, exclusive_host=True)
    assert [slot["name"] for slot in on_cpus] == ["a/0", "b/0"]


def test_unequal_gpus_are_refused():
    found = sweep_slots.unequal_gpus({"a": [{"name": "H100"}], "b": [{"name": "H200"}]})
    assert "H100: a; H200: b" in found[0]["message"]
    assert sweep_slots.unequal_gpus({"a": [{"name": "H100"}], "b": [{"name": "H100"}]}) == []
