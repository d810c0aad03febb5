# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the slots of a sweep meet: Optuna's storage, and locks that are gone the moment their holder dies.

Two stores with the same methods: files of the sweep's folder for one controller, PostgreSQL (``study_postgresql``) for
several.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, study_postgresql, sweep_owner
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import FileLock

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    from optuna.storages import BaseStorage
    from optuna.storages.journal import JournalFileBackend, JournalStorage


class Store(Protocol):
    """What a study needs beside Optuna. ``shared``: whether other controllers may take part."""

    shared: bool

    def storage(self) -> BaseStorage: ...

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """The study's lock, one holder at a time."""

    def check(self) -> None:
        """Raise StudyError unless this run may go on claiming."""

    def confirm(self) -> None:
        """Raise LeaseLost unless this slot still has what it holds."""

    def lease(self, slot: str) -> str:
        """Make a slot of a host this controller's; else returns who has it."""

    def leased(self, slots: Iterable[str]) -> set[str]:
        """Those slots that a controller drives now."""

    def hold(self, number: int) -> None:
        """Hold a trial, by its number, until it is released or this process ends."""

    def release(self, number: int) -> None: ...

    def held(self, numbers: Iterable[int]) -> set[int]:
        """Those trials that a living slot works on."""


class JournalStore:
    """Files of the sweep's folder: Optuna's journal, flock, and ``owner.json``, as one controller drives the sweep."""

    shared = False

    def __init__(self, folder: Path, controller_pid: int | None = None) -> None:
        self._folder, self._controller_pid = folder, controller_pid or os.getppid()
        self._held: dict[int, FileLock] = {}

    def storage(self) -> BaseStorage:
        # Optuna exports no class that the lock could be derived from.
        lock: Any = FileLock(self._folder / "study.journal.lock")
        return JournalStorage(JournalFileBackend(str(self._folder / "study.journal"), lock_obj=lock))

    def lock(self) -> contextlib.AbstractContextManager[None]:
        return FileLock(self._folder / "claim.lock")

    def check(self) -> None:
        sweep_owner.check_owned(self._folder, self._controller_pid)

    def confirm(self) -> None:
        """Nobody takes a lock from a process that lives."""

    def lease(self, slot: str) -> str:
        return ""

    def leased(self, slots: Iterable[str]) -> set[str]:
        return set(slots)

    def hold(self, number: int) -> None:
        self._held[number] = FileLock(records.point_file(self._folder, number))
        self._held[number].acquire()

    def release(self, number: int) -> None:
        self._held.pop(number).release()

    def held(self, numbers: Iterable[int]) -> set[int]:
        return {number for number in numbers if FileLock(records.point_file(self._folder, number)).is_held()}


def store_of(plan: Mapping[str, Any], folder: Path, controller_pid: int | None = None) -> Store:
    """The store that a plan names (``storage``, a URL; none: the sweep's folder)."""
    if url := plan.get("storage"):
        return study_postgresql.PostgresStore(url, folder.name)
    return JournalStore(folder, controller_pid)
