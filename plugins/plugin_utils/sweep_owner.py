# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which run of ansible-playbook drives a sweep: one at a time, and a dead one is succeeded."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.preheat.fleet.plugins.plugin_utils import durable_files

OWNER_FILE = "owner.json"
OWNED_REMEDY = "Wait for it, or choose another sweep_name."


class StudyError(AnsibleError):
    """The sweep's folder cannot be used for a run."""


class LeaseLost(StudyError):
    """Another controller may have taken over what this slot works on: its results do not count."""


class FileLock:
    """flock: unlike Optuna's lock files it is gone the moment its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: Any = None

    def acquire(self) -> bool:
        self._stream = open(self._path, "a")  # noqa: SIM115 - held until release
        fcntl.flock(self._stream, fcntl.LOCK_EX)
        return True

    def is_held(self) -> bool:
        """Whether anybody holds it now."""
        with open(self._path, "a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def release(self) -> None:
        self._stream.close()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_exc: object) -> None:
        self.release()


def own(folder: Path, storage: str | None = None) -> None:
    """Make this run of ansible-playbook the only one that drives the sweep, or one of those that share ``storage``."""
    with FileLock(folder / "claim.lock"):
        if other := other_owner(folder, storage):
            raise StudyError(f"sweep_name = {folder.name!r}: {other} {OWNED_REMEDY}")
        owner = {"storage": storage} if storage else _owner(os.getppid())
        durable_files.write_durably(folder / OWNER_FILE, json.dumps(owner) + "\n")


def other_owner(folder: Path, storage: str | None = None) -> str | None:
    """Which other run drives the sweep, as a sentence; None if none does that does not share ``storage``."""
    file, me = folder / OWNER_FILE, _owner(os.getppid())
    try:
        owner = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    if shared := owner.get("storage"):
        if shared == storage:
            return None
        return f"controllers that share it by sweep_storage: {shared} run this sweep (if none does, delete {file})."
    same_machine = owner["controller"] == me["controller"]
    if owner == me or (same_machine and _process_start(owner["pid"]) != owner["started"]):
        return None
    where = "" if same_machine else f" on {owner['controller']} (if that one is gone, delete {file})"
    return f"another controller (process {owner['pid']}{where}) runs this sweep."


def _owner(pid: int) -> dict[str, Any]:
    return {"controller": socket.gethostname(), "pid": pid, "started": _process_start(pid)}


def check_owned(folder: Path, pid: int) -> None:
    """Raise StudyError unless the run of process ``pid`` still drives the sweep."""
    file = folder / OWNER_FILE
    if json.loads(file.read_text())["pid"] != pid:
        raise StudyError(f"{file}: another run of the sweep has taken over.")


def _process_start(pid: int) -> str:
    """When a process began, so that a reused number is not taken for it; empty if it is gone."""
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()
