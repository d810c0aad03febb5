# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What caches save: the hours of many experiments by strategy, computed from the spans of measured launches.

An experiment is one workload measured on one configuration. A host fetches the weights once and from then on launches
from its caches, so its time is

    first launch + (launches - 1) x later launch + experiments x benchmark

and with several hosts that of the host with the most launches. Stopping servers is left out: it is the same everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spans:
    """Seconds of the parts that experiments are made of. None: not known; strategies that need it are left out.

    A launch is from the container's creation to the first benchmark; fetching the weights is not part of it.
    """

    fetch_seconds: float | None  # the weights from the Hub to one host
    cold_launch_seconds: float | None  # JIT caches empty, weights just fetched
    disk_launch_seconds: float | None  # JIT caches empty, weights on the host's disk
    warm_launch_seconds: float | None  # JIT caches warm, weights in the page cache
    benchmark_seconds: float | None  # one workload


# The published figures of the prototype whose model cache preheat set out from: "loading" is all that they time of a
# launch, and the first one includes the download. Its text totals 50 experiments to 6.14 h without and 2.95 h with a
# shared cache. The first is the sum of these figures. The second is not: 272 + 49 x 30 + 50 x 170 s = 2.845 h. 2.95 h
# follows from ORIGIN_LATER_SECONDS instead of 30 s, which is solved from that total and lies in the 30 to 60 s that the
# same text expects of a disk; where the difference came from is not known.
# https://github.com/novitalabs/inference-autotuner, docs/MODEL_CACHING_OPTIMIZATION.md at 61d4799
ORIGIN = Spans(272.0, 0.0, 30.0, None, 170.0)
ORIGIN_EXPERIMENTS = 50
ORIGIN_LATER_SECONDS = 37.7

# Strategy, what it is, and which spans make its first launch on a host and each later one.
_STRATEGIES = (
    ("no_cache", "no cache", ("fetch", "cold_launch"), ("fetch", "cold_launch")),
    ("shared_cache", "shared model cache", ("fetch", "cold_launch"), ("disk_launch",)),
    ("page_cache_and_jit", "+ page cache and JIT caches", ("fetch", "cold_launch"), ("warm_launch",)),
    ("one_launch_many_workloads", "+ {workloads} workloads on each launch", ("fetch", "cold_launch"), ("warm_launch",)),
    ("many_hosts", "+ {hosts} hosts", ("fetch", "cold_launch"), ("warm_launch",)),
)
RELAUNCH = "page_cache_and_jit"


def hours(
    experiments: int,
    benchmark_seconds: float,
    *,
    first_launch_seconds: float,
    later_launch_seconds: float,
    workloads: int = 1,
    hosts: int = 1,
) -> dict[str, Any]:
    """C({launches, launch_hours, benchmark_hours, hours}); C(workloads) share a launch, C(hosts) share the launches."""
    launches = math.ceil(experiments / workloads)
    most = math.ceil(launches / hosts)
    launching = first_launch_seconds + (most - 1) * later_launch_seconds if most else 0.0
    measuring = min(experiments, most * workloads) * benchmark_seconds
    return {
        "launches": launches,
        "launch_hours": launching / 3600,
        "benchmark_hours": measuring / 3600,
        "hours": (launching + measuring) / 3600,
    }


def strategies(spans: Spans, experiments: int, workloads: int = 1, hosts: int = 1) -> list[dict[str, Any]]:
    """Each strategy whose spans are known, each with all that the ones before it have.

    C({strategy, text, first_launch_seconds, later_launch_seconds, ...}) and the figures of C(hours). C(saved_hours) are
    against no cache, C(saved_hours_against_relaunch) against a launch for each workload with all caches; None where
    there is nothing to compare with.
    """
    rows: list[dict[str, Any]] = []
    for name, text, first_parts, later_parts in _STRATEGIES:
        first, later = _sum(spans, first_parts), _sum(spans, later_parts)
        if first is None or later is None or spans.benchmark_seconds is None:
            continue
        shared = workloads if name in ("one_launch_many_workloads", "many_hosts") else 1
        spread = hosts if name == "many_hosts" else 1
        row: dict[str, Any] = {
            "strategy": name,
            "text": text.format(workloads=workloads, hosts=hosts),
            "first_launch_seconds": first,
            "later_launch_seconds": later,
        }
        row |= hours(
            experiments,
            spans.benchmark_seconds,
            first_launch_seconds=first,
            later_launch_seconds=later,
            workloads=shared,
            hosts=spread,
        )
        rows.append(row)
    hours_of = {row["strategy"]: row["hours"] for row in rows}
    for row in rows:
        sharing = row["launches"] < experiments or row["strategy"] == "many_hosts"
        row["saved_hours"] = _saved(row, hours_of.get("no_cache"))
        row["saved_hours_against_relaunch"] = _saved(row, hours_of.get(RELAUNCH)) if sharing else None
    return rows


def _sum(spans: Spans, names: tuple[str, ...]) -> float | None:
    seconds = [getattr(spans, f"{name}_seconds") for name in names]
    return None if None in seconds else sum(seconds)


def _saved(row: dict[str, Any], other_hours: float | None) -> float | None:
    return None if other_hours is None else other_hours - row["hours"]
