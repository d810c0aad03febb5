# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A trial's record: its shape, and how it gets to disk and back without ever being half there."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.preheat.fleet.plugins.plugin_utils import durable_files

SCHEMA_VERSION = 1
STATUSES = ("complete", "failed", "pruned", "infeasible")
PHASES = (
    "model_fetch",
    "weights_preload",
    "launching",
    "image_pull",
    "container_create",
    "engine_start",
    "weights_load",
    "kv_cache",
    "graph_capture",
    "server_warmup",
    "ready",
    "benchmark",
    "teardown",
    "unattributed",
)
# What a trial is for: points of the search, and the baseline again to measure the hosts.
KINDS = ("search", "baseline", "enqueued", "control")
RECORD_FILE = "trial.json"
# What a number was given to, written when it is claimed for the first time.
POINT_FILE = "point.json"

# Every field of a record with the value of a trial of which nothing is known yet, in the order they are written.
_FIELDS: dict[str, Any] = {
    "schema_version": SCHEMA_VERSION,
    "sweep": "",
    "number": 0,
    "kind": "search",
    "attempt": 1,
    "params": {},
    "server_parameters": {},
    "status": "failed",
    "error": None,
    "slot": {"name": None, "members": []},
    "image": {"name": None, "digest": None},
    "model": {"repo_id": None, "revision": None, "commit": None},
    "command": [],
    "versions": {},
    "start": None,
    "end": None,
    "wall_seconds": 0.0,
    "host_clock_offset_seconds": None,
    "phases": [],
    "cache": {
        "weights_rung": None,
        "resident_fraction_before": None,
        "resident_fraction_after": None,
        "disk_read_bytes": None,
        "weight_cache": None,
        "jit": None,
        "hub_bytes": None,
    },
    "workloads": [],
    "objective": None,
    "slo": [],
    "eligible": False,
    "ineligible_reasons": [],
}
_REQUIRED = (
    "schema_version",
    "sweep",
    "number",
    "params",
    "status",
    "phases",
    "workloads",
)
_OPTIONAL_MAPPINGS = ("error", "objective")


class RecordError(AnsibleError):
    """A record that cannot be written as it is, or a file that is not a record."""


def new_record(**fields: Any) -> dict[str, Any]:
    """A complete record with C(fields) filled in; an unknown field is an error."""
    unknown = sorted(set(fields) - set(_FIELDS))
    if unknown:
        raise RecordError(f"a trial's record has no field {', '.join(unknown)}. Known: {', '.join(_FIELDS)}.")
    return json.loads(json.dumps(_FIELDS)) | fields


def finite(value: Any) -> Any:
    """The same value with NaN and infinities, which JSON does not have, as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def finish_phases(phases: Iterable[Mapping[str, Any]], wall_seconds: float) -> list[dict[str, Any]]:
    """The phases in their order, with the time that none of them covers as C(unattributed).

    Overlapping phases are counted once, so that an overlap cannot hide time that nobody accounts for.
    """
    known = [dict(phase) for phase in phases if phase.get("name") != "unattributed"]
    if problems := [problem for phase in known if (problem := _phase_problem(phase))]:
        raise RecordError(f"phases that cannot be recorded: {'; '.join(problems)}.")
    known.sort(key=lambda phase: (PHASES.index(phase["name"]), phase["start"]))
    covered, reached = 0.0, 0.0
    for start, end in sorted((phase["start"], phase["start"] + phase["seconds"]) for phase in known):
        covered += max(0.0, min(end, wall_seconds) - max(start, reached))
        reached = max(reached, end)
    left_over = round(max(0.0, wall_seconds - covered), 6)
    return [*known, {"name": "unattributed", "start": 0.0, "seconds": left_over}]


def problems_of(record: Any) -> list[str]:
    """What keeps C(record) from being a record of this schema; empty if nothing does."""
    if not isinstance(record, Mapping):
        return [f"is a {type(record).__name__}, not a mapping"]
    if record.get("schema_version") != SCHEMA_VERSION:
        return [f"has schema_version {record.get('schema_version')!r}; this preheat reads {SCHEMA_VERSION}"]
    problems = [f"lacks {name}" for name in _REQUIRED if name not in record]
    for name, empty in _FIELDS.items():
        optional = name in _OPTIONAL_MAPPINGS
        wanted = dict if optional else type(empty)
        if name not in record or wanted not in (dict, list) or (optional and record[name] is None):
            continue
        if not isinstance(record[name], wanted):
            problems.append(f"{name} is {record[name]!r}, not a {wanted.__name__}")
    if problems:
        return problems
    if not isinstance(record["number"], int) or isinstance(record["number"], bool) or record["number"] < 0:
        problems.append(f"number is {record['number']!r}, not a whole number >= 0")
    if record["status"] not in STATUSES:
        problems.append(f"status is {record['status']!r}. Allowed: {', '.join(STATUSES)}")
    problems += [problem for phase in record["phases"] if (problem := _phase_problem(phase))]
    problems += [
        f"a workload is {item!r}, not a mapping" for item in record["workloads"] if not isinstance(item, Mapping)
    ]
    return problems


def _phase_problem(phase: Any) -> str | None:
    if not isinstance(phase, Mapping) or phase.get("name") not in PHASES:
        return f"phase {phase!r} is none of {', '.join(PHASES)}"
    for key in ("start", "seconds"):
        value = phase.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"phase {phase['name']} has {key} {value!r}, not a number"
    return None


def trials_dir(sweep_dir: str | os.PathLike[str]) -> Path:
    return Path(sweep_dir) / "trials"


def trial_dir(sweep_dir: str | os.PathLike[str], number: int) -> Path:
    return trials_dir(sweep_dir) / f"{number:04d}"


def write_trial(
    sweep_dir: str | os.PathLike[str],
    record: Mapping[str, Any],
    files: Mapping[str, str | bytes] | None = None,
) -> Path:
    """Write C(files), then the record, durably; the record's presence means that all of it is there."""
    strict = finite(record)
    if problems := problems_of(strict):
        raise RecordError(f"the record of trial {record.get('number')} cannot be written: {'; '.join(problems)}.")
    folder = trial_dir(sweep_dir, record["number"])
    durable_files.make_folder(folder)
    for name, content in (files or {}).items():
        if name != os.path.basename(name) or name in ("", ".", "..", RECORD_FILE, POINT_FILE):
            raise RecordError(
                f"{name!r} cannot lie beside the record of trial {record['number']}: give a plain file name."
            )
        durable_files.write_durably(folder / name, content)
    path = folder / RECORD_FILE
    durable_files.write_durably(path, json.dumps(strict, indent=1, allow_nan=False) + "\n")
    return path


def write_point(sweep_dir: str | os.PathLike[str], point: Mapping[str, Any]) -> None:
    """Pin a point to its number, durably, before anything is done for it; a rerun gives it no other."""
    folder = trial_dir(sweep_dir, point["number"])
    durable_files.make_folder(folder)
    durable_files.write_durably(point_file(sweep_dir, point["number"]), json.dumps(point) + "\n")


def point_file(sweep_dir: str | os.PathLike[str], number: int) -> Path:
    """Locked by the slot that works on the trial, as long as it does."""
    return trial_dir(sweep_dir, number) / POINT_FILE


def withdraw_trial(sweep_dir: str | os.PathLike[str], number: int, attempt: int) -> None:
    """Put a record aside under the attempt's name: the trial has no result any more and will run again."""
    folder = trial_dir(sweep_dir, number)
    os.replace(folder / RECORD_FILE, folder / f"trial-attempt-{attempt}.json")
    durable_files.sync_folder(folder)


def load_points(sweep_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The points that have a number, whether their trials have ended or not. What cannot be read was never begun."""
    loaded = []
    for path in sorted(trials_dir(sweep_dir).glob(f"*/{POINT_FILE}")):
        with contextlib.suppress(OSError, ValueError):
            loaded.append(json.loads(path.read_text(encoding="utf-8")))
    return loaded


def load_trials(sweep_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every finished trial by number. A folder without a record is a trial under way; a bad record is an error."""
    loaded, problems = [], []
    for path in sorted(trials_dir(sweep_dir).glob(f"*/{RECORD_FILE}")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"{path}: cannot be read as JSON: {error}")
            continue
        bad = problems_of(record)
        if not bad and path.parent.name != f"{record['number']:04d}":
            bad = [f"is the record of trial {record['number']} in the folder of another"]
        problems += [f"{path}: {problem}" for problem in bad]
        loaded.append(record)
    if problems:
        raise RecordError(
            "trial records that cannot be used:\n  "
            + "\n  ".join(problems)
            + "\nRestore them, or move their folders away to have these trials run again."
        )
    return sorted(loaded, key=lambda record: record["number"])
