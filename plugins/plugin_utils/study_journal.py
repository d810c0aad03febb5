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
    durable_files,
    goodput,
    records,
    scoring,
    study_asking,
    study_sharing,
    study_store,
    study_trials,
    sweep_owner,
    sweep_search,
    sweep_space,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_postgresql import PostgresStore

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import TrialState


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
    durable_files.write_durably(folder / "sweep.json", json.dumps(plan, indent=1) + "\n")
    latest = study_sharing.latest_attempts(study)
    own = {record["number"]: record for record in records.load_trials(folder)}
    for number, trial in latest.items():
        # Of an earlier run, with a storage of its own. What failed may be asked for again by whoever began.
        if trial.state == TrialState.WAITING and own.get(number, {}).get("status") in ("complete", "pruned"):
            study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            study_trials.tell(study, plan, trial, own[number])
    waiting = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    recorded = sum("record" in trial.user_attrs for trial in study_sharing.latest_attempts(study).values())
    return {"waiting": waiting + study_asking.to_ask(plan, study), "recorded": recorded}


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
    durable_files.write_durably(folder / "sweep.json", json.dumps(plan, indent=1) + "\n")
    on_disk = {record["number"]: record for record in records.load_trials(folder)}
    found = goodput.recount(folder, on_disk.values(), plan.get("slo"))
    controls = [record for record in found if record.get("kind") == "control"]
    done = {_key(record): record for record in found if record.get("kind") != "control"}
    finished = {key for key, record in done.items() if not _runs_again(record, retry_failed)}
    points = points + _under_way(plan, folder, [*points, *infeasible], finished)
    _number(folder, [*points, *infeasible], done, controls)
    for point in infeasible:
        if point["key"] not in done:
            done[point["key"]] = study_trials.infeasible_record(plan, point)
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
            study.add_trial(study_trials.trial_of(point, plan, record=record, shared=shared))
        else:
            study.add_trial(study_trials.trial_of(point, plan))
    waiting = len(study.get_trials(states=(TrialState.WAITING,)))
    return {"waiting": waiting + study_asking.to_ask(plan, study), "recorded": len(done)}


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
    search = study_asking.search_of(plan)
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


def _key(record: dict[str, Any]) -> str:
    return sweep_space.point_key(record["server_parameters"])
