# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The study of a sweep: Optuna's. Slots claim trials from it and tell how they ended.

A claim pins its point to its number first (``trials/NNNN/point.json``), so that a rerun finishes what was under way, by
the same number. The study behind it is made by ``study_journal``; where it lies, ``study_store`` says.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    scoring,
    study_asking,
    study_failover,
    study_hosts,
    study_sharing,
    study_store,
    study_trials,
    sweep_hosts,
    sweep_search,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_asking import StudyAsking
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_gpus import StudyGpus
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_hosts import StudyHosts, host_of
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_postgresql import PostgresStore
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_queue import StudyQueue

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import FrozenTrial, TrialState

# A trial whose host was lost goes back into the queue this many times.
MAX_ATTEMPTS = 3


class SweepStudy:
    """Claim trials and tell their end; each slot's process opens its own."""

    def __init__(self, sweep_dir: str | Path, controller_pid: int | None = None) -> None:
        self._folder = Path(sweep_dir)
        self._plan = json.loads((self._folder / "sweep.json").read_text())
        self._store = study_store.store_of(self._plan, self._folder, controller_pid)
        self._search = study_asking.search_of(self._plan)
        with self._store.lock():
            self.study = self._load()
        self._storage = self.study._storage
        self._hosts = StudyHosts(self.study, self._plan, self._store.leased)
        self._gpus = StudyGpus(self.study, self._plan.get("slots") or [])
        self._queue = StudyQueue(self.study, self._plan, self._folder, self._store)
        self._asking = StudyAsking(self.study, self._plan, self._folder, self._queue)

    def _load(self) -> optuna.Study:
        pruner = sweep_search.pruner_of(self._search)
        study = optuna.load_study(study_name=self._folder.name, storage=self._store.storage(), pruner=pruner)
        if isinstance(self._store, PostgresStore):
            self._store.take_part()
            study_sharing.join(study, self._plan)  # another run may have made it anew since this one queued its trials
        return study

    def lease(self, slot: str) -> str:
        """Make a slot this controller's before anything is done on its host; else returns who drives it."""
        with self._store.lock():
            return self._store.lease(slot)

    def confirm(self) -> None:
        """Raise LeaseLost if another controller may have taken over what this slot works on."""
        self._store.confirm()

    def publish(self, claim: dict[str, Any], record: dict[str, Any]) -> None:
        """Give other controllers the record: it counts, even if this one dies before it can say how the trial ended."""
        if self._store.shared:
            trial_id = self._queue.claimed(claim)._trial_id
            self._storage.set_trial_user_attr(trial_id, "record", records.finite(record))

    def collect(self) -> None:
        """Bring what other controllers have recorded into the sweep's folder, for the report."""
        if self._store.shared:
            with self._store.lock():
                study_sharing.collect(self.study, self._folder)
                self._queue.copy_notes()

    def claim(self, slot: str) -> dict[str, Any] | None:
        """The next point, now this slot's; None if none waits and none is to be asked for.

        A worker that outlived its controller claims nothing: the study may be another run's by now.
        """
        with self._store.lock():
            self._store.check()
            self._fail_over()
            self._gpus.release(slot)
            if self._hosts.is_aside(slot) or self._asking.has_stopped():
                return None
            if self._gpus.is_awaited(slot, self._queue.held):
                return None
            waiting = self._queue.waiting()
            baseline = next((t for t in waiting if t.user_attrs["point"].get("kind") == "baseline"), None)
            if baseline is None and (control := self._asking.control(slot)):
                return control
            if waiting:
                return self._queue.take(baseline or self._next(waiting, slot), slot)
            return self._asking.ask(slot)

    def lease_gpus(self, slot: str, claim: dict[str, Any]) -> list[dict[str, Any]] | None:
        """The GPUs for what the slot has claimed; None while other slots of its set have them."""
        with self._store.lock():
            return self._gpus.lease(slot, claim["gpus"], self._hosts.left())

    def is_over(self, slot: str) -> bool:
        """Whether the slot, which has just got no trial, will not get one either once others have ended theirs."""
        with self._store.lock():
            self._fail_over()
            if self._hosts.is_aside(slot):
                return True
            # What came back since the claim counts as well.
            return not self._queue.held() and (self._asking.has_stopped() or not self._queue.waiting())

    def running(self) -> int:
        """How many trials a living slot works on."""
        with self._store.lock():
            return len(self._queue.held())

    def _fail_over(self) -> None:
        if self._store.shared:
            study_failover.fail_over(self.study, self._store, self._plan, self._folder, MAX_ATTEMPTS)

    def counts(self) -> dict[str, int]:
        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        return {state.name.lower(): states.count(state) for state in TrialState}

    def should_prune(self, claim: dict[str, Any], record: dict[str, Any]) -> str | None:
        """Why a trial need not go on after the workloads that its record has; None if it should."""
        if self._search.get("pruner", "none") == "none" or claim.get("kind", "search") != "search":
            return None
        course = scoring.course(record, self._plan["objective"], self._plan.get("slo"))
        name = record["workloads"][-1]["name"]
        if course[-1] is None:
            return f"no point of {name} meets every hard SLO"
        running = self._queue.claimed(claim)
        trial = optuna.trial.Trial(self.study, running._trial_id)
        trial.report(course[-1], len(course))
        return f"after {name} it is worse than half of the trials before it" if trial.should_prune() else None

    def finish(self, claim: dict[str, Any], record: dict[str, Any]) -> None:
        """Tell the study how a recorded trial ended."""
        study_trials.tell(self.study, self._plan, self._queue.claimed(claim), record)
        self._store.release(claim["number"])

    def requeue(self, claim: dict[str, Any], failure: str | None = "host_lost") -> bool:
        """Give a claimed point back after its host failed; False once it has had all its attempts."""
        if not _may_go_back(claim):
            return False
        trial = self._queue.claimed(claim)
        for name, value in (("failure", failure), ("requeued", True)):
            self._storage.set_trial_user_attr(trial._trial_id, name, value)
        self._queue.enqueue_again(trial)
        self.abandon(claim)
        return True

    def set_aside(self, slot: str, claim: dict[str, Any] | None = None, record: dict[str, Any] | None = None) -> str:
        """Why the host takes no more trials after the slot's last one; empty while it goes on.

        ``claim`` and ``record`` of a trial that ended are told here then, instead of by ``finish``; without them the
        last one went back already. All that failed by the host's fault go back into the queue, for other hosts, and
        their records are put aside. What crashed has told the sampler that its parameters are to blame; the next run's
        journal does not.
        """
        host = host_of(slot)
        with self._store.lock():
            trials = study_hosts.ended(self._queue.launched())
            ended = [study_hosts.as_ended(trial) for trial in trials]
            if claim and record:
                ended.append(sweep_hosts.Ended(claim["study_number"], host, study_hosts.failure_of(record)))
            row = self._hosts.to_blame(host, ended)
            if not row:
                return ""
            if not self._hosts.is_aside(slot):
                aside = self._hosts.set_aside(host, row)
                self._queue.note(set_aside=[{"host": name, "reason": reason} for name, reason in aside.items()])
            to_blame = {one.number for one in row}
            for trial in trials:
                attempt = {**trial.user_attrs["point"], "attempt": trial.user_attrs["attempt"]}
                if trial.number in to_blame and "requeued" not in trial.user_attrs and _may_go_back(attempt):
                    records.withdraw_trial(self._folder, attempt["number"], attempt["attempt"])
                    self._queue.enqueue_again(trial)
            if claim and record:
                if _may_go_back(claim):
                    records.withdraw_trial(self._folder, claim["number"], claim["attempt"])
                    self.requeue(claim, row[-1].failure)
                else:
                    self.finish(claim, record)
            return self._hosts.aside()[host]

    def leave(self, slot: str, reason: str) -> None:
        """Say that a slot broke off, so that nothing is left to it, and the report names it."""
        self._hosts.leave(slot, " ".join(reason.split()))
        with self._store.lock():
            self._queue.note(broke_off=[{"slot": name, "reason": why} for name, why in self._hosts.left().items()])

    def abandon(self, claim: dict[str, Any]) -> None:
        """Tell the study that no record will come, so that no slot waits for one; the next run tries again."""
        self.study.tell(claim["study_number"], state=TrialState.FAIL)
        self._store.release(claim["number"])

    def _next(self, waiting: list[FrozenTrial], slot: str) -> FrozenTrial:
        """Of waiting trials what a user asked for, in order; of the search what finds the most warm on the slot's host.

        A search that may end early goes by the order of its points, so that what it leaves out is left to no host.
        """
        early = self._search.get("patience") or self._search.get("timeout_seconds")
        if early or waiting[0].user_attrs["point"].get("kind", "search") != "search":
            return waiting[0]
        return self._hosts.warmest(waiting, self._queue.launched(), slot)


def _may_go_back(claim: dict[str, Any]) -> bool:
    """Not without end, and no control, which belongs to its host."""
    return claim["attempt"] < MAX_ATTEMPTS and claim.get("kind") != "control"
