# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The charts with a Pareto front: throughput against latency, and one objective against another."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import report_style

with contextlib.suppress(ImportError):  # named by sweep_report
    import altair

# The lines of more trials would cover each other and the points.
_JOINED_TRIALS = 60


def throughput_over_latency(
    picture: Mapping[str, Any], workload: str, slo: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The points of one workload; a thin line joins those of a trial, a thick one those that no other beats."""
    points = [point | {"kind": _kind(point)} for point in picture["points"] if point["workload"] == workload]
    points.sort(key=lambda point: (point["pareto"], point["best"]))  # what matters is drawn last, over the rest
    labels = _apart([point for point in points if point["pareto"]], points)
    x = altair.X(
        "latency:Q",
        title=report_style.title(picture["latency"]),
        scale=altair.Scale(type="log", nice=False, padding=14),
        axis=altair.Axis(labelSeparation=8),
    )
    y = altair.Y(
        "throughput:Q", title=report_style.title(picture["throughput"]), scale=altair.Scale(zero=True, nice=True)
    )
    tooltip = [
        altair.Tooltip("trial:O"),
        altair.Tooltip("point:N"),
        altair.Tooltip("params:N"),
        altair.Tooltip("throughput:Q", title=picture["throughput"], format=",.4~g"),
        altair.Tooltip("latency:Q", title=picture["latency"], format=".4~g"),
        altair.Tooltip("kind:N"),
        altair.Tooltip("failed_requests:Q"),
    ]
    base = altair.Chart(altair.NamedData("points")).encode(x=x, y=y)
    joined = "true" if len({point["trial"] for point in points}) <= _JOINED_TRIALS else "datum.best"
    layers: list[altair.Chart] = [
        base.transform_filter(joined)
        .mark_line(strokeWidth=1, opacity=0.3, color="#9aa5b1")
        .encode(detail="trial:N", order="load:Q"),
        base.transform_filter("datum.pareto").mark_line(
            strokeWidth=2, color=report_style.KIND_COLORS["Pareto front"], opacity=0.8
        ),
        base.mark_point(filled=True, size=70, opacity=0.95).encode(color=_kind_color(points), tooltip=tooltip),
        altair.Chart(altair.NamedData("labels"))
        .mark_text(dy=-10, fontSize=10, color="currentColor")
        .encode(x=x, y=y, text="trial:N"),
    ]
    limit = (slo.get(picture["latency"]) or {}).get("max")
    # A limit far from every point would only squeeze them together.
    limits = [{"limit": limit}] if limit and limit <= 4 * max(point["latency"] for point in points) else []
    if limits:
        rule = altair.Chart(altair.NamedData("limits")).mark_rule(strokeDash=[5, 4], color="#c0504d")
        layers.append(rule.encode(x="limit:Q", tooltip=[altair.Tooltip("limit:Q", title=f"SLO {picture['latency']}")]))
    chart = altair.layer(*layers).properties(width="container", height=320, title=f"Workload {workload}")
    return report_style.finish(chart, points=points, labels=labels, limits=limits)


def objectives(model: Mapping[str, Any]) -> dict[str, Any]:
    """The trials by their first two objectives; a line joins those of the Pareto front of all objectives."""
    first, second = model["objective"], model["objective"]["also"][0]
    front = model["pareto_trials"]
    rows = [
        {
            "trial": trial["number"],
            "first": trial["value"],
            "second": trial["also"][0],
            "params": report_style.params(trial),
            "pareto": trial["number"] in front,
            "kind": _kind({"slo_met": True, "best": trial["rank"] == 1, "pareto": trial["number"] in front}),
        }
        for trial in model["trials"]
        if trial["eligible"] and trial["value"] is not None and trial["kind"] != "control"
    ]
    rows.sort(key=lambda row: (row["pareto"], row["kind"] == "best trial"))
    scale = altair.Scale(zero=False, nice=True, padding=10)
    base = altair.Chart(altair.NamedData("rows")).encode(
        x=altair.X("second:Q", title=report_style.title(second["metric"]), scale=scale),
        y=altair.Y("first:Q", title=report_style.title(first["metric"]), scale=scale),
    )
    layers = [
        base.transform_filter("datum.pareto").mark_line(strokeWidth=2, color=report_style.KIND_COLORS["Pareto front"]),
        base.mark_point(filled=True, size=70, opacity=0.95).encode(
            color=_kind_color(rows),
            tooltip=[
                altair.Tooltip("trial:O"),
                altair.Tooltip("first:Q", title=first["metric"], format=",.4~g"),
                altair.Tooltip("second:Q", title=second["metric"], format=",.4~g"),
                altair.Tooltip("params:N"),
            ],
        ),
    ]
    return report_style.finish(altair.layer(*layers).properties(width="container", height=300), rows=rows)


def _kind_color(rows: list[dict[str, Any]]) -> altair.Color:
    """The colours of the kinds that are there."""
    kinds = [kind for kind in report_style.KIND_COLORS if any(row["kind"] == kind for row in rows)]
    return altair.Color(
        "kind:N",
        title=None,
        scale=altair.Scale(domain=kinds, range=[report_style.KIND_COLORS[kind] for kind in kinds]),
        legend=altair.Legend(orient="top"),
    )


def _apart(front: list[dict[str, Any]], points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points of a front whose numbers do not lie over each other; with all of them none could be read."""
    latencies = [math.log(point["latency"]) for point in points]
    width = (max(latencies) - min(latencies)) or 1.0
    height = max(point["throughput"] for point in points)
    apart: list[dict[str, Any]] = []
    # A number takes about 7 % of the chart's width and 5 % of its height.
    for point in sorted(front, key=lambda point: (not point["best"], point["latency"])):
        if all(
            abs(math.log(point["latency"] / other["latency"])) > 0.07 * width
            or abs(point["throughput"] - other["throughput"]) > 0.05 * height
            for other in apart
        ):
            apart.append(point)
    return apart


def _kind(point: Mapping[str, Any]) -> str:
    if not point["slo_met"]:
        return "over a hard SLO"
    if point["best"]:
        return "best trial"
    return "Pareto front" if point["pareto"] else "other"
