# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all charts of a report have in common: colours, and how metrics and values read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair

# One colour for each phase, the same in every report: blues fetch, oranges and reds start the engine, green measures.
PHASE_COLORS = {
    "model_fetch": "#4c78a8",
    "weights_preload": "#2f8fa3",
    "launching": "#c9bfa8",
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
OTHER_COLOR = "#9d9da1"  # of a phase that has none of its own
# Bars of many trials get thin before the chart gets higher than this.
PHASES_HEIGHT = 1200
EFFECT_COLORS = {"best trial": "#e0632a", "other": "#3f7fbf"}
KIND_COLORS = {"best trial": "#e0632a", "Pareto front": "#3f7fbf", "other": "#9aa5b1", "over a hard SLO": "#c7a0a0"}


def finish(chart: altair.TopLevelMixin, **datasets: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The specification of a chart that names its C(datasets).

    They are joined to it here: Altair would copy and check every row of what is given as values, for seconds.
    """
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
    rows = {name: [_short(row) for row in data] for name, data in datasets.items()}
    return styled.to_dict() | {"datasets": rows}


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """Six digits are more than a chart shows."""
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}


def label(value: Any) -> str:
    """A parameter's value as it is read."""
    return value if isinstance(value, str) else json.dumps(value)


def title(metric: str) -> str:
    """C(ttft_p99_seconds) as C(TTFT p99 (s)), C(output_tokens_per_second_per_gpu) as it reads."""
    if metric.endswith("_seconds"):
        kind, *statistic = metric.removesuffix("_seconds").split("_")
        return f"{' '.join([kind.upper(), *statistic])} (s)"
    return metric.replace("_per_", " / ").replace("_", " ")


def params(trial: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={label(value)}" for name, value in trial["params"].items())
