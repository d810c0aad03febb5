# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A trial's place among the others. Only what scoring found eligible has one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.bench_metrics import number
from ansible_collections.preheat.fleet.plugins.plugin_utils import scoring


def rank(records: Iterable[Mapping[str, Any]], direction: str) -> list[dict[str, Any]]:
    """The eligible trials, best score first: C({rank, number, value, score, tied_with, record}).

    Equal scores go by the lower trial number, and C(tied_with) names the trials of the same score. Control trials
    measure hosts; they are not ranked.
    """
    sign = -1 if direction == "maximize" else 1
    scored = [(scoring.score_of(record), record) for record in records if record.get("eligible") is True]
    eligible = [
        (score, record)
        for score, record in scored
        if score is not None and _value(record) is not None and record.get("kind") != "control"
    ]
    eligible.sort(key=lambda item: (sign * item[0], item[1]["number"]))
    return [
        {
            "rank": place,
            "number": record["number"],
            "value": _value(record),
            "score": score,
            "tied_with": [other["number"] for same, other in eligible if same == score and other is not record],
            "record": record,
        }
        for place, (score, record) in enumerate(eligible, start=1)
    ]


def pareto(records: Iterable[Mapping[str, Any]]) -> list[int]:
    """The numbers of the eligible trials that no other is at least as good as in every objective and better in one."""
    found = [(record["number"], _gains(record)) for record in records if record.get("eligible") is True]
    return [
        number
        for number, gains in found
        if not any(other != gains and all(o >= g for o, g in zip(other, gains, strict=True)) for _n, other in found)
    ]


def _gains(record: Mapping[str, Any]) -> list[float]:
    """The values of all objectives, signed so that more is better."""
    objective = record["objective"]
    every = [objective, *(objective.get("also") or [])]
    return [one["value"] * (1 if one["direction"] == "maximize" else -1) for one in every]


def _value(record: Mapping[str, Any]) -> float | None:
    return number((record.get("objective") or {}).get("value"))
