# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with a sweep's objective and with its SLOs. Pure functions on plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics
from ansible_collections.preheat.fleet.plugins.plugin_utils import goodput
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, did_you_mean, problem

DIRECTIONS = ("maximize", "minimize")
_EXAMPLE = "{ttft_p99_seconds: {max: 1.0, hard: true}}"


def check_objective(objective: Any) -> list[Problem]:
    """All that is wrong with ``sweep_objective``."""
    if not isinstance(objective, Mapping):
        remedy = "Give a mapping such as {metric: output_tokens_per_second_per_gpu, direction: maximize}."
        return [problem("sweep_objective", objective, "is not a mapping.", remedy)]
    found = _check_one("sweep_objective", objective, ("metric", "direction", "weight", "also"))
    also = objective.get("also") or []
    if not isinstance(also, list):
        remedy = "Give a list of further objectives such as [{metric: ttft_p99_seconds}]."
        return [*found, problem("sweep_objective.also", also, "is not a list.", remedy)]
    seen = [objective.get("metric")]
    for index, further in enumerate(also):
        variable = f"sweep_objective.also[{index}]"
        if not isinstance(further, Mapping):
            found.append(
                problem(variable, further, "is not a mapping.", "Give one such as {metric: ttft_p99_seconds}.")
            )
            continue
        found += _check_one(variable, further, ("metric", "direction", "weight"))
        if further.get("metric") in seen:
            remedy = "Name each metric once; a weight says how much it counts."
            found.append(problem(f"{variable}.metric", further["metric"], "is an objective already.", remedy))
        seen.append(further.get("metric"))
    return found


def _check_one(variable: str, objective: Mapping[str, Any], keys: tuple[str, ...]) -> list[Problem]:
    found = _unknown_keys(variable, objective, keys)
    metric, direction, weight = (objective.get(key) for key in ("metric", "direction", "weight"))
    found += _check_metric(f"{variable}.metric", metric)
    if weight is not None and (bench_metrics.number(weight) or 0) <= 0:
        found.append(problem(f"{variable}.weight", weight, "is not a weight.", "Give a number above 0."))
    if direction is None:
        return found
    if direction not in DIRECTIONS:
        remedy = f"Allowed: {', '.join(DIRECTIONS)}."
        found.append(problem(f"{variable}.direction", direction, "is not a direction.", remedy))
    elif not found:
        natural = bench_metrics.natural_direction(metric)
        if natural not in (None, direction):
            message = f"would make the trial with the worst {metric} the best."
            remedy = f"Use {natural}, or leave it out."
            found.append(problem(f"{variable}.direction", direction, message, remedy))
    return found


def check_goodput(objective: Mapping[str, Any], slo: Mapping[str, Any] | None) -> list[Problem]:
    """Goodput counts the requests that meet SLOs, so it wants one on a request's own times. Both are valid already."""
    named = [one["metric"] for one in (objective, *(objective.get("also") or []))] + list(slo or {})
    if goodput.request_limits(slo) or not any(name.startswith(bench_metrics.GOODPUT) for name in named):
        return []
    remedy = "Add one such as sweep_slo: {ttft_p99_seconds: {max: 1.0, weight: 0}}."
    return [problem("sweep_slo", slo, "has no max for TTFT, TPOT or E2E latency that goodput could count by.", remedy)]


def check_slo(slo: Any) -> list[Problem]:
    """All that is wrong with ``sweep_slo``."""
    if slo is None:
        return []
    if not isinstance(slo, Mapping):
        return [problem("sweep_slo", slo, "is not a mapping.", f"Give limits by metric, such as {_EXAMPLE}.")]
    found: list[Problem] = []
    for metric, limit in slo.items():
        variable = f"sweep_slo.{metric}"
        found += _check_metric(variable, metric)
        if isinstance(limit, Mapping):
            found += _check_limit(variable, limit)
        else:
            found.append(problem(variable, limit, "is not a mapping.", f"Give a limit such as {_EXAMPLE}."))
    return found


def _check_limit(variable: str, limit: Mapping[str, Any]) -> list[Problem]:
    found = _unknown_keys(variable, limit, ("max", "min", "hard", "weight"))
    bounds = {key: limit[key] for key in ("max", "min") if limit.get(key) is not None}
    if not bounds:
        found.append(problem(variable, dict(limit), "has no limit.", "Give max, min or both."))
    wrong = {key: value for key, value in bounds.items() if bench_metrics.number(value) is None or value < 0}
    remedy = "Give a number >= 0 in the unit that the metric's name ends with."
    found += [problem(f"{variable}.{key}", value, "is not a limit.", remedy) for key, value in wrong.items()]
    if len(bounds) == 2 and not wrong and bounds["min"] > bounds["max"]:
        found.append(problem(variable, dict(limit), "can never be met.", "Give a min that is at most max."))
    if not isinstance(limit.get("hard", False), bool):
        found.append(problem(f"{variable}.hard", limit["hard"], "is not a boolean.", "Give true or false."))
    weight = limit.get("weight")
    if weight is not None and (bench_metrics.number(weight) is None or weight < 0):
        remedy = "Give a number >= 0; 0 only reports."
        found.append(problem(f"{variable}.weight", weight, "is not a weight.", remedy))
    elif weight is not None and limit.get("hard") is True:
        remedy = "Remove hard or weight: what misses a hard limit cannot win at all."
        found.append(problem(f"{variable}.weight", weight, "weighs a hard limit.", remedy))
    return found


def _check_metric(variable: str, metric: Any) -> list[Problem]:
    if metric is None:
        return [problem(variable, metric, "is missing.", f"Known: {', '.join(bench_metrics.NAMES)}.")]
    if metric in bench_metrics.NAMES:
        return []
    return [problem(variable, metric, "names no metric.", did_you_mean(str(metric), bench_metrics.NAMES))]


def _unknown_keys(variable: str, given: Mapping[str, Any], known: tuple[str, ...]) -> list[Problem]:
    remedy = f"Allowed: {', '.join(known)}."
    return [problem(f"{variable}.{key}", given[key], "is not known.", remedy) for key in given if key not in known]
