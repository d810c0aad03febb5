# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trial is worth: its objective and its SLO verdicts.

Everything here fails closed: what is missing, not a number or not complete can lose a trial the win, never give it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics
from ansible_collections.preheat.fleet.plugins.module_utils.bench_metrics import number

# exp(500) is still a number.
_MOST_PENALTY = 500.0


def direction_of(objective: Mapping[str, Any]) -> str:
    """The direction asked for, or else the one in which the metric is better."""
    return objective.get("direction") or bench_metrics.natural_direction(objective["metric"]) or "maximize"


def objectives_of(objective: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first objective and those in its ``also``: ``{metric, direction, weight}``."""
    return [
        {"metric": one["metric"], "direction": direction_of(one), "weight": one.get("weight", 1.0)}
        for one in (objective, *(objective.get("also") or []))
    ]


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
    gpus = gpu_count(record)
    return [
        {"metric": metric, "point": point.get("point"), **_verdict(point, metric, limit, gpus)}
        for point in record.get("workloads") or []
        for metric, limit in (slo or {}).items()
    ]


def _verdict(point: Mapping[str, Any], metric: str, limit: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    value = metric_value(point.get("metrics") or {}, metric, gpus)
    excess = None if value is None else slo_excess(value, limit)
    bounds = {key: limit[key] for key in ("max", "min") if limit.get(key) is not None}
    return {"value": value, **bounds, "hard": bool(limit.get("hard", False)), "met": excess == 0.0}


def slo_excess(value: float, limit: Mapping[str, Any]) -> float:
    """By which part of its limit a value misses it: 0 where it is met, 0.1 for 1.1 s where 1.0 s is the most.

    Continuous: at the limit it is 0. A limit of 0 is missed by the value itself.
    """
    most, least = limit.get("max"), limit.get("min")
    over = 0.0 if most is None else max(0.0, value - most) / (most or 1.0)
    under = 0.0 if least is None else max(0.0, least - value) / (least or 1.0)
    return over + under


def soft_penalty(metrics: Mapping[str, Any], slo: Mapping[str, Any] | None, gpus: int) -> float | None:
    """The sum of weight x excess over all soft SLOs of a point; None if one of them was not measured.

    A linear exterior penalty on the logarithm of the objective: score = value x exp(-penalty) where more is better,
    value x exp(penalty) where less is. It is exact (no penalty inside the limits, continuous at them) and has no unit.
    W. I. Zangwill, Non-linear programming via penalty functions, Management Science 13 (1967) 344-358.
    """
    total = 0.0
    for metric, limit in (slo or {}).items():
        weight = limit.get("weight", 1.0)
        if limit.get("hard", False) or not weight:
            continue
        value = metric_value(metrics, metric, gpus)
        if value is None:
            return None
        total += weight * slo_excess(value, limit)
    return total


def score_trial(
    record: Mapping[str, Any],
    objective: Mapping[str, Any],
    slo: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields C(objective), C(slo), C(eligible) and C(ineligible_reasons) of a record.

    For each workload the best of its points that meet every hard SLO counts, in every repeat the same one; the trial's
    value is the geometric mean over workloads (no workload outweighs another by the size of its numbers) and repeats.
    C(score) is what trials are ranked by: the value with the penalties of soft SLOs; with several objectives the
    weighted product of all of them (D. W. Miller and M. K. Starr, Executive Decisions and Operations Research, 1969),
    in the direction of the first. C(samples) are the scores of the single repeats.
    """
    wanted = objectives_of(objective)
    verdicts = slo_verdicts(record, slo)
    points = record.get("workloads") or []
    gpus = gpu_count(record)

    reasons = [] if record.get("status") == "complete" else [f"the trial is {record.get('status')}, not complete"]
    if not points:
        reasons.append("no workload was measured")
    for point in points:
        if failure := _failed_requests(point):
            reasons.append(f"{point.get('point')}: {failure}")
        reasons += [
            f"{point.get('point')}: {one['metric']} was not measured, or is 0"
            for one in wanted
            if (metric_value(point.get("metrics") or {}, one["metric"], gpus) or 0) <= 0
        ]
        if soft_penalty(point.get("metrics") or {}, slo, gpus) is None:
            reasons.append(f"{point.get('point')}: a soft SLO was not measured")
    best = _best_points(points, wanted, slo, gpus)
    reasons += [f"{name}: no point meets every hard SLO" for name, chosen in best.items() if not chosen]
    repeats = {len(chosen) for chosen in best.values() if chosen}
    if len(repeats) > 1:
        reasons.append("its workloads were repeated unequally often")

    counted = [chosen for chosen in best.values() if chosen]
    scored = bool(counted) and not reasons
    results = []
    for index, one in enumerate(wanted):
        parts = [_mean(repeat["values"][index] for repeat in chosen) for chosen in counted]
        results.append(
            {"metric": one["metric"], "direction": one["direction"], "value": _mean(parts) if scored else None}
        )
    samples = [_mean(chosen[i]["score"] for chosen in counted) for i in range(min(repeats))] if scored else []
    return {
        "objective": results[0]
        | {
            "points": [
                {
                    "workload": name,
                    "point": chosen[0]["point"],
                    "value": _mean(repeat["values"][0] for repeat in chosen),
                }
                for name, chosen in best.items()
                if chosen
            ],
            "also": results[1:],
            "score": _mean(samples) if scored else None,
            "samples": samples,
        },
        "slo": verdicts,
        "eligible": scored,
        "ineligible_reasons": reasons,
    }


def _mean(values: Iterable[float]) -> float:
    """The geometric mean; that of one value is the value itself."""
    found = list(values)
    return found[0] if len(found) == 1 else math.prod(value ** (1 / len(found)) for value in found)


def _best_points(
    points: Iterable[Mapping[str, Any]],
    wanted: list[dict[str, Any]],
    slo: Mapping[str, Any] | None,
    gpus: int,
) -> dict[Any, list[dict[str, Any]]]:
    """For each workload the repeats of its best point, C({point, values, score}); [] if none of its points counts."""
    by_workload: dict[Any, dict[Any, list[dict[str, Any] | None]]] = {}
    for point in points:
        labels = by_workload.setdefault(point.get("name"), {})
        labels.setdefault(unrepeated(point.get("point")), []).append(_scored_point(point, wanted, slo, gpus))
    sign = 1 if wanted[0]["direction"] == "maximize" else -1
    best = {}
    for name, labels in by_workload.items():
        usable = [[part for part in parts if part] for parts in labels.values() if all(parts)]
        best[name] = max(usable, key=lambda parts: sign * _mean(part["score"] for part in parts), default=[])
    return best


def _scored_point(
    point: Mapping[str, Any], wanted: list[dict[str, Any]], slo: Mapping[str, Any] | None, gpus: int
) -> dict[str, Any] | None:
    metrics = point.get("metrics") or {}
    values = [metric_value(metrics, one["metric"], gpus) for one in wanted]
    penalty = soft_penalty(metrics, slo, gpus)
    hard = [_verdict(point, metric, limit, gpus)["met"] for metric, limit in (slo or {}).items() if limit.get("hard")]
    if penalty is None or not all(hard) or not all(value is not None and value > 0 for value in values):
        return None
    total = sum(one["weight"] for one in wanted)
    product = math.prod(
        value ** ((1 if one["direction"] == wanted[0]["direction"] else -1) * one["weight"] / total)
        for one, value in zip(wanted, values, strict=True)
        if value is not None
    )
    penalty = min(penalty, _MOST_PENALTY)
    score = product * math.exp(-penalty if wanted[0]["direction"] == "maximize" else penalty)
    return {"point": point.get("point"), "values": values, "score": score}


def unrepeated(label: Any) -> Any:
    """The label of a workload point without its repeat: C(chat/c8~2) is the second measurement of C(chat/c8)."""
    return label.partition("~")[0] if isinstance(label, str) else label


def course(
    record: Mapping[str, Any], objective: Mapping[str, Any], slo: Mapping[str, Any] | None
) -> list[float | None]:
    """The score after each workload of a trial that may still be running; None once no point of one counts.

    A pruner compares these between trials, as workloads run in the same order in all of them.
    """
    points = [point for point in record.get("workloads") or [] if point.get("point") == unrepeated(point.get("point"))]
    best = _best_points(points, objectives_of(objective), slo, gpu_count(record))
    scores = [_mean(part["score"] for part in chosen) if chosen else None for chosen in best.values()]
    reached: list[float | None] = []
    for index in range(len(scores)):
        sofar = [score for score in scores[: index + 1] if score is not None]
        reached.append(_mean(sofar) if len(sofar) == index + 1 else None)
    return reached


def violation(record: Mapping[str, Any], slo: Mapping[str, Any] | None) -> float:
    """How far a trial is from meeting its hard SLOs: for each workload the least sum of excesses of its points.

    0 if they are met. What was not measured counts as missed by its whole limit.
    """
    gpus = gpu_count(record)
    least: dict[Any, float] = {}
    for point in record.get("workloads") or []:
        missed = 0.0
        for metric, limit in (slo or {}).items():
            if limit.get("hard"):
                value = metric_value(point.get("metrics") or {}, metric, gpus)
                missed += 1.0 if value is None else slo_excess(value, limit)
        least[point.get("name")] = min(missed, least.get(point.get("name"), math.inf))
    return sum(least.values())


def values_of(record: Mapping[str, Any]) -> list[float | None]:
    """The trial's value in each objective, with the penalties of soft SLOs where there is one objective only."""
    objective = record["objective"]
    also = objective.get("also") or []
    return [objective["value"], *(one["value"] for one in also)] if also else [score_of(record)]


def score_of(record: Mapping[str, Any]) -> float | None:
    """What a trial is ranked by: its score, or the value in a record of a preheat that knew no penalties."""
    objective = record.get("objective") or {}
    return number(objective.get("score", objective.get("value")))


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
