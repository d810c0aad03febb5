# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the objective goes with each parameter of the search space."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.bench_metrics import number

Record = Mapping[str, Any]


def parameter_effects(trials: Iterable[Record]) -> list[dict[str, Any]]:
    """The parameters that took several values among trials that can win, the one that moves the objective most first.

    C(values) are in order with the median objective of their trials; C(effect) is the largest of these medians over the
    smallest, less one. In a full grid that is the parameter's own effect; a sampler that prefers good regions, or a
    grid with holes, mixes in those of the others.
    """
    scored = [
        (trial, value)
        for trial in trials
        if trial.get("eligible") is True
        and trial.get("kind") != "control"
        and (value := number((trial.get("objective") or {}).get("value")))
    ]
    effects = []
    for name in dict.fromkeys(name for trial, _value in scored for name in trial["params"]):
        by_value: dict[str, dict[str, Any]] = {}
        for trial, value in scored:
            if name not in trial["params"]:
                continue
            given = trial["params"][name]
            # As JSON: 1 and True are equal in Python, and a list cannot be a key.
            row = by_value.setdefault(json.dumps(given), {"value": given, "trials": [], "objectives": []})
            row["trials"].append(trial["number"])
            row["objectives"].append(value)
        if len(by_value) < 2:
            continue
        rows = sorted(by_value.values(), key=lambda row: _order(row["value"]))
        for row in rows:
            row["median"] = statistics.median(row["objectives"])
        medians = [row["median"] for row in rows]
        effects.append({"parameter": name, "values": rows, "effect": max(medians) / min(medians) - 1})
    return sorted(effects, key=lambda item: (-item["effect"], item["parameter"]))


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then all else by its text."""
    size = number(value)
    return (0, size, "") if size is not None else (1, 0.0, json.dumps(value))
