# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What controllers that share a study give each other: its plan, its slots, and the records of its trials.

All of it is attributes of the study and its trials, so that no controller needs another one's files.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, study_postgresql, sweep_plan, sweep_slots
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, problem, problem_lines
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_postgresql import PostgresStore
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import StudyError

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import FrozenTrial

# What must be the same for all that work on a study at once, beside what makes a sweep the same.
_SEARCH = ("server", "search", "objective", "slo", "slot_gpus")
_REMEDY = "Give the other controllers' value, or begin once they have ended."


def load(store: PostgresStore, name: str) -> optuna.Study | None:
    """The study of a sweep; None if nobody has begun it. Changes nothing in the database."""
    if not store.has_tables():
        return None
    try:
        return optuna.load_study(study_name=name, storage=store.storage())
    except KeyError:
        return None


def earlier_plan(url: str, name: str) -> dict[str, Any] | None:
    """The plan that the sweep was begun with, by whatever controller; None if it is new."""
    study = load(PostgresStore(url, name), name)
    return study.user_attrs.get("plan") if study else None


def problems_of(plan: Mapping[str, Any]) -> list[Problem]:
    """What forbids this plan's controller to join those that run the sweep now; [] also if none does."""
    store = PostgresStore(plan["storage"], plan["name"])
    study = load(store, plan["name"])
    return join_problems(plan, study.user_attrs) if study and store.is_driven() else []


def join_problems(plan: Mapping[str, Any], known: Mapping[str, Any]) -> list[Problem]:
    """What forbids a plan to take part in a study with the attributes ``known`` (``plan``, ``slots``)."""
    theirs, slots = known["plan"], known["slots"]
    found = sweep_plan.same_sweep(dict(plan), theirs)
    for key in ("commit", *_SEARCH):
        if json.dumps(plan.get(key), sort_keys=True) != json.dumps(theirs.get(key), sort_keys=True):
            message = f"differs from that of the controllers that run the sweep: {theirs.get(key)}."
            found.append(problem(f"sweep_{key}", plan.get(key), message, _REMEDY))
    found += [problem("gpu_hosts", slot["name"], clash, "Name a host alike in all inventories, and cut its GPUs alike.")
              for slot in plan["slots"] if (clash := _clash(slot, slots))]  # fmt: skip
    gpus = {one["name"]: one["members"][0]["gpus"] for one in [*slots, *plan["slots"]]}
    if not plan.get("unequal_gpus"):
        found += sweep_slots.unequal_gpus(gpus)
    return found


def _clash(slot: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str:
    """Why a slot cannot be beside those that are known: its lock, by its name, would not guard its GPUs."""
    own = _uuids(slot), slot.get("set")
    for other in others:
        known = _uuids(other), other.get("set")
        if other["name"] == slot["name"] and known != own:
            return f"is known to the controllers that run the sweep with other GPUs: {sorted(_uuids(other))}."
        share = known == own and slot.get("set")
        if other["name"] != slot["name"] and own[0] & known[0] and not share:
            return f"has GPUs that are known to the controllers that run the sweep as {other['name']}."
    return ""


def _uuids(slot: Mapping[str, Any]) -> set[str]:
    return {gpu["uuid"] for member in slot["members"] for gpu in member["gpus"]}


def join(study: optuna.Study, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of a controller that takes part, with the slots of all; StudyError if it does not fit."""
    known = study.user_attrs
    if problems := join_problems(plan, known):
        raise StudyError("\n".join(problem_lines(problems)))
    slots = {slot["name"]: slot for slot in [*known["slots"], *plan["slots"]]}
    study.set_user_attr("slots", list(slots.values()))
    return {**plan, "baseline": known["plan"]["baseline"], "slots": list(slots.values()), **known.get("notes", {})}


def publish(study: optuna.Study, plan: Mapping[str, Any]) -> None:
    """Of a new study, what others need to take part."""
    study.set_user_attr("plan", dict(plan))
    study.set_user_attr("slots", plan.get("slots") or [])


def latest_attempts(study: optuna.Study) -> dict[int, FrozenTrial]:
    """Of each point the study's last trial, by the point's number."""
    latest: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if point := trial.user_attrs.get("point"):
            known = latest.setdefault(point["number"], trial)
            if known.user_attrs["attempt"] <= trial.user_attrs["attempt"]:
                latest[point["number"]] = trial
    return latest


def collect(study: optuna.Study, folder: Path) -> None:
    """Bring what other controllers have recorded and pinned into this one's folder.

    What is there of an attempt that another one has followed is put aside: its controller died, or lost the server,
    before it could tell. A record of this folder stays if it is the later state of what was published: its controller
    died while the server stopped. StudyError if the folder knows another trial by a number than the study does.
    """
    latest = latest_attempts(study)
    own = {record["number"]: record for record in records.load_trials(folder)}
    _check_numbers(folder, own, latest)
    for number, trial in sorted(latest.items()):
        if "begun" in trial.user_attrs and not records.point_file(folder, number).is_file():
            records.write_point(folder, trial.user_attrs["point"])
        record, mine = trial.user_attrs.get("record"), own.get(number)
        if mine and (mine["start"] != record["start"] if record else mine["attempt"] < trial.user_attrs["attempt"]):
            records.withdraw_trial(folder, number, mine["attempt"])
            mine = None
        if record and (mine is None or mine["end"] < record["end"]):
            records.write_trial(folder, record)


def _check_numbers(folder: Path, own: Mapping[int, dict[str, Any]], latest: Mapping[int, FrozenTrial]) -> None:
    pinned = {point["number"]: point["server_parameters"] for point in records.load_points(folder)}
    pinned |= {number: record["server_parameters"] for number, record in own.items()}
    for number, trial in sorted(latest.items()):
        if number in pinned and pinned[number] != trial.user_attrs["point"]["server_parameters"]:
            raise StudyError(
                f"{folder} holds another trial {number} than the study in {study_postgresql.VARIABLE}. Choose another "
                "sweep_results_dir, or another sweep_name."
            )
