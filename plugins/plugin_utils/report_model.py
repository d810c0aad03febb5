# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says: the facts of a sweep, computed from its plan and its records alone.

The same records give the same model, so that a report that is built again is the same report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics
from ansible_collections.preheat.fleet.plugins.plugin_utils import records as trial_records
from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    report_effects,
    report_launches,
    report_picture,
    report_savings,
    scoring,
    sweep_statistics,
    trial_ranking,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_objective import check_objective, check_slo

Record = Mapping[str, Any]


def build(
    plan: Mapping[str, Any],
    found: Iterable[Record],
    fetched: Mapping[str, Any] | None = None,
    savings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report's facts. C(plan) is the sweep as it was asked for; every key of it may be missing.

    C(fetched) is what fetching the model took before the trials, C(savings) what the savings are computed for.
    """
    trials = rescored(plan, found)
    objective = objective_of(plan, trials)
    ranking = trial_ranking.rank(trials, scoring.direction_of(objective)) if objective else []
    maximise = not objective or objective["direction"] == "maximize"
    statistics = sweep_statistics.assess(trials, ranking, maximise)
    for item in ranking:
        if item["number"] in statistics["tie_group"]:
            item["tied_with"] = [number for number in statistics["tie_group"] if number != item["number"]]
    return {
        "schema_version": 1,
        "sweep": plan.get("name") or next((trial["sweep"] for trial in trials), ""),
        "objective": objective,
        "slo": dict(plan.get("slo") or {}),
        "counts": count(trials),
        "trials_left": trials_left(plan, trials),
        "stopped": plan.get("stopped"),
        "set_aside": plan.get("set_aside") or [],
        "broke_off": plan.get("broke_off") or [],
        "unequal_gpus": plan.get("unequal_gpus"),
        "best": best_of(plan, ranking, trials, objective),
        "ranking": [{key: item[key] for key in ("rank", "number", "value", "score", "tied_with")} for item in ranking],
        "picture": report_picture.picture(plan, trials, objective, ranking),
        "pareto_trials": trial_ranking.pareto(trials) if objective and objective["also"] else [],
        "statistics": statistics,
        "effects": report_effects.parameter_effects(trials),
        "phases": phase_seconds(trials),
        "failures": failures(trials),
        "cache": report_launches.cache_groups(trials),
        "savings": report_savings.savings_of(plan, trials, fetched, savings),
        "hosts": report_launches.host_groups(trials, maximise),
        "trials": [summary(trial, ranking) for trial in trials],
    }


def warnings(model: Mapping[str, Any]) -> list[str]:
    """What a reader must know before trusting the ranking, in a line each."""
    lines = sweep_statistics.lines(model["statistics"])
    lines += [f"host {one['host']} was set aside: {one['reason']}" for one in model["set_aside"]]
    lines += [f"slot {one['slot']} broke off: {one['reason']}" for one in model["broke_off"]]
    if model["unequal_gpus"]:
        lines.append(f"trials are ranked across hosts that {model['unequal_gpus']}")
    return lines


def rescored(plan: Mapping[str, Any], found: Iterable[Record]) -> list[dict[str, Any]]:
    """The records, scored by the plan's objective and SLOs: those may have changed since a trial ran."""
    objective = plan.get("objective")
    if not objective or check_objective(objective) or check_slo(plan.get("slo")):
        return [dict(record) for record in found]
    return [dict(record) | scoring.score_trial(record, objective, plan.get("slo")) for record in found]


def trials_left(plan: Mapping[str, Any], trials: Iterable[Record]) -> int:
    """Points of the plan without a record; none where the search was ended on purpose."""
    searched = sum(trial.get("kind") != "control" for trial in trials)
    return 0 if plan.get("stopped") else max(0, (plan.get("points") or 0) - searched)


def objective_of(plan: Mapping[str, Any], trials: Iterable[Record]) -> dict[str, Any] | None:
    asked = [plan.get("objective"), *(trial.get("objective") for trial in trials)]
    objective = next((item for item in asked if item and item.get("metric") in bench_metrics.NAMES), None)
    if objective is None:
        return None
    first, *also = scoring.objectives_of(objective)
    return {"metric": first["metric"], "direction": first["direction"], "also": also}


def count(trials: Iterable[Record]) -> dict[str, int]:
    """The trials by status, those that can win, and all."""
    trials = list(trials)
    by_status = {status: sum(trial["status"] == status for trial in trials) for status in trial_records.STATUSES}
    return by_status | {"eligible": sum(trial.get("eligible") is True for trial in trials), "total": len(trials)}


def best_of(
    plan: Mapping[str, Any],
    ranking: list[dict[str, Any]],
    trials: list[dict[str, Any]],
    objective: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """The winner, with its gain over the baseline, or else over the first trial that can be compared."""
    if not ranking or objective is None:
        return None
    winner = ranking[0]
    record = winner["record"]
    gpus = [gpu for member in record["slot"]["members"] for gpu in member.get("gpus") or []]
    first = min(ranking, key=lambda item: (item["record"].get("kind") != "baseline", item["number"]))
    gain = winner["value"] / first["value"] - 1 if objective["direction"] == "maximize" else None
    if objective["direction"] == "minimize":
        gain = 1 - winner["value"] / first["value"]
    return {
        "number": winner["number"],
        "value": winner["value"],
        "tied_with": winner["tied_with"],
        "first_number": first["number"],
        "first_is_baseline": first["record"].get("kind") == "baseline",
        "first_is_trial_zero": first["number"] == min(trial["number"] for trial in trials),
        "first_value": first["value"],
        "gain": gain,
        "params": record["params"],
        "server_parameters": record.get("server_parameters") or {},
        "environment": dict(plan.get("environment") or {}),
        "also": record["objective"].get("also") or [],
        "samples": record["objective"].get("samples") or [],
        "points": record["objective"].get("points") or [],
        "image": record.get("image") or {},
        "model": record.get("model") or {},
        "command": record.get("command") or [],
        "gpu_count": len(gpus),
        "gpu_names": sorted({gpu.get("name") or "unknown" for gpu in gpus}),
    }


def phase_seconds(trials: Iterable[Record]) -> list[dict[str, Any]]:
    """The seconds of every phase of every trial, in the phases' order; the benchmarks of a trial together."""
    return [
        {"trial": trial["number"], "phase": name, "seconds": seconds}
        for trial in trials
        for name, seconds in report_launches.seconds_by_phase(trial).items()
    ]


def failures(trials: Iterable[Record]) -> list[dict[str, Any]]:
    """What went wrong, by class and message, most frequent first; what cannot win says why as well."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for trial in trials:
        if trial["status"] == "complete":
            for reason in [] if trial.get("eligible") else trial.get("ineligible_reasons") or []:
                groups.setdefault(("not eligible", reason, ""), []).append(trial["number"])
            continue
        error = trial.get("error") or {}
        key = (error.get("class") or trial["status"], error.get("message") or "", error.get("remedy") or "")
        groups.setdefault(key, []).append(trial["number"])
    return [
        {"class": error_class, "message": message, "remedy": remedy, "trials": numbers}
        for (error_class, message, remedy), numbers in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def summary(trial: Record, ranking: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the table of trials."""
    rank = next((item["rank"] for item in ranking if item["number"] == trial["number"]), None)
    fields = ("number", "kind", "attempt", "status", "params", "error", "eligible", "ineligible_reasons", "cache")
    return {field: trial.get(field) for field in fields} | {
        "rank": rank,
        "slot": (trial.get("slot") or {}).get("name"),
        "hosts": report_launches.hosts_of(trial),
        "wall_seconds": trial.get("wall_seconds"),
        "jit": report_launches.jit_state(trial),
        "launch_seconds": report_launches.launch_seconds(trial),
        "value": (trial.get("objective") or {}).get("value"),
        "also": [one.get("value") for one in (trial.get("objective") or {}).get("also") or []],
        "phases": report_launches.seconds_by_phase(trial),
        "slo": trial.get("slo") or [],
        "points": [
            {key: point.get(key) for key in ("name", "point", "requests", "metrics", "raw_file")}
            for point in trial["workloads"]
        ],
    }
