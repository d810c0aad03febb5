# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The study of a sweep: Optuna's, in a journal that is derived from the trials' records.

Records are the truth (``trials/NNNN/trial.json``, written durably before anything else is told). The journal is the
queue that the slots of one run claim from; every run builds it anew from the records, so that neither a killed
controller nor a torn journal can lose or double a trial.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, scoring
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_space import point_key

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.storages.journal import JournalFileBackend, JournalStorage
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, TrialState, create_trial

    optuna.logging.set_verbosity(logging.WARNING)

# A trial whose host was lost goes back into the queue this many times.
MAX_ATTEMPTS = 3
OWNER_FILE = "owner.json"


class StudyError(AnsibleError):
    """The sweep's folder cannot be used for a run."""


class _FileLock:
    """flock: unlike Optuna's lock files it is gone the moment its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: Any = None

    def acquire(self) -> bool:
        self._stream = open(self._path, "w")  # noqa: SIM115 - held until release
        fcntl.flock(self._stream, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        self._stream.close()


def _journal(folder: Path) -> JournalStorage:
    lock: Any = _FileLock(folder / "study.journal.lock")  # Optuna exports no class that it could be derived from
    return JournalStorage(JournalFileBackend(str(folder / "study.journal"), lock_obj=lock))


class SweepStudy:
    """Claim trials and tell their end; each slot's process opens its own."""

    def __init__(self, sweep_dir: str | Path, controller_pid: int | None = None) -> None:
        folder = Path(sweep_dir)
        self._owner_file = folder / OWNER_FILE
        self._controller_pid = controller_pid or os.getppid()
        self._storage = _journal(folder)
        self.study = optuna.load_study(study_name=folder.name, storage=self._storage)

    def claim(self, slot: str) -> dict[str, Any] | None:
        """The next waiting point, now this slot's; None if none waits.

        A worker that outlived its controller claims nothing: the study may be another run's by now.
        """
        if json.loads(self._owner_file.read_text())["pid"] != self._controller_pid:
            raise StudyError(f"{self._owner_file}: another run of the sweep has taken over.")
        for trial in self._trials(TrialState.WAITING):
            # False when another slot was faster.
            if self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                self._storage.set_trial_user_attr(trial._trial_id, "slot", slot)
                attrs = trial.user_attrs
                return {**attrs["point"], "attempt": attrs["attempt"], "study_number": trial.number}
        return None

    def running(self) -> int:
        return len(self._trials(TrialState.RUNNING))

    def counts(self) -> dict[str, int]:
        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        return {state.name.lower(): states.count(state) for state in TrialState}

    def finish(self, claim: dict[str, Any], record: dict[str, Any]) -> None:
        """Tell the study how a recorded trial ended."""
        state, value = _told(record)
        self.study.tell(claim["study_number"], value, state=state)

    def requeue(self, claim: dict[str, Any]) -> bool:
        """Give a claimed point back after its host was lost; False once it has had all its attempts."""
        if claim["attempt"] >= MAX_ATTEMPTS:
            return False
        trial = next(t for t in self._trials(TrialState.RUNNING) if t.number == claim["study_number"])
        self.study.add_trial(_trial(trial.user_attrs["point"], claim["attempt"] + 1, trial.distributions))
        self.study.tell(claim["study_number"], state=TrialState.FAIL)
        return True

    def abandon(self, claim: dict[str, Any]) -> None:
        """Tell the study that no record will come, so that no slot waits for one; the next run tries again."""
        self.study.tell(claim["study_number"], state=TrialState.FAIL)

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(state,))


def open_study(
    plan: dict[str, Any],
    points: list[dict[str, Any]],
    infeasible: list[dict[str, Any]],
    retry_failed: bool = False,
) -> dict[str, int]:
    """Make the sweep's folder ready for a run; returns how many trials wait and how many are finished.

    Refuses while another controller runs this sweep. Infeasible points get their records here.
    """
    folder = Path(plan["sweep_dir"])
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    _own(folder)
    records.write_durably(folder / "sweep.json", json.dumps(plan, indent=1) + "\n")
    done = {_key(record): record for record in records.load_trials(folder)}
    number = max((record["number"] for record in done.values()), default=-1) + 1
    for point in [*points, *infeasible]:
        earlier = done.get(point["key"])
        if earlier:
            point["number"] = earlier["number"]
        else:
            point["number"], number = number, number + 1
    for point in infeasible:
        if point["key"] not in done:
            record = _infeasible_record(plan, point)
            records.write_trial(folder, record)
            done[point["key"]] = record

    (folder / "study.journal").unlink(missing_ok=True)
    direction = StudyDirection[scoring.direction_of(plan["objective"]).upper()]
    study = optuna.create_study(study_name=folder.name, storage=_journal(folder), direction=direction)
    distributions = _distributions(points)
    for point in points:
        earlier = done.get(point["key"])
        if earlier and not (retry_failed and earlier["status"] == "failed") and earlier["status"] != "infeasible":
            state, value = _told(earlier)
            study.add_trial(_trial(point, earlier["attempt"], distributions, state, value))
        else:
            study.add_trial(_trial(point, 1, distributions))
    return {"waiting": len(study.get_trials(states=(TrialState.WAITING,))), "recorded": len(done)}


def _infeasible_record(plan: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    error = {"class": "infeasible", "message": point["reason"], "remedy": "", "phase": None}
    return records.new_record(
        sweep=plan["name"],
        number=point["number"],
        params=point["params"],
        server_parameters=point["server_parameters"],
        status="infeasible",
        error=error,
    )


def _key(record: dict[str, Any]) -> str:
    return point_key(record["server_parameters"])


def _told(record: dict[str, Any]) -> tuple[TrialState, float | None]:
    """How a recorded trial ended, as the study knows it: one that cannot win has failed."""
    value = record["objective"]["value"] if record.get("eligible") and record.get("objective") else None
    return (TrialState.FAIL if value is None else TrialState.COMPLETE), value


def _scalar(value: Any) -> Any:
    """Optuna's categories are scalars; lists and mappings travel as JSON."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value, sort_keys=True)


def _distributions(points: list[dict[str, Any]]) -> dict[str, CategoricalDistribution]:
    """Each parameter's values, all those that the sweep tries."""
    choices: dict[str, dict[Any, None]] = {}
    for point in points:
        for name, value in point["params"].items():
            choices.setdefault(name, {})[_scalar(value)] = None
    return {name: CategoricalDistribution(list(values)) for name, values in choices.items()}


def _trial(
    point: dict[str, Any],
    attempt: int,
    distributions: Mapping[str, BaseDistribution],
    state: TrialState | None = None,
    value: float | None = None,
) -> FrozenTrial:
    """A trial for the study; without a state, one that waits."""
    return create_trial(
        state=TrialState.WAITING if state is None else state,
        value=value,
        params={name: _scalar(chosen) for name, chosen in point["params"].items()},
        distributions={name: distributions[name] for name in point["params"]},
        user_attrs={"point": point, "attempt": attempt},
    )


def _own(folder: Path) -> None:
    """Make this run of ansible-playbook the only one that drives the sweep."""
    file = folder / OWNER_FILE
    pid = os.getppid()
    me = {"controller": socket.gethostname(), "pid": pid, "started": _process_start(pid)}
    with contextlib.suppress(FileNotFoundError):
        owner = json.loads(file.read_text())
        same_machine = owner["controller"] == me["controller"]
        alive = not same_machine or _process_start(owner["pid"]) == owner["started"]
        if alive and owner != me:
            where = "" if same_machine else f" on {owner['controller']} (if that one is gone, delete {file})"
            raise StudyError(
                f"sweep_name = {folder.name!r}: another controller (process {owner['pid']}{where}) runs this sweep. "
                "Wait for it, or choose another sweep_name."
            )
    records.write_durably(file, json.dumps(me) + "\n")


def _process_start(pid: int) -> str:
    """When a process began, so that a reused number is not taken for it; empty if it is gone."""
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()
