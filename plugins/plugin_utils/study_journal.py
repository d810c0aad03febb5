# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a sweep's study, derived from the trials' records.

Records are the truth (``trials/NNNN/trial.json``, written durably before anything else is told). The journal is the
queue that the slots of one run claim from; every run builds it anew from the records, so that neither a killed
controller nor a torn journal can lose or double a trial.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    goodput,
    records,
    scoring,
    sweep_owner,
    sweep_search,
    sweep_space,
)

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage
    from optuna.trial import FrozenTrial, TrialState, create_trial

# Launches that fail by the fault of their parameters: the sampler learns to keep away. Of others it learns nothing.
_OWN_FAULTS = ("out_of_memory", "bad_flag", "crashed", "timeout")


def journal(folder: Path) -> JournalStorage:
    # Optuna exports no class that the lock could be derived from.
    lock: Any = sweep_owner.FileLock(folder / "study.journal.lock")
    return JournalStorage(JournalFileBackend(str(folder / "study.journal"), lock_obj=lock))


def search_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    return plan.get("search") or {"sampler": "grid"}


def open_study(
    plan: dict[str, Any],
    points: list[dict[str, Any]],
    infeasible: list[dict[str, Any]],
    retry_failed: bool = False,
) -> dict[str, int]:
    """Make the sweep's folder ready for a run; returns how many trials wait and how many are finished.

    Refuses while another controller runs this sweep. Infeasible points get their records here. ``waiting`` counts
    those that an adaptive sampler may still ask for too. Points keep the numbers that they have got, by a record or by
    a claim; the others get the lowest that are free, in their order.
    """
    folder = Path(plan["sweep_dir"])
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    sweep_owner.own(folder)
    # The control is the baseline, wherever it could be launched.
    plan = {**plan, "baseline": next((point for point in points if point.get("kind") == "baseline"), None)}
    records.write_durably(folder / "sweep.json", json.dumps(plan, indent=1) + "\n")
    found = goodput.recount(folder, records.load_trials(folder), plan.get("slo"))
    controls = [record for record in found if record.get("kind") == "control"]
    done = {_key(record): record for record in found if record.get("kind") != "control"}
    finished = {key for key, record in done.items() if not _runs_again(record, retry_failed)}
    points = points + _under_way(plan, folder, [*points, *infeasible], finished)
    _number(folder, [*points, *infeasible], done, controls)
    for point in infeasible:
        if point["key"] not in done:
            done[point["key"]] = infeasible_record(plan, point)
            records.write_trial(folder, done[point["key"]])

    (folder / "study.journal").unlink(missing_ok=True)
    directions = [one["direction"] for one in scoring.objectives_of(plan["objective"])]
    study = optuna.create_study(study_name=folder.name, storage=journal(folder), directions=directions)
    study.set_user_attr("begun", time.time())
    launched = {point["key"]: point for point in points}
    kept = {point["number"]: point for point in records.load_points(folder)}
    for point in _all_points(launched, done, controls):
        record = point.pop("record")
        again = record and point["key"] in launched and _runs_again(record, retry_failed)
        point.setdefault("sampler", kept.get(point["number"], {}).get("sampler", {}))
        if record and not again:
            record = record | scoring.score_trial(record, plan["objective"], plan.get("slo"))
            study.add_trial(trial_of(point, plan, record=record))
        else:
            study.add_trial(trial_of(point, plan))
    waiting = len(study.get_trials(states=(TrialState.WAITING,)))
    return {"waiting": waiting + _to_ask(plan, study), "recorded": len(done)}


def _runs_again(record: Mapping[str, Any], retry_failed: bool) -> bool:
    """What failed, if that is asked for; and what was infeasible, as the hosts or the space have changed."""
    return record.get("kind") != "control" and record["status"] in ("infeasible", *(["failed"] if retry_failed else []))


def _all_points(
    launched: dict[str, dict[str, Any]], done: dict[str, dict[str, Any]], controls: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every point of this run or of a record, with its ``record`` or None, by number."""
    found = [{"kind": "search", **point, "record": done.get(key)} for key, point in launched.items()]
    for record in [*(record for key, record in done.items() if key not in launched), *controls]:
        parameters = {name: record[name] for name in ("number", "params", "server_parameters")}
        gpus = sweep_space.gpus_needed(record["server_parameters"])
        kind = record.get("kind", "search")
        found.append({**parameters, "gpus": gpus, "key": _key(record), "kind": kind, "record": record})
    return sorted(found, key=lambda point: point["number"])


def _under_way(
    plan: dict[str, Any], folder: Path, known: Iterable[dict[str, Any]], finished: set[str]
) -> list[dict[str, Any]]:
    """What an adaptive sampler asked for and is not finished."""
    search = search_of(plan)
    keys = {point["key"] for point in known} | finished
    found = []
    for point in records.load_points(folder):
        if point["key"] in keys or point.get("kind") == "control" or search["sampler"] not in sweep_search.ADAPTIVE:
            continue
        server = plan["server"]
        in_space = not sweep_space.misfit(server, point["params"])
        if in_space and not sweep_space.unfit(server, point, plan["slot_gpus"], plan.get("memory")):
            found.append(point)
    return found


def _number(
    folder: Path,
    points: list[dict[str, Any]],
    done: Mapping[str, dict[str, Any]],
    controls: Iterable[dict[str, Any]],
) -> None:
    pinned = {point["key"]: point["number"] for point in records.load_points(folder) if point.get("kind") != "control"}
    pinned |= {key: record["number"] for key, record in done.items()}
    taken = {*pinned.values(), *(record["number"] for record in controls)}
    free = (number for number in range(len(taken) + len(points)) if number not in taken)
    for point in points:
        point["number"] = pinned[point["key"]] if point["key"] in pinned else next(free)


def _to_ask(plan: dict[str, Any], study: optuna.Study) -> int:
    search = search_of(plan)
    if search["sampler"] not in sweep_search.ADAPTIVE:
        return 0
    counted = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.user_attrs["point"]["kind"] != "control" and "infeasible" not in trial.user_attrs
    ]
    return max(0, search["trials"] - len(counted))


def infeasible_record(plan: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    error = {"class": "infeasible", "message": point["reason"], "remedy": "", "phase": None}
    return records.new_record(
        sweep=plan["name"],
        number=point["number"],
        kind=point.get("kind", "search"),
        params=point["params"],
        server_parameters=point["server_parameters"],
        status="infeasible",
        error=error,
    )


def _key(record: dict[str, Any]) -> str:
    return sweep_space.point_key(record["server_parameters"])


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


def trial_of(
    point: dict[str, Any], plan: Mapping[str, Any], record: dict[str, Any] | None = None, attempt: int = 1
) -> FrozenTrial:
    """A trial for the study: as its record says that it ended, or without one a trial that waits."""
    params, distributions = sweep_search.coordinates(plan.get("server") or {}, point["params"])
    attrs: dict[str, Any] = {"point": point, "attempt": attempt}
    told: dict[str, Any] = {"state": TrialState.WAITING, "values": None, "constraints": {}}
    steps: dict[int, float] = {}
    if record:
        told = told_of(record, plan, taught=bool(params))
        slot = (record.get("slot") or {}).get("name")
        attrs |= {"attempt": record["attempt"], "slot": slot, "begun": record["start"] or 0.0}
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
