# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a sweep goes, in its folder: ``status.json`` for programs, ``status.txt`` for people.

How trials ended and what waits, the study knows; what a slot does, only its own worker does. Each worker replaces its
slot's entry at every change, and counts anew when one of its trials begins or ends. While a worker waits for a module
it can tell nothing, so a phase stays until the module answers. Nothing reads these files to decide anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    durable_files,
    records,
    scoring,
    study_asking,
    study_sharing,
    sweep_end,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_hosts import StudyHosts, host_of
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import FileLock

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import FrozenTrial, TrialState

SCHEMA_VERSION = 1
JSON_FILE = "status.json"
TEXT_FILE = "status.txt"
# How often all slots together say on the terminal how the sweep goes: after trials, and while none ends.
LINE_SECONDS = 5.0
IDLE_LINE_SECONDS = 60.0
# More slots than these do not say every phase, but for verbose runs: nobody could read that.
TALKING_SLOTS = 8


class SweepStatus:
    """What one slot's worker tells of itself.

    ``study`` is Optuna's, ``plan`` that of the run. A text that a method returns is to be said on the terminal now.
    """

    def __init__(
        self,
        study: optuna.Study,
        plan: Mapping[str, Any],
        slot: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._study, self._plan, self._name, self._clock = study, plan, slot, clock
        self._folder = Path(plan["sweep_dir"])
        self._slot: dict[str, Any] = {}

    def slot_is(self, state: str) -> None:
        """``starting``, ``waiting`` (nothing to claim, but another slot's trial may come back) or ``ended``."""
        if self._slot.get("state") != state:
            self._slot = {"state": state, "since": self._clock(), "trial": None, "phase": None}
            self._write()

    def trial_begins(self, claim: Mapping[str, Any]) -> None:
        now = self._clock()
        trial = {**{key: claim[key] for key in ("number", "attempt", "params")}, "start": now}
        self._slot = {"state": "running", "since": now, "trial": trial, "phase": None}
        self._write()

    def phase_begins(self, name: str, label: str | None = None) -> str | None:
        """``label``: what the trial's record calls the workload point."""
        place = place_of(self._plan["workload_points"], label) if label else {}
        self._slot |= {"since": self._clock(), "phase": {"name": name, **place}}
        return self._write(IDLE_LINE_SECONDS, recount=False)

    def trial_ended(self) -> str | None:
        """Call it when the study has been told."""
        self._slot = {"state": "waiting", "since": self._clock(), "trial": None, "phase": None}
        return self._write(LINE_SECONDS)

    def _write(self, line_seconds: float | None = None, *, recount: bool = True) -> str | None:
        """Read, change, replace, one worker at a time. A full disk, or files that were taken away, end no trial."""
        said = None
        with contextlib.suppress(OSError), FileLock(self._folder / "status.lock"):
            now = self._clock()
            status = self._load() or self._new(now)
            status["updated"] = now
            status["slots"][self._name] = records.finite(self._slot)
            if recount or "trials" not in status:
                status |= records.finite(facts(self._study, self._plan, now))
            status["state"] = state_of(status, self._plan)
            if line_seconds is not None and now - status["announced"] >= line_seconds:
                status["announced"] = now
                said = line(status, now)
            durable_files.write_whole(self._folder / JSON_FILE, json.dumps(status) + "\n")
            durable_files.write_whole(self._folder / TEXT_FILE, text(status))
        return said

    def _load(self) -> dict[str, Any] | None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = json.loads((self._folder / JSON_FILE).read_text())
            return found if found.get("schema_version") == SCHEMA_VERSION else None
        return None

    def _new(self, now: float) -> dict[str, Any]:
        objective = self._plan["objective"]
        return {
            "schema_version": SCHEMA_VERSION,
            "sweep": self._plan["name"],
            "state": "running",
            "start": now,
            "updated": now,
            "announced": now,
            "controller": {"host": socket.gethostname(), "pid": os.getppid()},
            "objective": {"metric": objective["metric"], "direction": scoring.direction_of(objective)},
            "slots": {},
        }


def forget(sweep_dir: str | Path) -> None:
    """A run begins: what an earlier one left is not how this one goes."""
    for name in (JSON_FILE, TEXT_FILE):
        (Path(sweep_dir) / name).unlink(missing_ok=True)


def facts(study: optuna.Study, plan: Mapping[str, Any], now: float) -> dict[str, Any]:
    """What the study knows: ``{trials, best, trial_seconds, estimated_end, stopped, set_aside, broke_off}``.

    ``trials`` counts each point once, by its last attempt. Times are epoch seconds; ``estimated_end`` is None where
    nothing is left, or no trial of the sweep has ended yet.
    """
    hosts = StudyHosts(study, plan)
    aside, left = hosts.aside(), hosts.left()
    trials = list(study_sharing.latest_attempts(study).values())
    results = [trial.user_attrs["result"] for trial in trials if "result" in trial.user_attrs]
    unfinished = [trial for trial in trials if "result" not in trial.user_attrs]
    begun = [
        trial.user_attrs
        for trial in unfinished
        if trial.state == TrialState.RUNNING and trial.user_attrs.get("slot") not in left
    ]
    needs = [trial.user_attrs["point"].get("gpus") or 1 for trial in unfinished if "point" in trial.user_attrs]
    stopped = study.user_attrs.get("stopped") or study.user_attrs.get("exhausted")
    waiting = 0 if stopped else len(unfinished) - len(begun) + study_asking.to_ask(plan, study)
    counts = Counter(result["status"] for result in results)
    launched = [result["wall_seconds"] for result in results if result["wall_seconds"] > 0]
    trial_seconds = statistics.median(launched) if launched else None
    slots = [
        slot for slot in plan.get("slots") or [] if slot["name"] not in left and host_of(slot["name"]) not in aside
    ]
    return {
        "trials": {
            **{status: counts[status] for status in records.STATUSES},
            "running": len(begun),
            "waiting": waiting,
            "total": len(results) + len(begun) + waiting,
        },
        "best": _best(trials, scoring.direction_of(plan["objective"])),
        "trial_seconds": trial_seconds,
        "estimated_end": sweep_end.with_leases(now, begun, waiting, trial_seconds, needs=needs, slots=slots),
        "stopped": stopped,
        "set_aside": [{"host": name, "reason": reason} for name, reason in aside.items()],
        "broke_off": [{"slot": name, "reason": reason} for name, reason in left.items()],
    }


def _best(trials: Iterable[FrozenTrial], direction: str) -> dict[str, Any] | None:
    """As ``trial_ranking.rank`` has it, by what the study kept of the records."""
    sign = -1 if direction == "maximize" else 1
    found = []
    for trial in trials:
        point, result, score = trial.user_attrs["point"], trial.user_attrs.get("result"), trial.user_attrs.get("score")
        if result and result["eligible"] and score is not None and point.get("kind") != "control":
            found.append((sign * score, point["number"], result["value"], point["params"]))
    if not found:
        return None
    _score, number, value, params = min(found, key=lambda one: one[:2])
    return {"number": number, "value": value, "params": params}


def place_of(points: Sequence[Mapping[str, Any]], label: str) -> dict[str, Any]:
    """Which of a trial's workload points is measured: ``{point, index, count}``, the index from 1.

    A probe of find_max is called ``<point>:<load>``.
    """
    names = [point["point"] for point in points]
    index = next((at for at, name in enumerate(names, 1) if label == name or label.startswith(f"{name}:")), None)
    return {"point": label, "index": index, "count": len(names)}


def state_of(status: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """``ended`` once no slot works any more and none is still to come."""
    slots, trials = status["slots"], status["trials"]
    if not slots or any(slot["state"] != "ended" for slot in slots.values()):
        return "running"
    to_come = {slot["name"] for slot in plan.get("slots") or []} - set(slots)
    return "running" if to_come and (trials["running"] or trials["waiting"]) else "ended"


def line(status: Mapping[str, Any], now: float) -> str:
    """The sweep in one line."""
    best, end = status["best"], status["estimated_end"]
    said = [_counted(status["trials"])]
    said += [f"best {status['objective']['metric']} {best['value']:.4g} (trial {best['number']})"] if best else []
    said += [f"about {_span(end - now)} left"] if end else []
    return f"sweep {status['sweep']}: {'; '.join(said)}"


def text(status: Mapping[str, Any]) -> str:
    """The sweep on a page; times of day, as it is shown again and again until something changes."""
    best, end, stopped = status["best"], status["estimated_end"], status["stopped"]
    begun = f"{status['state']}, begun {_time(status['start'])}"
    lines = [f"sweep {status['sweep']} ({begun}): {_counted(status['trials'])}"]
    if best:
        params = ", ".join(f"{name}={value}" for name, value in best["params"].items()) or "the base configuration"
        lines.append(f"best: trial {best['number']}, {status['objective']['metric']} {best['value']:.4g} ({params})")
    lines += [f"ends about {_time(end)}, by the median trial of {_span(status['trial_seconds'])}"] if end else []
    lines += [f"the search ended early: {stopped}"] if stopped else []
    lines += [f"host {one['host']} was set aside: {one['reason']}" for one in status["set_aside"]]
    lines += [f"slot {one['slot']} broke off: {one['reason']}" for one in status["broke_off"]]
    rows = [("slot", "trial", "phase", "since")]
    for name, slot in sorted(status["slots"].items(), key=_natural):
        number = str(slot["trial"]["number"]) if slot["trial"] else ""
        rows.append((name, number, _phase(slot), _time(slot["since"])))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *table, "", f"last change {_time(status['updated'])}", ""])


def _counted(trials: Mapping[str, int]) -> str:
    ended = sum(trials[name] for name in ("complete", "failed", "pruned"))
    apart = ", ".join(f"{trials[name]} {name}" for name in ("failed", "pruned") if trials[name])
    said = f"{ended} of {trials['total'] - trials['infeasible']} trials ended{f' ({apart})' if apart else ''}"
    return f"{said}, {trials['running']} running, {trials['waiting']} waiting"


def _phase(slot: Mapping[str, Any]) -> str:
    phase = slot["phase"]
    if not phase:
        return slot["state"]
    place = f" {phase['point']} ({phase['index']} of {phase['count']})" if "point" in phase else ""
    return f"{phase['name']}{place}"


def _natural(item: tuple[str, Any]) -> list[tuple[str, int]]:
    """gpu2 before gpu10."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", f" {item[0]}")]


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _time(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
