# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The savings page: the hours of many experiments by strategy, from the launches of a sweep's records."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import savings
from ansible_collections.preheat.fleet.plugins.plugin_utils.report_launches import (
    Record,
    hosts_of,
    jit_state,
    launch_seconds,
    median,
    rung_of,
    seconds_by_phase,
)

# What fetching the model took before the trials: {"hosts": {name: {"seconds", "bytes_fetched", "source"}}}.
FETCH_FILE = "fetch.json"
# What the savings are computed for. Zero: as measured, or as in ASSUMED where nothing was.
DEFAULTS: dict[str, Any] = {
    "experiments": savings.ORIGIN_EXPERIMENTS,
    "workloads": 0,
    "hosts": 0,
    "fetch_seconds": 0,
    "benchmark_seconds": 0,
    "hub_mb_per_second": 86,
}
ASSUMED = {"workloads": 2, "hosts": 4}


def savings_of(
    plan: Mapping[str, Any],
    trials: Sequence[Record],
    fetched: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The hours of many experiments by strategy, from the spans of these trials, with every assumption as a sentence.

    C(fetched) is what C(fetch.json) says of the fetches before the trials; C(given) has the keys of C(DEFAULTS).
    C(strategies) is empty where the spans are not known; C(assumptions) then says why.
    """
    wanted = DEFAULTS | {key: value for key, value in (given or {}).items() if value}
    complete = [trial for trial in trials if trial["status"] == "complete"]
    notes: list[str] = []
    spans = savings.Spans(
        fetch_seconds=_fetch_seconds(plan, complete, fetched or {}, wanted, notes),
        benchmark_seconds=_benchmark_seconds(complete, wanted, notes),
        **_launches(complete, notes),
    )
    workloads = wanted["workloads"] or max((_workloads(trial) for trial in complete), default=0)
    hosts = wanted["hosts"] or len({host for trial in complete for host in hosts_of(trial)})
    own = (
        savings.strategies(spans, sum(map(_workloads, complete)), max(1, workloads), max(1, hosts)) if complete else []
    )
    if workloads < 2:
        workloads = ASSUMED["workloads"]
        notes.append(f"A launch serves {workloads} workloads: assumed, the sweep has one.")
    if hosts < 2:
        hosts = ASSUMED["hosts"]
        notes.append(f"{hosts} hosts: assumed, the sweep ran on one.")
    notes += [
        "Each host fetches the weights once, all hosts at the same time; the first launch of each finds its JIT caches"
        " empty, every later one finds them warm.",
        "Medians stand for every launch. Stopping servers, the same everywhere, is left out.",
    ]
    return {
        "experiments": wanted["experiments"],
        "workloads": workloads,
        "hosts": hosts,
        "spans": vars(spans),
        "assumptions": notes,
        "strategies": savings.strategies(spans, wanted["experiments"], workloads, hosts),
        "this_sweep": {
            "experiments": sum(_workloads(trial) for trial in complete),
            "hours": own[-1]["hours"] if own else None,
            "hours_no_cache": own[0]["hours"] if own else None,
        },
    }


def _workloads(trial: Record) -> int:
    return len({point.get("name") for point in trial["workloads"]})


def _fetch_seconds(
    plan: Mapping[str, Any],
    complete: list[Record],
    fetched: Mapping[str, Any],
    wanted: Mapping[str, Any],
    notes: list[str],
) -> float | None:
    if wanted["fetch_seconds"]:
        notes.append(f"Fetching the weights to a host takes {wanted['fetch_seconds']:g} s: given.")
        return float(wanted["fetch_seconds"])
    size = plan.get("bytes_total") or 0
    spans = [(item.get("bytes_fetched"), item.get("seconds")) for item in (fetched.get("hosts") or {}).values()]
    spans += [
        (phase.get("bytes"), phase["seconds"])
        for trial in complete
        for phase in trial["phases"]
        if phase["name"] == "model_fetch"
    ]
    # A fetch that found half of it there says nothing of a host that has nothing.
    if seconds := median(seconds for fetched, seconds in spans if fetched and fetched >= 0.99 * size):
        notes.append(f"Fetching the weights to a host takes {seconds:.1f} s: measured.")
        return seconds
    if not size:
        notes.append("No fetch of the weights was measured and the plan does not say their size: nothing to compute.")
        return None
    seconds = size / 1e6 / wanted["hub_mb_per_second"]
    notes.append(
        f"Fetching the weights to a host takes {seconds:.1f} s: assumed, {size / 1e9:.2f} GB at"
        f" {wanted['hub_mb_per_second']:g} MB/s; no fetch was measured."
    )
    return seconds


def _benchmark_seconds(complete: list[Record], wanted: Mapping[str, Any], notes: list[str]) -> float | None:
    if wanted["benchmark_seconds"]:
        notes.append(f"A benchmark takes {wanted['benchmark_seconds']:g} s: given.")
        return float(wanted["benchmark_seconds"])
    seconds = median(
        seconds_by_phase(trial).get("benchmark", 0.0) / _workloads(trial) for trial in complete if trial["workloads"]
    )
    if seconds is not None:
        notes.append(f"A benchmark of one workload takes {seconds:.1f} s: measured.")
    else:
        notes.append("No benchmark was measured: nothing to compute.")
    return seconds


def _launches(complete: list[Record], notes: list[str]) -> dict[str, float | None]:
    """The medians for the launches of C(Spans); what was not measured is taken from the next best, which is said."""
    by_state: dict[tuple[str, str], list[float]] = {}
    for trial in complete:
        if (seconds := launch_seconds(trial)) is not None:
            by_state.setdefault((rung_of(trial), jit_state(trial)), []).append(seconds)
    page, disk, hub = "page_cache", "disk", "hub"
    wishes = {
        "cold_launch_seconds": (
            "A launch with empty JIT caches, weights just fetched",
            [(hub, "cold"), (page, "cold")],
            [(disk, "cold"), (page, "partial"), (disk, "partial"), (page, "warm"), (disk, "warm")],
        ),
        "disk_launch_seconds": (
            "A launch with empty JIT caches, weights on the disk",
            [(disk, "cold")],
            [(page, "cold"), (hub, "cold"), (disk, "partial"), (page, "partial"), (disk, "warm"), (page, "warm")],
        ),
        "warm_launch_seconds": (
            "A launch with warm JIT caches, weights in the page cache",
            [(page, "warm")],
            [
                ("gpu", "warm"),
                (disk, "warm"),
                (page, "partial"),
                (disk, "partial"),
                (page, "cold"),
                (hub, "cold"),
                (disk, "cold"),
            ],
        ),
    }
    found: dict[str, float | None] = {}
    for name, (text, measured, instead) in wishes.items():
        state = next((state for state in measured + instead if state in by_state), None)
        if state is None:
            found[name] = None
            notes.append(f"{text} was not measured, nor one to take instead: nothing to compute.")
            continue
        found[name] = statistics.median(by_state[state])
        count = len(by_state[state])
        source = f"median of {count} launches" if count > 1 else "one launch"
        said = f"{text}, takes {found[name]:.1f} s: "
        if state in measured:
            notes.append(said + f"measured, {source}.")
        else:
            notes.append(
                said
                + f"assumed, that was not measured; {source} with weights from {state[0]} and {state[1]} JIT caches"
                " instead, so what this difference saves does not show."
            )
    return found
