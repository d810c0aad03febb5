# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The largest load that meets limits: doubling, then bisection. Pure functions on what was measured so far.

Latency grows with the load, but one measurement can say otherwise: something else ran on the host, or a kernel was
compiled. So no single failure bounds the search, and no single success is the answer. A load that fails is measured
again, the answer too, and of two measurements that disagree a third decides. The answer is the largest load that
meets the limits with every smaller one that was measured; what lies above the least load that fails is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

OVER = ("concurrency", "request_rate")
# A probe is a load and whether it met every limit.
Probes = Iterable[tuple[float, bool]]


def next_load(probes: Probes, spec: Mapping[str, Any]) -> float | None:
    """The load to measure next, or None when the answer is known or ``max_probes`` are spent.

    ``spec``: ``{over, low, high, tolerance, max_probes}``. The gap between the answer and the least load that fails is
    at most ``tolerance`` of the answer, or 1 where the load is a concurrency.
    """
    found = _Verdicts(probes)
    if found.count >= spec["max_probes"]:
        return None
    if found.undecided is not None:
        return found.undecided
    if not found.count:
        return spec["low"]
    if found.met is None:
        return None
    doubled = min(2 * found.met, spec["high"])
    following = doubled if found.failed is None else _between(found.met, found.failed, spec)
    return following if following > found.met or not found.confirmed else None


def outcome(probes: Probes, spec: Mapping[str, Any]) -> dict[str, Any]:
    """``{over, value, limit, confirmed, consistent}`` of a search that has ended.

    ``value`` is None if not even ``low`` meets the limits. ``limit`` says what ended the search: ``slo``, ``low``,
    ``high`` (the server may bear more than was asked for) or ``max_probes``. ``confirmed``: the answer met the limits
    twice. ``consistent``: all measurements of each load agree.
    """
    probes = list(probes)
    found = _Verdicts(probes)
    if found.failed is not None and found.met is None:
        limit = "low"
    elif found.met is None or not found.confirmed or found.undecided is not None:
        limit = "max_probes"
    elif found.failed is None:
        limit = "high" if found.met == spec["high"] else "max_probes"
    else:
        limit = "slo" if _between(found.met, found.failed, spec) == found.met else "max_probes"
    return {
        "over": spec["over"],
        "value": found.met,
        "limit": limit,
        "confirmed": found.confirmed,
        "consistent": all(len({met for other, met in probes if other == load}) == 1 for load, _met in probes),
    }


class _Verdicts:
    """``failed``: the least load that failed twice. ``met``: the largest below it that met the limits."""

    def __init__(self, probes: Probes) -> None:
        counts: dict[float, list[int]] = {}
        for load, met in probes:
            counts.setdefault(load, [0, 0])[met] += 1
        self.count = sum(map(sum, counts.values()))
        self.failed = min((load for load, (failed, met) in counts.items() if failed >= 2), default=None)
        below = {load: numbers for load, numbers in counts.items() if self.failed is None or load < self.failed}
        doubtful = [load for load, (failed, met) in below.items() if failed == 1 and met < 2]
        self.undecided = min(doubtful, default=None)
        self.met = max((load for load in below if load not in doubtful), default=None)
        self.confirmed = self.met is not None and below[self.met][1] >= 2


def _between(met: float, failed: float, spec: Mapping[str, Any]) -> float:
    """The load to try between two, or ``met`` where they are near enough."""
    if spec["over"] == "concurrency":
        near = failed - met <= max(1, spec["tolerance"] * met)
        return met if near else (met + failed) // 2
    # Three digits are enough for a rate; where they are not, the gap is small.
    middle = float(f"{(met + failed) / 2:.3g}")
    return middle if failed - met > spec["tolerance"] * met and met < middle < failed else met
