# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sweep will cost, before anything is launched: launches, slots, hours, and what caches and sharing save."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, report_savings, savings, sweep_slots

# Where nothing was measured: about what an 8B model took on an H100 (docs/performance.md), and the Hub at the rate
# that the report assumes. A launch, and one workload point.
ASSUMED_COLD_SECONDS = 130.0
ASSUMED_WARM_SECONDS = 46.0
ASSUMED_POINT_SECONDS = 30.0


def past_trials(plan: Mapping[str, Any]) -> tuple[str | None, list[dict[str, Any]]]:
    """The sweep whose complete trials say how long things take, and they: this one's, or else those of the sweep of the
    same model beside it that has the most. What cannot be read says nothing.
    """
    own = Path(plan["sweep_dir"])
    found = {}
    for folder in [own, *(path.parent for path in sorted(own.parent.glob("*/sweep.json")) if path.parent != own)]:
        try:
            described = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
            same = (described.get("model") or {}).get("repo_id") == plan["model"]["repo_id"]
            trials = [trial for trial in records.load_trials(folder) if trial["status"] == "complete"] if same else []
        except (OSError, ValueError, AttributeError, records.RecordError):
            continue
        if trials and folder == own:
            return folder.name, trials
        found[folder.name] = trials
    name = max(found, key=lambda key: len(found[key]), default=None)
    return (name, found[name]) if name and found[name] else (None, [])


def forecast(plan: Mapping[str, Any], source: str | None, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """C({points, launches, recorded, workloads, workload_points, slots, hosts, infeasible, hours, cache_saves_hours,
    sharing_saves_hours, assumptions}) of a plan that has its slots. C(infeasible) counts points by reason; hours are
    those of the launches that are left, all slots at once; None where they cannot be computed.
    """
    notes: list[str] = []
    workloads = len(plan["workloads"])
    recorded = sum(trial.get("kind") != "control" for trial in trials) if source == plan["name"] else 0
    left = max(0, plan["launches"] - recorded)
    spans = _measured(plan, source, trials, notes) if trials else _assumed(plan, notes)
    fetch, cold, warm = spans.fetch_seconds or 0.0, spans.cold_launch_seconds, spans.warm_launch_seconds
    found: dict[str, Any] = {"hours": None, "cache_saves_hours": None, "sharing_saves_hours": None}
    if cold is not None and warm is not None and spans.benchmark_seconds is not None:
        slots = sweep_slots.at_once(plan["slots"], [point["gpus"] for point in plan["feasible"]])

        def hours(later: float, shared: int) -> float:
            sums = savings.hours(
                left * workloads, spans.benchmark_seconds or 0.0, first_launch_seconds=fetch + cold,
                later_launch_seconds=later, workloads=shared, hosts=slots,
            )  # fmt: skip
            return sums["hours"]

        found["hours"] = hours(warm, workloads)
        found["cache_saves_hours"] = hours(fetch + cold, workloads) - found["hours"]
        found["sharing_saves_hours"] = hours(warm, 1) - found["hours"]
    search = plan.get("search") or {}
    if search.get("control_every"):
        notes.append("Controls are launched beside these; they are not counted.")
    if any(workload.get("find_max") for workload in plan["workloads"]) and not trials:
        notes.append("How often find_max measures is not known beforehand; it is counted as one point.")
    return {
        "points": len(plan["feasible"]) + len(plan["infeasible"]),
        "launches": plan["launches"],
        "recorded": recorded,
        "workloads": workloads,
        "workload_points": len(plan["workload_points"]),
        "slots": len(plan["slots"]),
        "hosts": len({member["host"] for slot in plan["slots"] for member in slot["members"]}),
        "infeasible": dict(Counter(point["reason"] for point in plan["infeasible"])),
        "assumptions": notes,
        **found,
    }


def lines(name: str, found: Mapping[str, Any]) -> list[str]:
    """The forecast in a few lines."""
    left = found["launches"] - found["recorded"]
    said = [
        f"sweep {name}: {found['points']} points known, {found['launches']} launches"
        f" ({found['recorded']} recorded, {max(0, left)} left), {found['workloads']} workloads with"
        f" {found['workload_points']} points on each, {found['slots']} slots on {found['hosts']} hosts"
    ]
    said += [f"infeasible: {count} points: {reason}" for reason, count in found["infeasible"].items()]
    if found["hours"] is None:
        said.append("estimated: not known")
    else:
        said.append(
            f"estimated: {found['hours']:.2f} h; caches save {found['cache_saves_hours']:.2f} h, workloads that share a"
            f" launch {found['sharing_saves_hours']:.2f} h"
        )
    return [*said, *(f"  {note}" for note in found["assumptions"])]


def _measured(
    plan: Mapping[str, Any], source: str | None, trials: Iterable[Mapping[str, Any]], notes: list[str]
) -> savings.Spans:
    """The spans of past trials; a benchmark is as long as theirs were."""
    found = report_savings.savings_of(plan, list(trials))
    notes.append(f"By the trials of sweep {source}.")
    notes += [note for note in found["assumptions"] if " takes " in note or "nothing to compute" in note]
    return savings.Spans(**found["spans"])


def _assumed(plan: Mapping[str, Any], notes: list[str]) -> savings.Spans:
    rate = report_savings.DEFAULTS["hub_mb_per_second"]
    fetch = (plan.get("bytes_total") or 0) / 1e6 / rate
    points = len(plan["workload_points"]) / len(plan["workloads"])
    notes.append(
        f"Assumed, as no trial of this model was recorded: fetching {fetch:.0f} s ({rate:g} MB/s), a first launch"
        f" {ASSUMED_COLD_SECONDS:g} s, a later one {ASSUMED_WARM_SECONDS:g} s, a workload point"
        f" {ASSUMED_POINT_SECONDS:g} s."
    )
    return savings.Spans(fetch, ASSUMED_COLD_SECONDS, ASSUMED_COLD_SECONDS, ASSUMED_WARM_SECONDS,
                         points * ASSUMED_POINT_SECONDS)  # fmt: skip
