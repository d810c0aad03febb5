# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the workers of one swarm meet: a folder of the controller.

Every worker writes only what is its host's own, each file at once by a rename, so that there is nothing to lock but
what happens once (the manifest, the choice of a seed). What a host is doing is known by its file, that its worker still
gets answers from it by the age of its heartbeat.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GATHER_SECONDS = 0.1
STALE_SECONDS = 20.0  # without a heartbeat, a host counts as gone until the next


class Rendezvous:
    def __init__(self, folder: Path | str, host: str, hosts: list[str], clock: Callable[[], float] = time.time):
        self._folder, self.host, self.hosts, self._clock = Path(folder), host, hosts, clock
        self._known: dict[str, tuple[int, dict[str, Any]]] = {}
        for part in ("members", "torrents", "contents"):
            (self._folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        with (self._folder / "lock").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the first worker that comes here makes, for all of them."""
        path = self._folder / f"{name}.json"
        with self.lock():
            if not path.exists():
                _write(path, json.dumps(make()).encode())
            return json.loads(path.read_text())

    def gather(self, name: str, facts: dict[str, Any], seconds: float) -> dict[str, dict[str, Any]]:
        """{host: facts}, once all hosts that are not gone have said theirs, or seconds have passed."""
        folder = self._folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder / self._member(self.host).name, json.dumps(facts).encode())
        until = time.monotonic() + seconds
        while True:
            paths = {host: folder / self._member(host).name for host in self.hosts}
            said = {host: path for host, path in paths.items() if path.exists()}
            if set(self.hosts) <= {*said, *self.gone()} or time.monotonic() > until:
                return {host: json.loads(path.read_bytes()) for host, path in said.items()}
            time.sleep(GATHER_SECONDS)

    # members

    def say(self, **facts: Any) -> None:
        """Facts about this worker's host: replaces what it said before."""
        _write(self._member(self.host), json.dumps(facts).encode())
        self.beat()

    def beat(self) -> None:
        self._member(self.host).with_suffix(".beat").touch()

    def members(self) -> dict[str, dict[str, Any]]:
        """{host: facts} of the hosts that have joined and are not gone, in the inventory's order."""
        return {host: facts for host, facts in self._all().items() if not facts.get("gone") and self._is_fresh(host)}

    def missing(self) -> list[str]:
        """Hosts that have neither joined nor given up."""
        said = self._all()
        return [host for host in self.hosts if host not in said]

    def gone(self) -> dict[str, str]:
        return {host: facts["gone"] for host, facts in self._all().items() if facts.get("gone")}

    def _all(self) -> dict[str, dict[str, Any]]:
        found = {}
        for host in self.hosts:
            path = self._member(host)
            try:
                changed = path.stat().st_mtime_ns
                if self._known.get(host, (0, {}))[0] != changed:
                    self._known[host] = (changed, json.loads(path.read_bytes()))
            except FileNotFoundError:
                continue
            found[host] = self._known[host][1]
        return found

    def _member(self, host: str) -> Path:
        return self._folder / "members" / f"{hashlib.sha256(host.encode()).hexdigest()[:16]}.json"

    def _is_fresh(self, host: str) -> bool:
        if host == self.host:
            return True
        return self._clock() - self._member(host).with_suffix(".beat").stat().st_mtime < STALE_SECONDS

    # what hosts hand each other

    def publish(self, kind: str, etag: str, data: bytes) -> None:
        """kind: torrents or contents. All makers make the same, so it does not matter who was first."""
        _write(self._folder / kind / etag, data)

    def published(self, kind: str) -> set[str]:
        return {name for name in os.listdir(self._folder / kind) if "." not in name}

    def read(self, kind: str, etag: str) -> bytes:
        return (self._folder / kind / etag).read_bytes()

    # the seed

    def seed(self, choose: Callable[[], str | None]) -> str | None:
        """The host that reads the Hub; if that one is gone, or cannot, choose() names another."""
        path = self._folder / "seed"
        with self.lock():
            current = path.read_text() if path.exists() else None
            facts = self.members().get(current or "")
            if facts and not facts.get("hub_error"):
                return current
            chosen = choose()
            if chosen:
                _write(path, chosen.encode())
            return chosen


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
