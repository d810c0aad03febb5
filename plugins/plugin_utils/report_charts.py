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

from ansible_collections.preheat.fleet.plugins.plugin_utils.records import PHASES

with contextlib.suppress(ImportError):  # named by sweep_report
    import altair
    import vl_convert

# One colour for each phase, the same in every report: blues fetch, oranges and reds start the engine, green measures.
_PHASE_COLORS = {
    "model_fetch": "#4c78a8",
    "image_pull": "#7fa6cf",
    "container_create": "#b9a0cf",
    "engine_start": "#e0913a",
    "weights_load": "#d65f4d",
    "kv_cache": "#e8a79b",
    "graph_capture": "#b5518a",
    "server_warmup": "#dba1c4",
    "ready": "#e3c858",
    "benchmark": "#4f9d69",
    "teardown": "#8c8c8c",
    "unattributed": "#c4c4c4",
}
_KIND_COLORS = {"best trial": "#e0632a", "Pareto front": "#3f7fbf", "other": "#9aa5b1", "over a hard SLO": "#c7a0a0"}


@functools.cache
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, so that the page needs no network."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def charts(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The specifications by the id of the element that shows them; what there is no data for is left out."""
    picture = model["picture"]
    workloads = list(dict.fromkeys(point["workload"] for point in picture["points"]))
    found = {
        f"picture-{index}": throughput_over_latency(picture, workload, model["slo"])
        for index, workload in enumerate(workloads)
    }
    if model["phases"]:
        found["phases"] = phase_bars(model["phases"])
    return found


def throughput_over_latency(
    picture: Mapping[str, Any], workload: str, slo: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The points of one workload; a thin line joins those of a trial, a thick one those that no other beats."""
    points = [point | {"kind": _kind(point)} for point in picture["points"] if point["workload"] == workload]
    x = altair.X("latency:Q", title=_title(picture["latency"]), scale=altair.Scale(type="log", nice=False, padding=14))
    y = altair.Y("throughput:Q", title=_title(picture["throughput"]), scale=altair.Scale(zero=True, nice=True))
    tooltip = [
        altair.Tooltip("trial:O"),
        altair.Tooltip("point:N"),
        altair.Tooltip("params:N"),
        altair.Tooltip("throughput:Q", title=picture["throughput"], format=",.4~g"),
        altair.Tooltip("latency:Q", title=picture["latency"], format=".4~g"),
        altair.Tooltip("kind:N"),
        altair.Tooltip("failed_requests:Q"),
    ]
    kinds = [kind for kind in _KIND_COLORS if any(point["kind"] == kind for point in points)]
    color = altair.Color(
        "kind:N",
        title=None,
        scale=altair.Scale(domain=kinds, range=[_KIND_COLORS[kind] for kind in kinds]),
        legend=altair.Legend(orient="top"),
    )
    base = altair.Chart(altair.Data(values=points)).encode(x=x, y=y)
    layers: list[altair.Chart] = [
        base.mark_line(strokeWidth=1, opacity=0.3, color="#9aa5b1").encode(detail="trial:N", order="load:Q"),
        base.transform_filter("datum.pareto").mark_line(strokeWidth=2, color=_KIND_COLORS["Pareto front"], opacity=0.8),
        base.mark_point(filled=True, size=70, opacity=0.95).encode(color=color, tooltip=tooltip),
        base.transform_filter("datum.pareto")
        .mark_text(dy=-10, fontSize=10, color="currentColor")
        .encode(text="trial:N"),
    ]
    limit = (slo.get(picture["latency"]) or {}).get("max")
    # A limit far from every point would only squeeze them together.
    if limit and limit <= 4 * max(point["latency"] for point in points):
        rule = altair.Chart(altair.Data(values=[{"limit": limit}])).mark_rule(strokeDash=[5, 4], color="#c0504d")
        layers.append(rule.encode(x="limit:Q", tooltip=[altair.Tooltip("limit:Q", title=f"SLO {picture['latency']}")]))
    chart = altair.layer(*layers).properties(width="container", height=320, title=f"Workload {workload}")
    return _finish(chart)


def phase_bars(phases: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the wall time of each trial went, in the phases' order."""
    rows = [row | {"order": PHASES.index(row["phase"])} for row in phases]
    present = [name for name in PHASES if any(row["phase"] == name for row in rows)]
    chart = (
        altair.Chart(altair.Data(values=rows))
        .mark_bar(height={"band": 0.8})
        .encode(
            x=altair.X("seconds:Q", stack="zero", title="seconds", axis=altair.Axis(tickCount=12)),
            y=altair.Y("trial:O", title="trial"),
            color=altair.Color(
                "phase:N",
                title=None,
                sort=present,
                scale=altair.Scale(domain=present, range=[_PHASE_COLORS[name] for name in present]),
                legend=altair.Legend(orient="top", columns=4, symbolType="square"),
            ),
            order=altair.Order("order:Q"),
            tooltip=["trial:O", "phase:N", altair.Tooltip("seconds:Q", format=".3~f")],
        )
        .properties(width="container", height=altair.Step(20))
    )
    return _finish(chart)


def _finish(chart: altair.TopLevelMixin) -> dict[str, Any]:
    styled = (
        chart.configure(background="transparent", font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="currentColor",
            titleColor="currentColor",
            titleFontWeight="normal",
            gridColor="currentColor",
            gridOpacity=0.12,
            domainColor="currentColor",
            domainOpacity=0.4,
            tickColor="currentColor",
            tickOpacity=0.4,
        )
        .configure_legend(labelColor="currentColor", titleColor="currentColor")
        .configure_title(color="currentColor", anchor="start", fontSize=13)
    )
    return styled.to_dict()


def _kind(point: Mapping[str, Any]) -> str:
    if not point["slo_met"]:
        return "over a hard SLO"
    if point["best"]:
        return "best trial"
    return "Pareto front" if point["pareto"] else "other"


def _title(metric: str) -> str:
    """C(ttft_p99_seconds) as C(TTFT p99 (s)), C(output_tokens_per_second_per_gpu) as it reads."""
    if metric.endswith("_seconds"):
        kind, *statistic = metric.removesuffix("_seconds").split("_")
        return f"{' '.join([kind.upper(), *statistic])} (s)"
    return metric.replace("_per_", " / ").replace("_", " ")
