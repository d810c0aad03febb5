# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials' records and the study's trials: which of the one is which of the other.

A point that waits is a trial of Optuna's without a result; a record tells how it ended, what the sampler learns of it,
and what those see that watch the sweep. Some records come without a launch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, scoring, study_hosts, sweep_search

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import FrozenTrial, TrialState, create_trial

# Launches that fail by the fault of their parameters: the sampler learns to keep away. Of others it learns nothing.
_OWN_FAULTS = ("out_of_memory", "bad_flag", "crashed", "timeout")


def result_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the study keeps of how a recorded trial ended, for those that watch the sweep."""
    return {
        "status": record["status"],
        "error": (record.get("error") or {}).get("class"),
        "eligible": record.get("eligible") is True,
        "value": (record.get("objective") or {}).get("value"),
        "wall_seconds": round(record.get("wall_seconds") or 0.0, 1),
    }


def told_of(record: dict[str, Any], plan: Mapping[str, Any], taught: bool) -> dict[str, Any]:
    """How a recorded trial ended, as the study knows it: ``{state, values, constraints}``.

    A point that is to blame itself (infeasible, its launch fails, it misses a hard SLO) has a violated constraint: its
    values do not count, and samplers keep away. Whatever else cannot win has failed, of which nothing is learnt; and
    nothing either (not ``taught``) of what has no place in the space, such as a baseline without parameters.
    """
    count = len(scoring.objectives_of(plan["objective"]))
    if record.get("kind") == "control" or not taught:
        return {"state": TrialState.FAIL, "values": None, "constraints": {}}
    if record.get("eligible"):
        return {"state": TrialState.COMPLETE, "values": scoring.values_of(record), "constraints": {"violation": 0.0}}
    if record["status"] == "pruned":
        return {"state": TrialState.PRUNED, "values": None, "constraints": {}}
    missed = scoring.violation(record, plan.get("slo")) if record["status"] == "complete" else 0.0
    fault = record["status"] == "infeasible" or (record.get("error") or {}).get("class") in _OWN_FAULTS
    if missed or fault:
        # What could not even run is further off than what ran.
        constraints = {"violation": missed or 100.0}
        return {"state": TrialState.COMPLETE, "values": [0.0] * count, "constraints": constraints}
    return {"state": TrialState.FAIL, "values": None, "constraints": {}}


def tell(study: optuna.Study, plan: Mapping[str, Any], running: FrozenTrial, record: dict[str, Any]) -> None:
    """Tell the study how a recorded trial ended; a shared study gets the record, too."""
    told = told_of(record, plan, taught=bool(running.params))
    trial = optuna.trial.Trial(study, running._trial_id)
    for name, amount in told["constraints"].items():
        trial.set_constraint(name, amount)
    if record["status"] == "infeasible":
        trial.set_user_attr("infeasible", True)
    else:
        trial.set_user_attr("score", scoring.score_of(record))
        trial.set_user_attr("failure", study_hosts.failure_of(record))
    if plan.get("storage"):
        trial.set_user_attr("record", records.finite(record))
    trial.set_user_attr("result", result_of(record))
    study.tell(running.number, told["values"], state=told["state"])


def trial_of(
    point: dict[str, Any],
    plan: Mapping[str, Any],
    record: dict[str, Any] | None = None,
    attempt: int = 1,
    shared: dict[str, Any] | None = None,
) -> FrozenTrial:
    """A trial for the study: as its record says that it ended, or without one a trial that waits.

    ``shared`` is the record as it is on disk, for other controllers.
    """
    params, distributions = sweep_search.coordinates(plan.get("server") or {}, point["params"])
    attrs: dict[str, Any] = {"point": point, "attempt": attempt}
    told: dict[str, Any] = {"state": TrialState.WAITING, "values": None, "constraints": {}}
    steps: dict[int, float] = {}
    if record:
        told = told_of(record, plan, taught=bool(params))
        slot = (record.get("slot") or {}).get("name")
        attrs |= {"record": shared} if shared else {}
        attrs |= {"attempt": record["attempt"], "slot": slot, "begun": record["start"] or 0.0}
        attrs["result"] = result_of(record)
        if record["status"] == "infeasible":
            attrs["infeasible"] = True
        else:
            attrs["score"] = scoring.score_of(record)
        if len(scoring.objectives_of(plan["objective"])) == 1:
            course = scoring.course(record, plan["objective"], plan.get("slo"))
            steps = {step: score for step, score in enumerate(course, start=1) if score is not None}
    return create_trial(
        state=told["state"],
        values=told["values"],
        params=params,
        distributions=distributions,
        user_attrs=attrs,
        system_attrs=point.get("sampler") or {},
        intermediate_values=steps,
        constraints=told["constraints"],
    )


def infeasible_record(plan: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    error = {"class": "infeasible", "message": point["reason"], "remedy": "", "phase": None}
    return _record_without_launch(plan, point, status="infeasible", error=error)


def given_up_record(plan: dict[str, Any], point: dict[str, Any], attempt: int) -> dict[str, Any]:
    """Of a trial whose slots died each time."""
    error = {"class": "host_lost", "message": f"its slots ended without a word in {attempt} attempts",
             "remedy": "See why controllers die under this trial.", "phase": None, "exit_code": None,
             "log_tail": ""}  # fmt: skip
    return _record_without_launch(plan, point, status="failed", attempt=attempt, error=error)


def _record_without_launch(plan: dict[str, Any], point: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return records.new_record(
        sweep=plan["name"],
        number=point["number"],
        kind=point.get("kind", "search"),
        params=point["params"],
        server_parameters=point["server_parameters"],
        **fields,
    )
