# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In a shared study: what a dead slot, of whatever controller, worked on is finished by the others.

Where the study is one controller's, its next run does so, as it makes the study anew.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, study_sharing, study_trials
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_store import Store

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import TrialState


def fail_over(study: optuna.Study, store: Store, plan: dict[str, Any], folder: Path, most_attempts: int) -> None:
    """Give back every trial that runs by the study and that no living slot holds; called under the study's lock.

    It counts if its record is in the study, or in the folder, which controllers may share. After ``most_attempts`` it
    has failed.
    """
    held = store.held(number for number in _numbers(study).values() if number is not None)
    # Asked for again: a slot tells how its trial ended, without the lock, before it lets go of it.
    for trial, number in _numbers(study).items():
        if number is None:  # its slot died as it asked the sampler
            study.tell(trial, state=TrialState.FAIL)
        elif number not in held:
            _give_back(study, trial, plan, folder, most_attempts)


def _numbers(study: optuna.Study) -> dict[int, int | None]:
    """The points' numbers of what runs, by the numbers in the study; None: without a point."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return {trial.number: trial.user_attrs.get("point", {}).get("number") for trial in running}


def _give_back(study: optuna.Study, number: int, plan: dict[str, Any], folder: Path, most_attempts: int) -> None:
    trial = next(trial for trial in study.get_trials(deepcopy=False) if trial.number == number)
    point, attempt = trial.user_attrs["point"], trial.user_attrs["attempt"]
    on_disk = (r for r in records.load_trials(folder) if (r["number"], r["attempt"]) == (point["number"], attempt))
    record = trial.user_attrs.get("record") or next(on_disk, None)
    latest = study_sharing.latest_attempts(study)[point["number"]].user_attrs["attempt"]
    if record is None and (latest > attempt or (attempt < most_attempts and point.get("kind") != "control")):
        if latest == attempt:  # else its slot died as it gave the point back
            study.add_trial(study_trials.trial_of(point, plan, attempt=attempt + 1))
        study.tell(trial.number, state=TrialState.FAIL)
        return
    if record is None:
        record = study_trials.given_up_record(plan, point, attempt)
        records.write_trial(folder, record)
    study_trials.tell(study, plan, trial, record)
