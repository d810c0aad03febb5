# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How sure a ranking is: the noise of a score, confidence intervals, the trials that tie with the best, the hosts.

All in logarithms of scores, so that differences are ratios. Noise is known from two sources, of which the larger one
counts: the repeats on each launch (pooled over trials), and the same configuration launched again, on every host and
over time (the baseline and its controls). The first knows nothing of what differs from launch to launch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.preheat.fleet.plugins.plugin_utils import scoring

Record = Mapping[str, Any]

CONFIDENCE = 0.95
# A host is flagged whose controls are worse than the other hosts' by more than this and by more than the noise.
BAD_HOST = 0.05


class Noise(NamedTuple):
    """The variance of the logarithm of a trial's score, its degrees of freedom and where they come from."""

    variance: float
    freedom: int
    source: str


def assess(trials: Iterable[Record], ranking: list[dict[str, Any]], maximise: bool) -> dict[str, Any]:
    """What the report says: C({confidence, noise, tie_group, intervals, hosts, spread}).

    C(noise) is the half width of an interval as a fraction, or None where nothing was measured twice. C(tie_group) are
    the numbers of the trials that the best one cannot be told from, itself first; one number alone is a winner.
    """
    trials = list(trials)
    noise = noise_of(trials)
    width = _width(noise, comparisons=1) if noise else None
    return {
        "confidence": CONFIDENCE,
        "noise": None if width is None else math.expm1(width),
        "noise_source": noise.source if noise else None,
        "tie_group": tie_group(ranking, noise),
        "intervals": {
            str(item["number"]): [item["score"] * math.exp(-width), item["score"] * math.exp(width)]
            for item in ranking
            if width is not None and item["score"] > 0
        },
        **hosts_of_controls(trials, maximise),
    }


def noise_of(trials: Iterable[Record]) -> Noise | None:
    trials = [trial for trial in trials if trial.get("eligible") is True]
    found = []
    repeated = [logs for trial in trials if len(logs := _logs(trial)) > 1]
    if freedom := sum(len(logs) - 1 for logs in repeated):
        squares = sum(statistics.variance(logs) * (len(logs) - 1) for logs in repeated)
        fewest = min(len(logs) for logs in repeated)
        found.append(Noise(squares / freedom / fewest, freedom, "repeats on a launch"))
    again = [statistics.fmean(logs) for trial in trials if _is_control(trial) and (logs := _logs(trial))]
    if len(again) > 1:
        found.append(Noise(statistics.variance(again), len(again) - 1, "the baseline launched again"))
    return max(found, key=lambda noise: _width(noise, comparisons=1), default=None)


def tie_group(ranking: list[dict[str, Any]], noise: Noise | None) -> list[int]:
    """The best trial and those whose difference from it is within the noise, best first.

    A t-test of each against the best, by Bonferroni's correction for their number: the best of many is the luckiest of
    many. Without noise only equal scores tie.
    """
    if not ranking:
        return []
    best = ranking[0]
    if noise is None or best["score"] <= 0:
        return [item["number"] for item in ranking if item["score"] == best["score"]]
    least = math.sqrt(2) * _width(noise, comparisons=max(1, len(ranking) - 1))
    return [
        item["number"]
        for item in ranking
        if item["score"] == best["score"]
        or (item["score"] > 0 and abs(math.log(item["score"] / best["score"])) <= least)
    ]


def hosts_of_controls(trials: Iterable[Record], maximise: bool) -> dict[str, Any]:
    """C(hosts): for each host C({host, launches, score, drift, behind, flagged}) of the baseline's launches there.

    C(drift) is last / first - 1 over time, C(behind) how much worse the host is than the median of the others;
    C(spread) is best host / worst host - 1.
    """
    by_host: dict[str, list[Record]] = {}
    for trial in sorted(trials, key=lambda trial: trial.get("start") or 0.0):
        members = (trial.get("slot") or {}).get("members") or []
        if _is_control(trial) and trial.get("eligible") is True and (scoring.score_of(trial) or 0) > 0 and members:
            by_host.setdefault("+".join(member["host"] for member in members), []).append(trial)
    logs = {host: [statistics.fmean(_logs(trial)) for trial in launches] for host, launches in by_host.items()}
    means = {host: statistics.fmean(values) for host, values in logs.items()}
    within = [(value - means[host]) ** 2 for host, values in logs.items() for value in values]
    freedom = sum(len(values) - 1 for values in logs.values())
    rows = []
    for host, values in sorted(logs.items()):
        others = [mean for other, mean in means.items() if other != host]
        behind = None
        if others:
            gap = (statistics.median(others) - means[host]) * (1 if maximise else -1)
            behind = math.expm1(gap) if gap > 0 else 0.0
        noise = _width(Noise(sum(within) / freedom / len(values), freedom, ""), 1) if freedom else 0.0
        flagged = behind is not None and behind > BAD_HOST and math.log1p(behind) > noise
        rows.append(
            {
                "host": host,
                "launches": len(values),
                "score": math.exp(means[host]),
                "drift": math.expm1(values[-1] - values[0]) if len(values) > 1 else None,
                "behind": behind,
                "flagged": flagged,
            }
        )
    spread = math.expm1(max(means.values()) - min(means.values())) if len(means) > 1 else None
    return {"hosts": rows, "spread": spread}


def lines(found: Mapping[str, Any]) -> list[str]:
    """What a reader must know before trusting the ranking, in a line each."""
    said = []
    group = found["tie_group"]
    if len(group) > 1 and found["noise"] is not None:
        told = ", ".join(map(str, group[1:]))
        said.append(f"no clear winner: trial {group[0]} cannot be told from {told} (noise {found['noise']:.1%})")
    for host in found["hosts"]:
        if host["flagged"]:
            said.append(f"host {host['host']} is {host['behind']:.1%} behind the others on the baseline: look at it")
    return said


def t_quantile(probability: float, freedom: int) -> float:
    """Student's t for a probability above 0.5, by bisection of its distribution function.

    F(t) = 1/2 + c * integral of cos(x)^(freedom - 1) from 0 to atan(t / sqrt(freedom)), by Simpson's rule.
    """
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)

    def below(angle: float) -> float:
        step = angle / 400
        inner = sum((4 if i % 2 else 2) * math.cos(i * step) ** (freedom - 1) for i in range(1, 400))
        return 0.5 + constant * step / 3 * (1 + inner + math.cos(angle) ** (freedom - 1))

    low, high = 0.0, math.pi / 2
    for _step in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < probability else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _width(noise: Noise, comparisons: int) -> float:
    """The half width of an interval in logarithms."""
    return t_quantile(1 - (1 - CONFIDENCE) / 2 / comparisons, noise.freedom) * math.sqrt(noise.variance)


def _is_control(trial: Record) -> bool:
    return trial.get("kind") in ("baseline", "control")


def _logs(trial: Record) -> list[float]:
    objective = trial.get("objective") or {}
    samples = objective.get("samples") or [scoring.score_of(trial)]
    return [math.log(score) for score in samples if score and score > 0]
