# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several sweeps beside each other: their best configurations, Pareto fronts and launches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, report_pages

NAME = "comparison"


def compare(sweeps: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    """The facts of the comparison. C(sweeps) has the model and the plan of each by the name of its folder.

    Values are compared, and C(ratio), best value / best value of the first sweep, is there, only if all sweeps have the
    same objective and the same workloads.
    """
    asked = [(model["objective"], _workloads(plan)) for model, plan in sweeps.values()]
    comparable = asked[0][0] is not None and all(other == asked[0] for other in asked)
    rows = [_row(name, model, plan) for name, (model, plan) in sweeps.items()]
    first = rows[0]["value"]
    for row in rows:
        row["ratio"] = row["value"] / first if comparable and first and row["value"] else None
    return {"schema_version": 1, "comparable": comparable, "sweeps": rows}


def contents(
    facts: Mapping[str, Any], sweeps: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> dict[str, str]:
    """The text of every file by name."""
    # Altair takes a second to import.
    from ansible_collections.preheat.fleet.plugins.plugin_utils import report_charts, report_compare_charts

    charts = report_compare_charts.charts(facts, [model for model, _plan in sweeps.values()])
    fronts = [name for name in charts if name.startswith("front-")]
    return {
        f"{NAME}.json": json.dumps(records.finite(facts), indent=1, allow_nan=False) + "\n",
        f"{NAME}.md": report_pages.render(f"{NAME}.md.j2", **facts),
        f"{NAME}.html": report_pages.render(
            f"{NAME}.html.j2", **facts, charts=charts, front_ids=fronts, bundle=report_charts.bundle()
        ),
    }


def _row(name: str, model: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    best = model["best"] or {}
    return {
        "sweep": name,
        "report": f"{name}/report.html",
        "model": (plan.get("model") or best.get("model") or {}).get("repo_id"),
        "image": plan.get("image") or (best.get("image") or {}).get("name"),
        "gpus": best.get("gpu_names") or [],
        "objective": model["objective"],
        "number": best.get("number"),
        "value": best.get("value"),
        "gain": best.get("gain"),
        "params": best.get("params") or {},
        "counts": model["counts"],
        "cache": model["cache"],
    }


def _workloads(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What makes two workloads the same one."""
    keys = ("name", "input_tokens", "output_tokens", "concurrency", "request_rate", "num_prompts", "find_max",
            "dataset", "dataset_sha256", "range_ratio", "shared_prefix")  # fmt: skip
    return [{key: workload.get(key) for key in keys} for workload in plan.get("workloads") or []]
