# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sweep's study for people to look at, as Optuna's dashboard shows one.

The study itself is made for samplers: what failed by its parameters' fault is a complete trial there with the value 0
and a violated constraint, which the dashboard does not know (0.21), so that it would be drawn, and win where less is
better. And its times are those at which a run queued the trials.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import scoring

with contextlib.suppress(ImportError):  # only the dashboard needs it here
    import optuna
    from optuna.storages import InMemoryStorage
    from optuna.trial import FrozenTrial, TrialState


def copy_of(study: optuna.Study, plan: Mapping[str, Any]) -> InMemoryStorage:
    """The study in memory: whoever changes that changes nothing of the sweep. Trials keep their order and numbers."""
    storage = InMemoryStorage()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    copy = optuna.create_study(study_name=study.study_name, storage=storage, directions=study.directions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the names of metrics are an experimental feature of Optuna's
        copy.set_metric_names([one["metric"] for one in scoring.objectives_of(plan["objective"])])
    courses = (plan.get("search") or {}).get("pruner", "none") != "none"
    copy.add_trials(shown(trial, courses) for trial in study.get_trials())
    return storage


def shown(trial: FrozenTrial, courses: bool) -> FrozenTrial:
    """The trial as it really ended, with its own times and the attributes that people can read; changes ``trial``.

    ``courses``: with the values after each of its workloads, which mean something to a pruner only.
    """
    known = trial.user_attrs
    point, result, begun = known.get("point") or {}, known.get("result") or {}, known.get("begun")
    if any(amount > 0 for amount in trial.constraints.values()):
        trial.state, trial.values = TrialState.FAIL, None
    if not courses:
        trial.intermediate_values = {}
    if begun:
        trial.datetime_start = datetime.fromtimestamp(begun)
    if begun and result:
        trial.datetime_complete = datetime.fromtimestamp(begun + result["wall_seconds"])
    facts = {
        "trial": point.get("number"),  # of the records: a trial that came back has one of the study's for each attempt
        "kind": point.get("kind"),
        "attempt": known.get("attempt"),
        "slot": known.get("slot"),
        "status": result.get("status"),
        "error": result.get("error") or known.get("failure"),
    }
    trial.user_attrs = {name: fact for name, fact in facts.items() if fact is not None}
    return trial
