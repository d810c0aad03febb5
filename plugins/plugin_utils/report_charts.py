# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's charts, as Vega-Lite specifications made with Altair.

Text and lines take the page's colour (currentColor), so that one chart serves light, dark and print.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import report_front_charts, report_style
from ansible_collections.preheat.fleet.plugins.plugin_utils.records import PHASES

with contextlib.suppress(ImportError):  # named by sweep_report
    import altair
    import vl_convert


@functools.cache
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, so that the page needs no network."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def charts(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The specifications by the id of the element that shows them; what there is no data for is left out."""
    picture = model["picture"]
    workloads = list(dict.fromkeys(point["workload"] for point in picture["points"]))
    found = {
        f"picture-{index}": report_front_charts.throughput_over_latency(picture, workload, model["slo"])
        for index, workload in enumerate(workloads)
    }
    objective = (model["objective"] or {}).get("metric", "")
    if len(model["pareto_trials"]) > 1:
        found["objectives"] = report_front_charts.objectives(model)
    best = (model["best"] or {}).get("number")
    for index, effect in enumerate(model["effects"]):
        found[f"effect-{index}"] = parameter_effect(effect, objective, best)
    if model["savings"]["strategies"]:
        found["savings"] = savings_bars(model["savings"])
    if model["phases"]:
        found["phases"] = phase_bars(model["phases"])
    if len(model["hosts"]["hosts"]) > 1:
        found["hosts-launch"] = host_strip(model, "launch_seconds", "launch (s)")
        if objective:
            found["hosts-value"] = host_strip(model, "value", report_style.title(objective))
    return found


def phase_bars(phases: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the wall time of each trial went, in the phases' order."""
    rows = [row | {"order": PHASES.index(row["phase"])} for row in phases]
    trials = {row["trial"] for row in rows}
    present = [name for name in PHASES if any(row["phase"] == name for row in rows)]
    chart = (
        altair.Chart(altair.NamedData("rows"))
        .mark_bar(height={"band": 0.8})
        .encode(
            x=altair.X("seconds:Q", stack="zero", title="seconds", axis=altair.Axis(tickCount=12)),
            y=altair.Y("trial:O", title="trial", axis=altair.Axis(labelOverlap=True)),
            color=altair.Color(
                "phase:N",
                title=None,
                sort=present,
                scale=altair.Scale(
                    domain=present,
                    range=[report_style.PHASE_COLORS.get(name, report_style.OTHER_COLOR) for name in present],
                ),
                legend=altair.Legend(orient="top", columns=4, symbolType="square"),
            ),
            order=altair.Order("order:Q"),
            tooltip=["trial:O", "phase:N", altair.Tooltip("seconds:Q", format=".3~f")],
        )
        .properties(width="container", height=altair.Step(max(4, min(20, report_style.PHASES_HEIGHT / len(trials)))))
    )
    return report_style.finish(chart, rows=rows)


def parameter_effect(effect: Mapping[str, Any], objective: str, best: int | None) -> dict[str, Any]:
    """The objective of each trial by the value of one parameter, with the median of each value."""
    rows = [
        {
            "value": report_style.label(row["value"]),
            "trial": trial,
            "objective": value,
            "kind": "best trial" if trial == best else "other",
        }
        for row in effect["values"]
        for trial, value in zip(row["trials"], row["objectives"], strict=True)
    ]
    medians = [
        {"value": report_style.label(row["value"]), "median": row["median"], "trials": len(row["trials"])}
        for row in effect["values"]
    ]
    order = [row["value"] for row in medians]
    upright = {"labelAngle": 0, "labelAlign": "center"} if len(order) <= 6 else {"labelAngle": -40}
    x = altair.X(
        "value:N",
        title=effect["parameter"],
        sort=order,
        axis=altair.Axis(labelOverlap=True, labelLimit=110, **upright),
    )
    y = altair.Y(
        "objective:Q", title=report_style.title(objective), scale=altair.Scale(zero=False, nice=True, padding=8)
    )
    points = (
        altair.Chart(altair.NamedData("rows"))
        .mark_point(filled=True, size=45, opacity=0.8)
        .encode(
            x=x,
            y=y,
            color=altair.Color(
                "kind:N",
                scale=altair.Scale(
                    domain=list(report_style.EFFECT_COLORS), range=list(report_style.EFFECT_COLORS.values())
                ),
                legend=None,
            ),
            tooltip=["trial:O", "value:N", altair.Tooltip("objective:Q", title=objective, format=",.4~g")],
        )
    )
    base = altair.Chart(altair.NamedData("medians")).encode(x=altair.X("value:N", sort=order), y="median:Q")
    lines = base.mark_line(strokeWidth=1.5, opacity=0.5, color=report_style.EFFECT_COLORS["other"])
    ticks = base.mark_tick(thickness=2.5, size=24, color="currentColor").encode(
        tooltip=["value:N", altair.Tooltip("median:Q", format=",.4~g"), "trials:Q"]
    )
    return report_style.finish(
        altair.layer(lines, points, ticks).properties(width="container", height=190), rows=rows, medians=medians
    )


def savings_bars(savings: Mapping[str, Any]) -> dict[str, Any]:
    """The hours of each strategy: launching, fetches included, and measuring."""
    parts = {"launch_hours": "fetch and launch", "benchmark_hours": "benchmark"}
    rows = [
        {"strategy": row["text"], "part": text, "hours": row[part], "total": row["hours"], "order": place}
        for row in savings["strategies"]
        for place, (part, text) in enumerate(parts.items())
    ]
    order = [row["text"] for row in savings["strategies"]]
    y = altair.Y("strategy:N", title=None, sort=order, axis=altair.Axis(labelLimit=260))
    bars = (
        altair.Chart(altair.NamedData("rows"))
        .mark_bar(height={"band": 0.65})
        .encode(
            x=altair.X(
                "hours:Q",
                stack="zero",
                title=f"hours of {savings['experiments']} experiments",
                axis=altair.Axis(tickCount=8),
            ),
            y=y,
            color=altair.Color(
                "part:N",
                title=None,
                scale=altair.Scale(
                    domain=list(parts.values()),
                    range=[report_style.PHASE_COLORS["engine_start"], report_style.PHASE_COLORS["benchmark"]],
                ),
                legend=altair.Legend(orient="top", symbolType="square"),
            ),
            order="order:Q",
            tooltip=["strategy:N", "part:N", altair.Tooltip("hours:Q", format=".2f")],
        )
    )
    totals = [
        {"strategy": row["text"], "hours": row["hours"], "text": f"{row['hours']:.2f} h"}
        for row in savings["strategies"]
    ]
    text = (
        altair.Chart(altair.NamedData("totals"))
        .mark_text(align="left", dx=5, color="currentColor")
        .encode(x="hours:Q", y=altair.Y("strategy:N", sort=order), text="text:N")
    )
    return report_style.finish(
        altair.layer(bars, text).properties(width="container", height=altair.Step(30)), rows=rows, totals=totals
    )


def host_strip(model: Mapping[str, Any], field: str, title: str) -> dict[str, Any]:
    """One figure of every complete trial by host; the tick is the host's median."""
    rows = [
        {
            "host": "+".join(trial["hosts"]),
            "trial": trial["number"],
            "value": trial[field],
            "params": report_style.params(trial),
        }
        for trial in model["trials"]
        if trial["status"] == "complete" and trial[field] is not None and trial["hosts"]
    ]
    base = altair.Chart(altair.NamedData("rows")).encode(
        y=altair.Y("host:N", title=None, axis=altair.Axis(labelLimit=160))
    )
    points = base.mark_point(filled=True, size=45, opacity=0.6, color=report_style.KIND_COLORS["Pareto front"]).encode(
        x=altair.X(
            "value:Q",
            title=title,
            scale=altair.Scale(zero=False, nice=True, padding=8),
            axis=altair.Axis(tickCount=6, labelOverlap=True),
        ),
        tooltip=["host:N", "trial:O", altair.Tooltip("value:Q", title=title, format=",.4~g"), "params:N"],
    )
    ticks = base.mark_tick(thickness=2.5, size=20, color="currentColor").encode(x="median(value):Q")
    return report_style.finish(
        altair.layer(points, ticks).properties(width="container", height=altair.Step(30)), rows=rows
    )
