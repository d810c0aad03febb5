# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots: the GPUs of hosts cut into sets that hold one server each. Pure functions on what gpu_info says."""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, problem

# From near to far, as the legend of `nvidia-smi topo -m` orders them; AMD's tools say PCIE of all that is not XGMI.
_PCIE = ("PIX", "PXB", "PHB", "NODE", "PCIE", "SYS")
_NVLINKS = re.compile(r"NV(\d+)\Z")
_OTHER_NUMA_NODE = 0.01  # decides between links of one kind only
# All ways to cut are tried up to so many GPUs (0.2 s for 16 in pairs); larger hosts are cut in index order.
_EXACT_GPUS = 16
# So many ways to choose GPUs are compared for a lease (70 for 4 of 8); of more, the set's own order decides.
_MOST_WAYS = 1000


def slots(
    hosts: Mapping[str, Sequence[dict[str, Any]]],
    slot_gpus: int,
    cpu_slots_per_host: int,
    topologies: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    exclusive_host: bool = False,
    least_gpus: int = 0,
) -> list[dict[str, Any]]:
    """Sets of GPUs that can hold one server each: ``hosts`` maps a host to its GPUs, ``topologies`` to their links.

    Every host's GPUs are cut into sets of ``slot_gpus`` (``gpu_sets``); a rest too small for a slot stays idle. A sweep
    on CPUs (``slot_gpus`` 0) gets ``cpu_slots_per_host`` slots on every host. With ``exclusive_host`` a host has one
    slot, of the GPUs that are nearest to each other.

    Where points need as few as ``least_gpus``, so many slots as can then run at once share each ``set``, and lease its
    GPUs trial by trial (``study_gpus``).
    """
    found = []
    for host, gpus in hosts.items():
        topology = (topologies or {}).get(host) or {}
        groups = gpu_sets(gpus, topology, slot_gpus) if slot_gpus else [[]] * cpu_slots_per_host
        if exclusive_host and groups:
            groups = [min(groups, key=lambda group: spread(group, topology))]
        sharers = slot_gpus // least_gpus if least_gpus and not exclusive_host else 1
        shared = [{"set": f"{host}/{index}", "topology": topology} if sharers > 1 else {}
                  for index, _group in enumerate(groups)]  # fmt: skip
        every = [(group, share) for group, share in zip(groups, shared, strict=True) for _one in range(max(1, sharers))]
        found += [
            {"name": f"{host}/{index}", "members": [{"host": host, "gpus": group}], **share}
            for index, (group, share) in enumerate(every)
        ]
    return found


def nearest(free: Sequence[dict[str, Any]], count: int, topology: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ``count`` of the free GPUs that are nearest to each other; of equal ones those that leave the nearest rest.

    So one GPU is taken where its neighbours are taken, and pairs stay whole for those that need them.
    """
    if math.comb(len(free), count) > _MOST_WAYS:
        return list(free[:count])

    def cost(group: Sequence[dict[str, Any]]) -> tuple[float, float]:
        rest = [gpu for gpu in free if gpu not in group]
        return round(spread(group, topology), 6), round(spread(rest, topology), 6)

    return _near_first(min(itertools.combinations(free, count), key=cost), topology)


def at_once(slots: Sequence[Mapping[str, Any]], points_gpus: Sequence[int]) -> int:
    """How many servers of points that need so many GPUs run at once, on average: fewer than slots where these share."""
    mean = sum(points_gpus) / len(points_gpus) if points_gpus else 1.0
    sets = {slot["set"]: len(slot["members"][0]["gpus"]) for slot in slots if slot.get("set")}
    return sum(not slot.get("set") for slot in slots) + sum(max(1, int(size / mean)) for size in sets.values())


def gpu_sets(gpus: Sequence[dict[str, Any]], topology: Mapping[str, Any], size: int) -> list[list[dict[str, Any]]]:
    """As many disjoint sets of ``size`` GPUs as there are, with the least sum of distances within the sets.

    Of equal ways the first in index order. Within a set the GPUs that are nearest to each other come first, so that a
    server that needs fewer takes those.
    """
    if len(gpus) > _EXACT_GPUS:
        groups = [tuple(gpus[i : i + size]) for i in range(0, len(gpus) - size + 1, size)]
        return [_near_first(group, topology) for group in groups]
    apart = {
        pair: distance(gpus[pair[0]], gpus[pair[1]], topology) for pair in itertools.combinations(range(len(gpus)), 2)
    }

    @functools.cache
    def best(left: tuple[int, ...]) -> tuple[float, tuple[tuple[int, ...], ...]]:
        if len(left) < size:
            return 0.0, ()
        ways = []
        for others in itertools.combinations(left[1:], size - 1):
            group = (left[0], *others)
            cost, groups = best(tuple(index for index in left[1:] if index not in others))
            cost += sum(apart[pair] for pair in itertools.combinations(group, 2))
            ways.append((round(cost, 6), (group, *groups)))
        if len(left) % size:  # one may stay idle
            ways.append(best(left[1:]))
        return min(ways)

    _cost, chosen = best(tuple(range(len(gpus))))
    return [_near_first([gpus[index] for index in group], topology) for group in chosen]


def distance(one: Mapping[str, Any], other: Mapping[str, Any], topology: Mapping[str, Any]) -> float:
    """How far two GPUs are apart: NVLink below 1 and the less the more links, then by the kind of PCIe path."""
    first, second = str(one["index"]), str(other["index"])
    links, numa = topology.get("links") or {}, topology.get("numa") or {}
    link = (links.get(first) or {}).get(second) or "unknown"
    nodes = numa.get(first), numa.get(second)
    farther = _OTHER_NUMA_NODE if None not in nodes and nodes[0] != nodes[1] else 0.0
    if nvlinks := _NVLINKS.match(link):
        return 1 / (1 + int(nvlinks[1])) + farther
    if link == "XGMI":
        return farther
    return 1.0 + (_PCIE.index(link) if link in _PCIE else len(_PCIE)) + farther


def spread(group: Sequence[Mapping[str, Any]], topology: Mapping[str, Any]) -> float:
    """The sum of the distances between the GPUs of a set."""
    return sum(distance(one, other, topology) for one, other in itertools.combinations(group, 2))


def _near_first(group: Sequence[dict[str, Any]], topology: Mapping[str, Any]) -> list[dict[str, Any]]:
    pairs = list(itertools.combinations(group, 2))
    if not pairs:
        return list(group)
    nearest = min(pairs, key=lambda pair: distance(pair[0], pair[1], topology))
    ordered = list(nearest)
    while len(ordered) < len(group):
        rest = [gpu for gpu in group if gpu not in ordered]
        ordered.append(min(rest, key=lambda gpu: sum(distance(gpu, other, topology) for other in ordered)))
    return ordered


def gpus_of_earlier_run(sweep_dir: str | None) -> dict[str, list[dict[str, Any]]]:
    """The GPUs whose trials this sweep holds already, by host: its ranking would compare new ones with them."""
    file = Path(sweep_dir) / "sweep.json" if sweep_dir else None
    if file is None or not file.is_file():
        return {}
    used: dict[str, list[dict[str, Any]]] = {}
    for slot in json.loads(file.read_text()).get("slots") or []:
        for member in slot["members"]:
            used.setdefault(f"{member['host']} of the earlier run", []).extend(member["gpus"])
    return used


def unequal_gpus(hosts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Problem]:
    """Trials of one sweep are compared with each other, so they run on equal GPUs."""
    kinds: dict[str, list[str]] = {}
    for host, gpus in hosts.items():
        for name in {gpu["name"] for gpu in gpus}:
            kinds.setdefault(name, []).append(host)
    if len(kinds) < 2:
        return []
    shown = "; ".join(f"{name}: {', '.join(names)}" for name, names in sorted(kinds.items()))
    remedy = (
        "Run one sweep for each kind of GPU: -e preheat_hosts=HOST,HOST and a sweep_name of its own. If they are equal "
        "and only named differently, set sweep_allow_unequal_gpus: true."
    )
    return [problem("gpu_hosts", sorted(kinds), f"have unequal GPUs ({shown}).", remedy)]
