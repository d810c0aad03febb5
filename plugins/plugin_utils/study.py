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
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    scoring,
    study_failover,
    study_hosts,
    study_journal,
    study_sharing,
    study_store,
    sweep_hosts,
    sweep_search,
    sweep_space,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_gpus import StudyGpus
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_hosts import StudyHosts, host_of
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_postgresql import PostgresStore
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import LeaseLost

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
        self._search = study_journal.search_of(self._plan)
        with self._store.lock():
            self.study = self._load()
        self._storage = self.study._storage
        self._hosts = StudyHosts(self.study, self._plan, self._store.leased)
        self._gpus = StudyGpus(self.study, self._plan.get("slots") or [])

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
            trial_id = self._claimed(claim)._trial_id
            self._storage.set_trial_user_attr(trial_id, "record", records.finite(record))

    def collect(self) -> None:
        """Bring what other controllers have recorded into the sweep's folder, for the report."""
        if self._store.shared:
            with self._store.lock():
                study_sharing.collect(self.study, self._folder)
                self._write_notes(self.study.user_attrs.get("notes", {}))

    def claim(self, slot: str) -> dict[str, Any] | None:
        """The next point, now this slot's; None if none waits and none is to be asked for.

        A worker that outlived its controller claims nothing: the study may be another run's by now.
        """
        with self._store.lock():
            self._store.check()
            self._fail_over()
            self._gpus.release(slot)
            if self._hosts.is_aside(slot) or self._stopped() or self._gpus.is_awaited(slot, self._held):
                return None
            waiting = self._trials(TrialState.WAITING)
            baseline = next((t for t in waiting if t.user_attrs["point"].get("kind") == "baseline"), None)
            if baseline is None and (control := self._control(slot)):
                return control
            if waiting:
                return self._take(baseline or self._next(waiting, slot), slot)
            return self._ask(slot) if self._search["sampler"] in sweep_search.ADAPTIVE else None

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
            return not self._running() and (self._stopped() or not self._trials(TrialState.WAITING))

    def running(self) -> int:
        """Trials that a living slot works on.

        A slot that broke off may not have been able to tell, as when the disk is full: its claim is held by nobody.
        """
        with self._store.lock():
            return self._running()

    def _running(self) -> int:
        return len(self._held())

    def _held(self) -> list[FrozenTrial]:
        running = {trial.user_attrs["point"]["number"]: trial for trial in self._trials(TrialState.RUNNING)
                   if "point" in trial.user_attrs}  # fmt: skip
        return [running[number] for number in self._store.held(running)]

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
        running = self._claimed(claim)
        trial = optuna.trial.Trial(self.study, running._trial_id)
        trial.report(course[-1], len(course))
        return f"after {name} it is worse than half of the trials before it" if trial.should_prune() else None

    def finish(self, claim: dict[str, Any], record: dict[str, Any]) -> None:
        """Tell the study how a recorded trial ended."""
        study_journal.tell(self.study, self._plan, self._claimed(claim), record)
        self._store.release(claim["number"])

    def requeue(self, claim: dict[str, Any], failure: str | None = "host_lost") -> bool:
        """Give a claimed point back after its host failed; False once it has had all its attempts."""
        if not _may_go_back(claim):
            return False
        trial = self._claimed(claim)
        for name, value in (("failure", failure), ("requeued", True)):
            self._storage.set_trial_user_attr(trial._trial_id, name, value)
        self._enqueue_again(trial)
        self.abandon(claim)
        return True

    def _enqueue_again(self, trial: FrozenTrial) -> None:
        point, attempt = trial.user_attrs["point"], trial.user_attrs["attempt"]
        self.study.add_trial(study_journal.trial_of(point, self._plan, attempt=attempt + 1))

    def set_aside(self, slot: str, claim: dict[str, Any] | None = None, record: dict[str, Any] | None = None) -> str:
        """Why the host takes no more trials after the slot's last one; empty while it goes on.

        ``claim`` and ``record`` of a trial that ended are told here then, instead of by ``finish``; without them the
        last one went back already. All that failed by the host's fault go back into the queue, for other hosts, and
        their records are put aside. What crashed has told the sampler that its parameters are to blame; the next run's
        journal does not.
        """
        host = host_of(slot)
        with self._store.lock():
            trials = study_hosts.ended(self._launched())
            ended = [study_hosts.as_ended(trial) for trial in trials]
            if claim and record:
                ended.append(sweep_hosts.Ended(claim["study_number"], host, study_hosts.failure_of(record)))
            row = self._hosts.to_blame(host, ended)
            if not row:
                return ""
            if not self._hosts.is_aside(slot):
                aside = self._hosts.set_aside(host, row)
                self._note(set_aside=[{"host": name, "reason": reason} for name, reason in aside.items()])
            to_blame = {one.number for one in row}
            for trial in trials:
                attempt = {**trial.user_attrs["point"], "attempt": trial.user_attrs["attempt"]}
                if trial.number in to_blame and "requeued" not in trial.user_attrs and _may_go_back(attempt):
                    records.withdraw_trial(self._folder, attempt["number"], attempt["attempt"])
                    self._enqueue_again(trial)
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
            self._note(broke_off=[{"slot": name, "reason": why} for name, why in self._hosts.left().items()])

    def abandon(self, claim: dict[str, Any]) -> None:
        """Tell the study that no record will come, so that no slot waits for one; the next run tries again."""
        self.study.tell(claim["study_number"], state=TrialState.FAIL)
        self._store.release(claim["number"])

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(state,))

    def _claimed(self, claim: dict[str, Any]) -> FrozenTrial:
        for trial in self._trials(TrialState.RUNNING):
            if trial.number == claim["study_number"]:
                return trial
        raise LeaseLost(f"trial {claim['number']} was taken over by another controller")

    def _launched(self) -> list[FrozenTrial]:
        """All that have a point and a number: what waits, runs, and has ended. One entry for each attempt."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if "point" in trial.user_attrs]

    def _next(self, waiting: list[FrozenTrial], slot: str) -> FrozenTrial:
        """Of waiting trials what a user asked for, in order; of the search what finds the most warm on the slot's host.

        A search that may end early goes by the order of its points, so that what it leaves out is left to no host.
        """
        early = self._search.get("patience") or self._search.get("timeout_seconds")
        if early or waiting[0].user_attrs["point"].get("kind", "search") != "search":
            return waiting[0]
        return self._hosts.warmest(waiting, self._launched(), slot)

    def _take(self, trial: FrozenTrial, slot: str) -> dict[str, Any]:
        self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        return self._begin(trial._trial_id, trial.number, trial.user_attrs["point"], slot, trial.user_attrs["attempt"])

    def _begin(
        self, trial_id: int, study_number: int, point: dict[str, Any], slot: str, attempt: int
    ) -> dict[str, Any]:
        records.write_point(self._folder, point)
        self._store.hold(point["number"])
        self._storage.set_trial_user_attr(trial_id, "slot", slot)
        self._storage.set_trial_user_attr(trial_id, "begun", time.time())
        return {**point, "attempt": attempt, "study_number": study_number}

    def _begin_new(self, trial_id: int, point: dict[str, Any], slot: str) -> dict[str, Any]:
        # In this order: the status is read without the lock, and goes by trials that have a point.
        self._storage.set_trial_user_attr(trial_id, "attempt", 1)
        self._storage.set_trial_user_attr(trial_id, "point", point)
        return self._begin(trial_id, self._storage.get_trial(trial_id).number, point, slot, 1)

    def _stopped(self) -> bool:
        """Whether the search has ended for another reason than that nothing is left; that reason is kept."""
        if self.study.user_attrs.get("stopped"):
            return True
        limit, patience = self._search.get("timeout_seconds"), self._search.get("patience")
        if limit and time.time() - self.study.user_attrs["begun"] >= limit:
            return self._stop(f"the time budget of {limit} s is spent")
        if patience and self._since_best() >= patience:
            return self._stop(f"no improvement in {patience} trials")
        return False

    def _stop(self, reason: str) -> bool:
        self._say_stopped("stopped", reason)
        return True

    def _say_stopped(self, attribute: str, reason: str) -> None:
        """For the report: nothing is left over where the search was ended on purpose."""
        self.study.set_user_attr(attribute, reason)
        self._note(stopped=reason)

    def _note(self, **facts: Any) -> None:
        """Add to the plan on disk what the report should say; other slots do so, too, each under the lock."""
        if self._store.shared:
            self.study.set_user_attr("notes", self.study.user_attrs.get("notes", {}) | facts)
        self._write_notes(facts)

    def _write_notes(self, facts: Mapping[str, Any]) -> None:
        file = self._folder / "sweep.json"
        records.write_durably(file, json.dumps(json.loads(file.read_text()) | facts, indent=1) + "\n")

    def _since_best(self) -> int:
        """How many trials, by their numbers, have ended since the best one; controls are none of the search."""
        maximize = scoring.direction_of(self._plan["objective"]) == "maximize"
        best: float | None = None
        since = 0
        ended = {t.user_attrs["point"]["number"]: t for t in self._launched() if "score" in t.user_attrs}
        for _number, trial in sorted(ended.items()):
            score = trial.user_attrs["score"]
            if trial.user_attrs["point"].get("kind") == "control":
                continue
            if score is not None and (best is None or (score > best if maximize else score < best)):
                best, since = score, 0
            else:
                since += 1
        return since

    def _next_number(self) -> int:
        folders = [int(path.name) for path in records.trials_dir(self._folder).iterdir() if path.name.isdigit()]
        return max([*folders, *(trial.user_attrs["point"]["number"] for trial in self._launched())], default=-1) + 1

    def _control(self, slot: str) -> dict[str, Any] | None:
        """The baseline again, where this host has not run it yet or not since ``control_every`` trials."""
        every, baseline = self._search.get("control_every") or 0, self._plan.get("baseline")
        if not every or not baseline:
            return None
        host = host_of(slot)
        kinds = [
            trial.user_attrs["point"].get("kind")
            for trial in sorted(self._launched(), key=lambda trial: trial.user_attrs.get("begun", 0.0))
            if host_of(trial.user_attrs.get("slot")) == host
        ]
        measured = [index for index, kind in enumerate(kinds) if kind in ("baseline", "control")]
        if measured and len(kinds) - 1 - measured[-1] < every:
            return None
        if not self._trials(TrialState.WAITING) and not study_journal.to_ask(self._plan, self.study):
            return None  # no trial would follow
        point = {**baseline, "kind": "control", "number": self._next_number()}
        trial_id = self._storage.create_new_trial(self.study._study_id)  # ask() would hand out what waits
        return self._begin_new(trial_id, point, slot)

    def _ask(self, slot: str) -> dict[str, Any] | None:
        """A new point of the sampler's. What cannot be launched is recorded as infeasible and teaches the sampler;
        a point that is there already teaches nothing twice. Neither counts as one of ``trials``.
        """
        if not study_journal.to_ask(self._plan, self.study):
            return None
        server, slot_gpus = self._plan["server"], self._plan["slot_gpus"]
        known = {trial.user_attrs["point"]["key"] for trial in self._launched()}
        for attempt in range(sweep_search.MAX_TRIES):
            number = self._next_number()
            self.study.sampler = sweep_search.sampler_of(self._search, server, number, attempt, self._infeasible())
            trial = self.study.ask()
            point: dict[str, Any] | None = None
            with contextlib.suppress(TemplateError, TypeError):  # a when that cannot be evaluated for what was drawn
                point = {"number": number, **sweep_space.make_point(server, sweep_search.suggest(trial, server))}
            if point is None or point["key"] in known:
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            known.add(point["key"])
            # What a sampler keeps beside its trials, such as the generation.
            kept = self._storage.get_trial(trial._trial_id).system_attrs
            point["sampler"] = {name: value for name, value in kept.items() if not name.startswith("tpe:")}
            if reason := sweep_space.unfit(server, point, slot_gpus, self._plan.get("memory")):
                record = study_journal.infeasible_record(self._plan, {**point, "reason": reason})
                records.write_point(self._folder, point)
                records.write_trial(self._folder, record)
                trial.set_user_attr("attempt", 1)
                trial.set_user_attr("point", point)
                told = study_journal.told_of(record, self._plan, taught=True)
                trial.set_constraint("violation", told["constraints"]["violation"])
                trial.set_user_attr("infeasible", True)
                if self._store.shared:
                    trial.set_user_attr("record", record)
                trial.set_user_attr("result", study_journal.result_of(record))
                self.study.tell(trial, told["values"], state=told["state"])
                continue
            return self._begin_new(trial._trial_id, point, slot)
        name = self._search["sampler"]
        self._say_stopped("exhausted", f"{name} found no new point in {sweep_search.MAX_TRIES} tries")
        return None

    def _infeasible(self) -> int:
        return sum("infeasible" in trial.user_attrs for trial in self._launched())


def _may_go_back(claim: dict[str, Any]) -> bool:
    """Not without end, and no control, which belongs to its host."""
    return claim["attempt"] < MAX_ATTEMPTS and claim.get("kind") != "control"
