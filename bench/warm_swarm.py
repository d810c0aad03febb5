"""A swarm on the fleet of bench/warm_fleet.py: the workers that the action plugin runs as forks are threads here."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / ".collections"))

from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_identity, swarm_manifest
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import Rendezvous
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_worker import Worker


@dataclass
class Outcome:
    """What the workers said: a report or an error for each host, and seconds to each host's complete files."""

    reports: dict = field(default_factory=dict)
    errors: dict = field(default_factory=dict)
    seconds: float = 0.0
    lines: list = field(default_factory=list)


class SwarmRun:
    def __init__(self, fleet, repo: str, hosts=None, transport: str = "auto", **settings):
        self.fleet, self.repo, self.outcome = fleet, repo, Outcome()
        self.hosts = hosts or fleet.hosts
        self.manifest = swarm_manifest.resolve(repo, "main", endpoint=fleet.endpoint)
        self._settings, self._begin = settings, 0.0
        self.folder = tempfile.mkdtemp(prefix="rendezvous-", dir=fleet.folder)
        self._run, self._secret, self._identity = uuid.uuid4().hex, uuid.uuid4().hex, swarm_identity.make()
        self._transport = transport
        self._threads: list[threading.Thread] = []

    def request(self, host) -> dict:
        return {
            "repo_id": self.repo, "revision": "main", "cache_dir": str(host.cache), "verify": "size", "retries": 3,
            "connections": 4, "min_free_bytes": 0, "address": host.address, "candidates": [], "run": self._run,
            "secret": self._secret, "port": 0, "upload_bytes_per_second": 0, "download_bytes_per_second": 0,
            "lease_seconds": 60, "identity": self._identity, "torrent": self._transport == "auto",
        }  # fmt: skip

    def start(self) -> SwarmRun:
        self._begin = time.monotonic()
        names = [host.name for host in self.hosts]
        for host in self.hosts:
            self._threads.append(threading.Thread(target=self._work, args=(host, names), daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def _work(self, host, names: list[str]) -> None:
        meet = Rendezvous(self.folder, host.name, names)
        worker = Worker(
            meet, self.manifest, host.call, request=self.request(host), endpoint=self.fleet.endpoint,
            say=lambda text: self.outcome.lines.append((self.elapsed, host.name, text)), **self._settings,
        )  # fmt: skip
        try:
            self.outcome.reports[host.name] = {**worker.run(), "at": self.elapsed}
        except Exception as error:
            self.outcome.errors[host.name] = error

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begin

    def members(self) -> dict:
        return Rendezvous(self.folder, "", [host.name for host in self.hosts]).members()

    def seed(self) -> str | None:
        path = Path(self.folder) / "seed"
        return path.read_text() if path.exists() else None

    def progress(self) -> float:
        """How much of the model the Hub has given, 0 to 1."""
        total = sum(swarm_manifest.sizes(self.manifest).values())
        return self.fleet.hub_bytes(self.repo) / total

    def wait(self, timeout_seconds: float = 300) -> Outcome:
        for thread in self._threads:
            thread.join(timeout_seconds)
        self.outcome.seconds = self.elapsed
        return self.outcome


def wrong_blobs(fleet, repo: str, hosts=None) -> int:
    """Blobs whose bytes do not have the hash that is their name, and files of the model that a snapshot lacks."""
    wrong = 0
    for host in hosts or fleet.hosts:
        cache = host.cache / ("models--" + repo.replace("/", "--"))
        snapshots = list((cache / "snapshots").glob("*")) if cache.exists() else []
        wrong += not snapshots
        for snapshot in snapshots:
            for source in (fleet.root / repo).rglob("*"):
                held = snapshot / source.relative_to(fleet.root / repo)
                if source.is_file() and not (held.is_file() and _digest(held) == _digest(source)):
                    wrong += 1
    return wrong


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
