# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throughput against latency: every measured workload point, and which of them no other beats."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics
from ansible_collections.preheat.fleet.plugins.plugin_utils import scoring

# The latency on the picture's axis, unless an SLO or the objective names another.
_LATENCY = "ttft_p99_seconds"


def picture(
    plan: Mapping[str, Any],
    trials: Iterable[Mapping[str, Any]],
    objective: Mapping[str, Any] | None,
    ranking: list[dict[str, Any]],
) -> dict[str, Any]:
    """C({latency, throughput, points}): two metrics, and the workload points for which both were measured."""
    named = [metric for metric in (plan.get("slo") or {}) if metric in bench_metrics.LATENCY_METRICS]
    metric = (objective or {}).get("metric", "")
    if metric in bench_metrics.LATENCY_METRICS:
        named.insert(0, metric)
    latency = named[0] if named else _LATENCY
    throughput = metric if "_per_second" in metric else "output_tokens_per_second_per_gpu"
    points = []
    for trial in trials:
        gpus = scoring.gpu_count(trial)
        broken = {verdict["point"] for verdict in trial.get("slo") or [] if verdict["hard"] and not verdict["met"]}
        for label, repeats in _repeats(trial).items():
            place = {"latency": _median(repeats, latency, gpus), "throughput": _median(repeats, throughput, gpus)}
            if any(value is None or value <= 0 for value in place.values()):
                continue
            first = repeats[0]
            points.append(
                place
                | {
                    "trial": trial["number"],
                    "workload": first.get("name"),
                    "point": label,
                    "load": first.get("concurrency") or first.get("request_rate") or 0,
                    "params": ", ".join(f"{name}={value}" for name, value in trial["params"].items()),
                    "failed_requests": sum((point.get("requests") or {}).get("failed") or 0 for point in repeats),
                    "slo_met": not any(point.get("point") in broken for point in repeats),
                    "best": bool(ranking) and trial["number"] == ranking[0]["number"],
                }
            )
    return {"latency": latency, "throughput": throughput, "points": mark_front(points)}


def mark_front(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each point with C(pareto): no point of the same workload is better in one and at least as good in the other."""
    front: set[int] = set()
    for workload in {point["workload"] for point in points}:
        served = [
            index
            for index, point in enumerate(points)
            if point["workload"] == workload and not point["failed_requests"]
        ]
        # By latency, the highest throughput first: what is not above all points before it is beaten by one of them,
        # unless it is that one's equal in both.
        served.sort(key=lambda index: (points[index]["latency"], -points[index]["throughput"]))
        reached: tuple[float, float] | None = None
        for index in served:
            place = points[index]["throughput"], points[index]["latency"]
            if reached is None or place[0] > reached[0] or place == reached:
                reached = place
                front.add(index)
    return [point | {"pareto": index in front} for index, point in enumerate(points)]


def _repeats(trial: Mapping[str, Any]) -> dict[Any, list[Mapping[str, Any]]]:
    """The measurements of each workload point."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for point in trial["workloads"]:
        found.setdefault(scoring.unrepeated(point.get("point")), []).append(point)
    return found


def _median(repeats: list[Mapping[str, Any]], metric: str, gpus: int) -> float | None:
    """Over the repeats of a point; None unless all of them measured it."""
    values = [scoring.metric_value(point.get("metrics") or {}, metric, gpus) for point in repeats]
    return None if None in values else statistics.median(value for value in values if value is not None)
