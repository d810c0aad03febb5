# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A study in PostgreSQL, which several controllers share.

Optuna's RDBStorage keeps the trials. What a slot works on it holds by advisory locks of a session of its own, which the
server drops the moment the process, or within a minute its machine or the network, is gone: no heartbeat has to be
written, and no grace period be waited for. (Optuna's heartbeat serves ``Study.optimize`` alone.)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ansible_collections.preheat.fleet.plugins.plugin_utils import libraries
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, problem
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import LeaseLost, StudyError

with contextlib.suppress(ImportError):  # named by check_url before anything starts
    import psycopg
    from optuna.storages import BaseStorage, RDBStorage

VARIABLE = "sweep_storage"
SECRET_REMEDY = "Leave it out: libpq takes the password from the environment (PGPASSWORD) or from ~/.pgpass."
# How long a slot tries to reach the server again; a server that is restarted needs seconds.
RECONNECT_SECONDS = 120.0
# The study's lock is held for the moment of a claim; and up to a minute by a machine that is gone.
LOCK_SECONDS = 300
# A dead peer is noticed after a minute, by either side; and no firewall forgets a session that idles through a trial.
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_HELD = """
    SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_HOLDER = """
    SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND (classid::bigint << 32) | objid::bigint = %s
"""


def masked(url: str) -> str:
    """The URL without what may be a secret: of all before the last @ only the scheme and the user; no query."""
    before, at, host = url.partition("?")[0].rpartition("@")
    shown = re.match(r"(\w+://[\w.-]*)?", before)
    return (before if not shown or shown[0] == before else f"{shown[0]}:***") + at + host


def check_url(url: str) -> list[Problem]:
    """All that is wrong with ``sweep_storage`` before anything is connected to."""
    try:
        parts = urlsplit(url)
        known, _port = parts.scheme == "postgresql", parts.port
    except ValueError:
        known = False
    if not known or not parts.path.strip("/"):
        remedy = "Give postgresql://USER@HOST:PORT/DATABASE, or leave it out where one controller runs the sweep."
        return [problem(VARIABLE, masked(url), "is no URL of a PostgreSQL database.", remedy)]
    secret = [name for name, _value in parse_qsl(parts.query, keep_blank_values=True) if "password" in name.lower()]
    if parts.password is not None or secret:
        return [problem(VARIABLE, masked(url), "holds a password, which would be shown and kept.", SECRET_REMEDY)]
    if missing := libraries.missing(["psycopg"]):
        return [problem(VARIABLE, masked(url), f"needs {missing} ('psycopg[binary]').", libraries.REMEDY)]
    return []


def connect(url: str, name: str) -> psycopg.Connection[Any]:
    """A session, each statement a transaction of its own. Its name says in pg_stat_activity whose it is."""
    settings = {**{f"tcp_{key}": value for key, value in _KEEPALIVES.items()}, "lock_timeout": f"{LOCK_SECONDS}s"}
    options = " ".join(f"-c {key}={value}" for key, value in settings.items())
    whose = f"preheat {name} {socket.gethostname()} {os.getppid()}"
    parameters: dict[str, Any] = {**_KEEPALIVES, "connect_timeout": 10, "options": options, "application_name": whose}
    session = psycopg.connect(url, autocommit=True, **parameters)
    if session.info.server_version >= 140000:
        session.execute("SET idle_session_timeout = 0")
    return session


def storage_of(url: str) -> BaseStorage:
    """Optuna's storage; it makes its tables where there are none."""
    engine = {"pool_pre_ping": True, "pool_size": 1, "connect_args": {**_KEEPALIVES, "connect_timeout": 10}}
    return RDBStorage(url.replace("postgresql:", "postgresql+psycopg:", 1), engine_kwargs=engine)


class PostgresStore:
    """Session locks on the study, on slots and on trials. See ``study_store.Store``."""

    shared = True

    def __init__(self, url: str, study: str) -> None:
        self._url, self._study = url, study
        self._keys: set[int] = set()
        self._takes_part = False
        try:
            self._session = connect(url, study)
        except psycopg.OperationalError as exc:
            raise StudyError(f"{masked(url)} cannot be used: {' '.join(str(exc).split())}.") from exc

    def has_tables(self) -> bool:
        return self._one("SELECT to_regclass('studies') IS NOT NULL AND to_regclass('version_info') IS NOT NULL")

    def storage(self) -> BaseStorage:
        with self._locked(_key("", "schema", "")):  # of the database: two controllers may be the first at once
            return storage_of(self._url)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        self.confirm()
        return self._locked(self._key("claim"))

    def take_part(self) -> None:
        """As long as this process lives, nobody makes the study anew."""
        self._one("SELECT pg_advisory_lock_shared(%s)", self._key("part"))
        self._takes_part = True

    def is_driven(self) -> bool:
        """Whether a living slot, of whatever controller, takes part."""
        return self._key("part") in self._all_held()

    def check(self) -> None:
        """All that take part may claim."""

    def confirm(self) -> None:
        """Make sure of the session, as the locks live with it. A lost one is replaced if nobody has them meanwhile."""
        with contextlib.suppress(psycopg.OperationalError):
            self._one("SELECT 1")
            return
        self._reconnect()
        with self._locked(self._key("claim")):
            if self._takes_part:
                self.take_part()
            lost = [key for key in self._keys if not self._try(key)]
        if lost:
            raise LeaseLost(
                f"{masked(self._url)}: the session was lost, and another controller took over what this slot had."
            )

    def lease(self, slot: str) -> str:
        if self._hold(key := self._key("slot", slot)):
            return ""
        (holder,) = self._session.execute(_HOLDER, (key,)).fetchone() or ("",)
        return f"another controller drives it ({holder})"

    def leased(self, slots: Iterable[str]) -> set[str]:
        held = self._all_held()
        return {slot for slot in slots if self._key("slot", slot) in held}

    def hold(self, number: int) -> None:
        if not self._hold(self._key("trial", number)):
            raise StudyError(f"trial {number} is held by another slot")

    def release(self, number: int) -> None:
        key = self._key("trial", number)
        self._keys.discard(key)
        self._one("SELECT pg_advisory_unlock(%s)", key)

    def held(self, numbers: Iterable[int]) -> set[int]:
        held = self._all_held()
        return {number for number in numbers if self._key("trial", number) in held}

    def _hold(self, key: int) -> bool:
        if key not in self._keys and not self._try(key):
            return False
        self._keys.add(key)
        return True

    def _try(self, key: int) -> bool:
        return self._one("SELECT pg_try_advisory_lock(%s)", key)

    def _all_held(self) -> set[int]:
        return {key for (key,) in self._session.execute(_HELD)}

    @contextlib.contextmanager
    def _locked(self, key: int) -> Iterator[None]:
        try:
            self._one("SELECT pg_advisory_lock(%s)", key)
        except psycopg.errors.LockNotAvailable as exc:
            raise StudyError(f"{masked(self._url)}: the study was locked for {LOCK_SECONDS} s.") from exc
        try:
            yield
        finally:
            with contextlib.suppress(psycopg.OperationalError):  # a lost session has let go of it
                self._one("SELECT pg_advisory_unlock(%s)", key)

    def _one(self, query: str, *values: Any) -> Any:
        row = self._session.execute(query.encode(), values).fetchone()
        return row and row[0]

    def _reconnect(self) -> None:
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                self._session = connect(self._url, self._study)
                return
            except psycopg.OperationalError as exc:
                if time.monotonic() > deadline:
                    raise LeaseLost(f"{masked(self._url)}: {' '.join(str(exc).split())}") from exc
                time.sleep(1.0)

    def _key(self, kind: str, name: str | int = "") -> int:
        return _key(self._study, kind, name)


def _key(study: str, kind: str, name: str | int) -> int:
    """An advisory lock's number, 64 bits with sign: of texts, so that no table has to count them."""
    digest = hashlib.sha256(f"preheat/{study}/{kind}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
