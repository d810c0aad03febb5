# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The study of a sweep, derived from the trials' records.

Records are the truth (``trials/NNNN/trial.json``, written durably before anything else is told). The study is the queue
that the slots of one run claim from; every run builds it anew from the records, so that neither a killed controller nor
a torn journal can lose or double a trial. In PostgreSQL a run takes part in a study that other controllers work on.
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
    study_hosts,
    study_sharing,
    study_store,
    sweep_owner,
    sweep_search,
    sweep_space,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_postgresql import PostgresStore

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import FrozenTrial, TrialState, create_trial

# Launches that fail by the fault of their parameters: the sampler learns to keep away. Of others it learns nothing.
_OWN_FAULTS = ("out_of_memory", "bad_flag", "crashed", "timeout")


def search_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    return plan.get("search") or {"sampler": "grid"}


def open_study(
    plan: dict[str, Any],
    points: list[dict[str, Any]],
    infeasible: list[dict[str, Any]],
    retry_failed: bool = False,
) -> dict[str, int]:
    """Make the sweep's folder ready for a run; returns how many trials wait and how many are finished.

    Refuses while another controller runs this sweep, unless both share a study that fits. Infeasible points get their
    records here. ``waiting`` counts those that an adaptive sampler may still ask for too. Points keep the numbers that
    they have got, by a record or by a claim; the others get the lowest that are free, in their order.
    """
    folder = Path(plan["sweep_dir"])
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    sweep_owner.own(folder, plan.get("storage"))
    store = study_store.store_of(plan, folder)
    with store.lock():
        if isinstance(store, PostgresStore):
            if running := _take_part(store, plan, folder):
                return running
        else:
            (folder / "study.journal").unlink(missing_ok=True)
        return _make(store, plan, points, infeasible, retry_failed=retry_failed)


def _take_part(store: PostgresStore, plan: dict[str, Any], folder: Path) -> dict[str, int] | None:
    """Join the controllers that run the sweep. None if there are none: what they left is in the folder then."""
    study = study_sharing.load(store, folder.name)
    if study is None:
        return None
    study_sharing.collect(study, folder)
    if not store.is_driven():
        optuna.delete_study(study_name=folder.name, storage=study._storage)
        return None
    plan = study_sharing.join(study, plan)
    records.write_durably(folder / "sweep.json", json.dumps(plan, indent=1) + "\n")
    latest = study_sharing.latest_attempts(study)
    own = {record["number"]: record for record in records.load_trials(folder)}
    for number, trial in latest.items():
        # Of an earlier run, with a storage of its own. What failed may be asked for again by whoever began.
        if trial.state == TrialState.WAITING and own.get(number, {}).get("status") in ("complete", "pruned"):
            study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            tell(study, plan, trial, own[number])
    waiting = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    recorded = sum("record" in trial.user_attrs for trial in study_sharing.latest_attempts(study).values())
    return {"waiting": waiting + to_ask(plan, study), "recorded": recorded}


def _make(
    store: study_store.Store,
    plan: dict[str, Any],
    points: list[dict[str, Any]],
    infeasible: list[dict[str, Any]],
    *,
    retry_failed: bool,
) -> dict[str, int]:
    folder = Path(plan["sweep_dir"])
    # The control is the baseline, wherever it could be launched.
    plan = {**plan, "baseline": next((point for point in points if point.get("kind") == "baseline"), None)}
    records.write_durably(folder / "sweep.json", json.dumps(plan, indent=1) + "\n")
    on_disk = {record["number"]: record for record in records.load_trials(folder)}
    found = goodput.recount(folder, on_disk.values(), plan.get("slo"))
    controls = [record for record in found if record.get("kind") == "control"]
    done = {_key(record): record for record in found if record.get("kind") != "control"}
    finished = {key for key, record in done.items() if not _runs_again(record, retry_failed)}
    points = points + _under_way(plan, folder, [*points, *infeasible], finished)
    _number(folder, [*points, *infeasible], done, controls)
    for point in infeasible:
        if point["key"] not in done:
            done[point["key"]] = infeasible_record(plan, point)
            records.write_trial(folder, done[point["key"]])
            on_disk[point["number"]] = done[point["key"]]

    directions = [one["direction"] for one in scoring.objectives_of(plan["objective"])]
    study = optuna.create_study(study_name=folder.name, storage=store.storage(), directions=directions)
    study.set_user_attr("begun", time.time())
    if store.shared:
        study_sharing.publish(study, plan)
    launched = {point["key"]: point for point in points}
    kept = {point["number"]: point for point in records.load_points(folder)}
    for point in _all_points(launched, done, controls):
        record = point.pop("record")
        again = record and point["key"] in launched and _runs_again(record, retry_failed)
        point.setdefault("sampler", kept.get(point["number"], {}).get("sampler", {}))
        if record and not again:
            record = record | scoring.score_trial(record, plan["objective"], plan.get("slo"))
            shared = on_disk[record["number"]] if store.shared else None
            study.add_trial(trial_of(point, plan, record=record, shared=shared))
        else:
            study.add_trial(trial_of(point, plan))
    waiting = len(study.get_trials(states=(TrialState.WAITING,)))
    return {"waiting": waiting + to_ask(plan, study), "recorded": len(done)}


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


def to_ask(plan: Mapping[str, Any], study: optuna.Study) -> int:
    """How many points an adaptive sampler may still be asked for: attempts and controls are no points of C(trials)."""
    search = search_of(plan)
    if search["sampler"] not in sweep_search.ADAPTIVE or "exhausted" in study.user_attrs:
        return 0
    numbers = {
        trial.user_attrs["point"]["number"]
        for trial in study.get_trials(deepcopy=False)
        if "point" in trial.user_attrs
        and trial.user_attrs["point"].get("kind") != "control"
        and "infeasible" not in trial.user_attrs
    }
    return max(0, search["trials"] - len(numbers))


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


def _key(record: dict[str, Any]) -> str:
    return sweep_space.point_key(record["server_parameters"])


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
    trial.set_user_attr("score", scoring.score_of(record))
    trial.set_user_attr("failure", study_hosts.failure_of(record))
    trial.set_user_attr("result", result_of(record))
    if plan.get("storage"):
        trial.set_user_attr("record", records.finite(record))
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
