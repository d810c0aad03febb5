# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a slot runs beside what waits: new points of the sampler's, controls, or nothing once the search has ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    scoring,
    study_trials,
    sweep_search,
    sweep_space,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_hosts import host_of
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_queue import StudyQueue

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import TrialState


def search_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    return plan.get("search") or {"sampler": "grid"}


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


class StudyAsking:
    """Asks a study's sampler, under the study's lock."""

    def __init__(self, study: optuna.Study, plan: dict[str, Any], folder: Path, queue: StudyQueue) -> None:
        self._study, self._plan, self._folder, self._queue = study, plan, folder, queue
        self._search = search_of(plan)

    def has_stopped(self) -> bool:
        """Whether the search has ended for another reason than that nothing is left; that reason is kept."""
        if self._study.user_attrs.get("stopped"):
            return True
        limit, patience = self._search.get("timeout_seconds"), self._search.get("patience")
        reason = ""
        if limit and time.time() - self._study.user_attrs["begun"] >= limit:
            reason = f"the time budget of {limit} s is spent"
        elif patience and self._since_best() >= patience:
            reason = f"no improvement in {patience} trials"
        if reason:
            self._say_stopped("stopped", reason)
        return bool(reason)

    def control(self, slot: str) -> dict[str, Any] | None:
        """The baseline again, where this host has not run it yet or not since ``control_every`` trials."""
        every, baseline = self._search.get("control_every") or 0, self._plan.get("baseline")
        if not every or not baseline:
            return None
        host = host_of(slot)
        kinds = [
            trial.user_attrs["point"].get("kind")
            for trial in sorted(self._queue.launched(), key=lambda trial: trial.user_attrs.get("begun", 0.0))
            if host_of(trial.user_attrs.get("slot")) == host
        ]
        measured = [index for index, kind in enumerate(kinds) if kind in ("baseline", "control")]
        if measured and len(kinds) - 1 - measured[-1] < every:
            return None
        if not self._queue.waiting() and not to_ask(self._plan, self._study):
            return None  # no trial would follow
        point = {**baseline, "kind": "control", "number": self._queue.next_number()}
        trial_id = self._study._storage.create_new_trial(self._study._study_id)  # ask() would hand out what waits
        return self._queue.take_new(trial_id, point, slot)

    def ask(self, slot: str) -> dict[str, Any] | None:
        """A new point of the sampler's. What cannot be launched is recorded as infeasible and teaches the sampler;
        a point that is there already teaches nothing twice. Neither counts as one of ``trials``.
        """
        if self._search["sampler"] not in sweep_search.ADAPTIVE or not to_ask(self._plan, self._study):
            return None
        server = self._plan["server"]
        known = {trial.user_attrs["point"]["key"] for trial in self._queue.launched()}
        for attempt in range(sweep_search.MAX_TRIES):
            number = self._queue.next_number()
            self._study.sampler = sweep_search.sampler_of(self._search, server, number, attempt, self._infeasible())
            trial = self._study.ask()
            point: dict[str, Any] | None = None
            with contextlib.suppress(TemplateError, TypeError):  # a when that cannot be evaluated for what was drawn
                point = {"number": number, **sweep_space.make_point(server, sweep_search.suggest(trial, server))}
            if point is None or point["key"] in known:
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            known.add(point["key"])
            # What a sampler keeps beside its trials, such as the generation.
            kept = self._study._storage.get_trial(trial._trial_id).system_attrs
            point["sampler"] = {name: value for name, value in kept.items() if not name.startswith("tpe:")}
            reason = sweep_space.unfit(server, point, self._plan["slot_gpus"], self._plan.get("memory"))
            if not reason:
                return self._queue.take_new(trial._trial_id, point, slot)
            self._tell_infeasible(trial._trial_id, point, reason)
        name = self._search["sampler"]
        self._say_stopped("exhausted", f"{name} found no new point in {sweep_search.MAX_TRIES} tries")
        return None

    def _tell_infeasible(self, trial_id: int, point: dict[str, Any], reason: str) -> None:
        record = study_trials.infeasible_record(self._plan, {**point, "reason": reason})
        records.write_point(self._folder, point)
        records.write_trial(self._folder, record)
        self._queue.pin(trial_id, point)
        study_trials.tell(self._study, self._plan, self._study._storage.get_trial(trial_id), record)

    def _infeasible(self) -> int:
        return sum("infeasible" in trial.user_attrs for trial in self._queue.launched())

    def _since_best(self) -> int:
        """How many trials, by their numbers, have ended since the best one; controls are none of the search."""
        maximize = scoring.direction_of(self._plan["objective"]) == "maximize"
        best: float | None = None
        since = 0
        ended = {t.user_attrs["point"]["number"]: t for t in self._queue.launched() if "score" in t.user_attrs}
        for _number, trial in sorted(ended.items()):
            score = trial.user_attrs["score"]
            if trial.user_attrs["point"].get("kind") == "control":
                continue
            if score is not None and (best is None or (score > best if maximize else score < best)):
                best, since = score, 0
            else:
                since += 1
        return since

    def _say_stopped(self, attribute: str, reason: str) -> None:
        """For the report: nothing is left over where the search was ended on purpose."""
        self._study.set_user_attr(attribute, reason)
        self._queue.note(stopped=reason)
