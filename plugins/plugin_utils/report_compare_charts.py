# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The charts of a comparison of sweeps, as Vega-Lite specifications made with Altair."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import report_style

with contextlib.suppress(ImportError):  # named by sweep_report
    import altair


def charts(facts: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The specifications of a comparison by id: the best values, and for each workload the sweeps' Pareto fronts."""
    found = {}
    valued = [row for row in facts["sweeps"] if row["value"] is not None]
    if facts["comparable"] and valued:
        rows = [{"sweep": row["sweep"], "value": row["value"], "trial": row["number"]} for row in valued]
        found["best-values"] = best_values(rows, report_style.title(valued[0]["objective"]["metric"]))
    axes = {(model["picture"]["latency"], model["picture"]["throughput"]) for model in models}
    if len(axes) != 1:
        return found
    points = [
        point | {"sweep": row["sweep"]}
        for row, model in zip(facts["sweeps"], models, strict=True)
        for point in model["picture"]["points"]
        if point["pareto"] and point["slo_met"]
    ]
    for index, workload in enumerate(dict.fromkeys(point["workload"] for point in points)):
        own = [point for point in points if point["workload"] == workload]
        found[f"front-{index}"] = fronts(own, workload, models[0]["picture"])
    return found


def best_values(rows: list[dict[str, Any]], title: str) -> dict[str, Any]:
    order = [row["sweep"] for row in rows]
    base = altair.Chart(altair.NamedData("rows")).encode(
        y=altair.Y("sweep:N", title=None, sort=order, axis=altair.Axis(labelLimit=260)),
        x=altair.X("value:Q", title=title, axis=altair.Axis(tickCount=8)),
    )
    bars = base.mark_bar(height={"band": 0.65}, color=report_style.KIND_COLORS["Pareto front"])
    text = base.mark_text(align="left", dx=5, color="currentColor").encode(text=altair.Text("value:Q", format=",.4~g"))
    return report_style.finish(
        altair.layer(bars, text).properties(width="container", height=altair.Step(30)), rows=rows
    )


def fronts(points: list[dict[str, Any]], workload: str, picture: Mapping[str, Any]) -> dict[str, Any]:
    """The Pareto front of each sweep for one workload."""
    base = altair.Chart(altair.NamedData("points")).encode(
        x=altair.X(
            "latency:Q",
            title=report_style.title(picture["latency"]),
            scale=altair.Scale(type="log", nice=False, padding=14),
            axis=altair.Axis(labelSeparation=8),
        ),
        y=altair.Y("throughput:Q", title=report_style.title(picture["throughput"]), scale=altair.Scale(nice=True)),
        color=altair.Color(
            "sweep:N", title=None, sort=None, scale=altair.Scale(scheme="tableau10"), legend=altair.Legend(orient="top")
        ),
        tooltip=["sweep:N", "trial:O", "point:N", "params:N", "throughput:Q", "latency:Q"],
    )
    layers = base.mark_line(strokeWidth=1.5, opacity=0.6), base.mark_point(filled=True, size=60)
    return report_style.finish(
        altair.layer(*layers).properties(width="container", height=320, title=f"Workload {workload}"), points=points
    )
