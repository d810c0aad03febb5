# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue in a study: what waits, what a slot works on, what has ended. Read and written under the study's lock."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import durable_files, records, study_trials
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_store import Store
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import LeaseLost

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import FrozenTrial, TrialState


class StudyQueue:
    """The trials of a sweep's study, and the notes of its run for the report."""

    def __init__(self, study: optuna.Study, plan: Mapping[str, Any], folder: Path, store: Store) -> None:
        self._study, self._plan, self._folder, self._store = study, plan, folder, store
        self._storage = study._storage

    def waiting(self) -> list[FrozenTrial]:
        return self._in_state(TrialState.WAITING)

    def launched(self) -> list[FrozenTrial]:
        """All that have a point and a number: what waits, runs, and has ended. One entry for each attempt."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if "point" in trial.user_attrs]

    def held(self) -> list[FrozenTrial]:
        """What a living slot works on.

        A slot that broke off may not have been able to tell, as when the disk is full: its claim is held by nobody.
        """
        running = {trial.user_attrs["point"]["number"]: trial for trial in self._in_state(TrialState.RUNNING)
                   if "point" in trial.user_attrs}  # fmt: skip
        return [running[number] for number in self._store.held(running)]

    def claimed(self, claim: Mapping[str, Any]) -> FrozenTrial:
        for trial in self._in_state(TrialState.RUNNING):
            if trial.number == claim["study_number"]:
                return trial
        raise LeaseLost(f"trial {claim['number']} was taken over by another controller")

    def next_number(self) -> int:
        folders = [int(path.name) for path in records.trials_dir(self._folder).iterdir() if path.name.isdigit()]
        return max([*folders, *(trial.user_attrs["point"]["number"] for trial in self.launched())], default=-1) + 1

    def take(self, trial: FrozenTrial, slot: str) -> dict[str, Any]:
        """The claim of a slot on a trial that waits."""
        self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        return self._begin(trial._trial_id, trial.number, trial.user_attrs["point"], slot, trial.user_attrs["attempt"])

    def take_new(self, trial_id: int, point: dict[str, Any], slot: str) -> dict[str, Any]:
        """The claim of a slot on a trial that was made for it just now."""
        self.pin(trial_id, point)
        return self._begin(trial_id, self._storage.get_trial(trial_id).number, point, slot, 1)

    def pin(self, trial_id: int, point: dict[str, Any]) -> None:
        """Give a new trial its point."""
        # In this order: the status is read without the lock, and goes by trials that have a point.
        self._storage.set_trial_user_attr(trial_id, "attempt", 1)
        self._storage.set_trial_user_attr(trial_id, "point", point)

    def _begin(
        self, trial_id: int, study_number: int, point: dict[str, Any], slot: str, attempt: int
    ) -> dict[str, Any]:
        records.write_point(self._folder, point)
        self._store.hold(point["number"])
        self._storage.set_trial_user_attr(trial_id, "slot", slot)
        self._storage.set_trial_user_attr(trial_id, "begun", time.time())
        return {**point, "attempt": attempt, "study_number": study_number}

    def enqueue_again(self, trial: FrozenTrial) -> None:
        point, attempt = trial.user_attrs["point"], trial.user_attrs["attempt"]
        self._study.add_trial(study_trials.trial_of(point, self._plan, attempt=attempt + 1))

    def note(self, **facts: Any) -> None:
        """Add to the plan on disk what the report should say; other slots do so, too."""
        if self._store.shared:
            self._study.set_user_attr("notes", self._study.user_attrs.get("notes", {}) | facts)
        self._write_notes(facts)

    def copy_notes(self) -> None:
        """Bring what other controllers have noted to this one's disk."""
        self._write_notes(self._study.user_attrs.get("notes", {}))

    def _write_notes(self, facts: Mapping[str, Any]) -> None:
        file = self._folder / "sweep.json"
        durable_files.write_durably(file, json.dumps(json.loads(file.read_text()) | facts, indent=1) + "\n")

    def _in_state(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))
