# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trial is worth: its objective, its SLO verdicts and its place among the others.

Everything here fails closed: what is missing, not a number or not complete can lose a trial the win, never give it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics
from ansible_collections.preheat.fleet.plugins.module_utils.bench_metrics import number


def direction_of(objective: Mapping[str, Any]) -> str:
    """The direction asked for, or else the one in which the metric is better."""
    return objective.get("direction") or bench_metrics.natural_direction(objective["metric"]) or "maximize"


def gpu_count(record: Mapping[str, Any]) -> int:
    """The GPUs of the trial's slot; a host without GPU counts as one. 0 if the slot is unknown."""
    members = (record.get("slot") or {}).get("members") or []
    return sum(max(1, len(member.get("gpus") or [])) for member in members)


def metric_value(metrics: Mapping[str, Any], metric: str, gpus: int) -> float | None:
    """One metric of a workload point, C(_per_gpu) included, or None if it was not measured."""
    if not metric.endswith(bench_metrics.PER_GPU):
        return number(metrics.get(metric))
    rate = number(metrics.get(metric.removesuffix(bench_metrics.PER_GPU)))
    return None if rate is None or gpus < 1 else rate / gpus


def slo_verdicts(record: Mapping[str, Any], slo: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One verdict for each SLO and workload point. A metric that was not measured does not meet its SLO."""
    verdicts = []
    gpus = gpu_count(record)
    for point in record.get("workloads") or []:
        for metric, limit in (slo or {}).items():
            value = metric_value(point.get("metrics") or {}, metric, gpus)
            most, least = limit.get("max"), limit.get("min")
            met = value is not None and (most is None or value <= most) and (least is None or value >= least)
            bounds = {key: bound for key, bound in (("max", most), ("min", least)) if bound is not None}
            verdicts.append(
                {"metric": metric, "point": point.get("point"), "value": value}
                | bounds
                | {"hard": bool(limit.get("hard", False)), "met": met}
            )
    return verdicts


def score_trial(
    record: Mapping[str, Any],
    objective: Mapping[str, Any],
    slo: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields C(objective), C(slo), C(eligible) and C(ineligible_reasons) of a record.

    For each workload the best of its points that meet every hard SLO counts; the trial's value is the geometric
    mean over workloads, so that no workload outweighs another by the size of its numbers.
    """
    metric, direction = objective["metric"], direction_of(objective)
    verdicts = slo_verdicts(record, slo)
    broken = {verdict["point"] for verdict in verdicts if verdict["hard"] and not verdict["met"]}
    points = record.get("workloads") or []
    gpus = gpu_count(record)

    reasons = [] if record.get("status") == "complete" else [f"the trial is {record.get('status')}, not complete"]
    if not points:
        reasons.append("no workload was measured")
    candidates: dict[str, list[tuple[float, str]]] = {}
    for point in points:
        label = point.get("point")
        if failure := _failed_requests(point):
            reasons.append(f"{label}: {failure}")
        usable = candidates.setdefault(point.get("name"), [])
        value = metric_value(point.get("metrics") or {}, metric, gpus)
        if value is None or value <= 0:
            reasons.append(f"{label}: {metric} was not measured")
        elif label not in broken:
            usable.append((value, label))
    reasons += [f"{name}: no point meets every hard SLO" for name, usable in candidates.items() if not usable]

    best_of = max if direction == "maximize" else min
    best = {name: best_of(usable) for name, usable in candidates.items() if usable}
    value = None
    if not reasons:
        value = math.prod(part for part, label in best.values()) ** (1 / len(best))
    return {
        "objective": {
            "metric": metric,
            "direction": direction,
            "value": value,
            "points": [{"workload": name, "point": label, "value": part} for name, (part, label) in best.items()],
        },
        "slo": verdicts,
        "eligible": not reasons,
        "ineligible_reasons": reasons,
    }


def rank(records: Iterable[Mapping[str, Any]], direction: str) -> list[dict[str, Any]]:
    """The eligible trials, best first: C({rank, number, value, tied_with, record}).

    Equal values go by the lower trial number, and C(tied_with) names the trials of the same value.
    """
    sign = -1 if direction == "maximize" else 1
    valued = [(_value(record), record) for record in records if record.get("eligible") is True]
    eligible = [(value, record) for value, record in valued if value is not None]
    eligible.sort(key=lambda item: (sign * item[0], item[1]["number"]))
    return [
        {
            "rank": place,
            "number": record["number"],
            "value": value,
            "tied_with": [other["number"] for same, other in eligible if same == value and other is not record],
            "record": record,
        }
        for place, (value, record) in enumerate(eligible, start=1)
    ]


def _value(record: Mapping[str, Any]) -> float | None:
    return number((record.get("objective") or {}).get("value"))


def _failed_requests(point: Mapping[str, Any]) -> str | None:
    """Why the requests of a point do not count as all served, or None."""
    requests = point.get("requests") or {}
    total, completed, failed = (requests.get(key) for key in ("total", "completed", "failed"))
    if not total or completed is None:
        return "the number of completed requests is unknown"
    if failed or completed < total:
        return f"{max(failed or 0, total - completed)} of {total} requests failed"
    wanted = point.get("num_prompts")
    return f"only {total} of {wanted} requests were sent" if wanted and total < wanted else None
