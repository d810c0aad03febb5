# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One host's part in a swarm: takes files from the Hub or from peers, checks them, lands them, shares them.

The agent decides nothing about the fleet: the controller says what to fetch, what to share, and with whom.
"""

from __future__ import annotations

import base64
import threading
import time
import traceback
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_item import (
    ABSENT,
    CHECKING,
    FLUSHING,
    HAVE,
    LEECHING,
    PULLING,
    WAITING,
    Item,
)
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_landing import Landing
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_pull import Https
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_session import Swarm
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_source import Source
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_units import Units, etag_of, is_unit

TICK_SECONDS = 0.1


class Agent:
    def __init__(self, spec: dict):
        self.cache = RepoCache(spec["cache_dir"], spec["repo_id"])
        self.spec = spec
        files = [HubFile(**entry) for entry in spec["files"]]
        self.items = {file.etag: Item(file) for file in files}
        for etag in spec["have"]:
            self.items[etag].state = HAVE
        self.alone = spec["alone"]
        self.swarm: Any = None
        self.landing = Landing(self, files)
        self.https = Https(self.landing, self.fail, spec)
        self.units = Units(self, spec["secret"])
        self._no_torrent = ""
        if not self.alone:
            self._open()
        self.changed = threading.Condition()
        self._made: list[dict] = []  # what the controller passes on: torrents and small files
        self._asked = time.monotonic()
        self._ended = threading.Event()
        self._error: dict | None = None
        self.source = Source(self)
        self.cache.blobs.mkdir(parents=True, exist_ok=True)
        self.cache.locks.mkdir(parents=True, exist_ok=True)

    def _open(self) -> None:
        """Peers reach this host by libtorrent, and where that cannot be, by HTTPS alone."""
        spec = self.spec
        try:
            if spec["torrent"]:
                limits = spec["upload_bytes_per_second"], spec["download_bytes_per_second"]
                self.swarm = Swarm(spec["address"], spec["port"], *limits)
        except ImportError as error:
            self._no_torrent = str(error)
        if not self.swarm:
            self.https.open()

    # asked by the controller

    def introduce(self) -> dict:
        return {"port": self.swarm.port() if self.swarm else 0, "no_torrent": self._no_torrent}

    def answer(self, request: dict) -> dict:
        self._asked = time.monotonic()
        if request.get("stop"):
            self.end()
        try:
            with self.changed:
                self._take(request)
        except Exception as error:
            self.fail(error)
        version = request.get("seen", 0)
        with self.changed:
            self.changed.wait_for(
                lambda: len(self._made) > version or self._error or self.complete, request.get("wait_seconds", 0)
            )
            return self._report(version)

    def _take(self, request: dict) -> None:
        if "peers" in request and self.swarm and self.swarm.allow([tuple(peer) for peer in request["peers"]]):
            # One has left: if it was the seed, nobody else may have the last units.
            for item in self.items.values():
                if item.torrent:
                    self._leave_units(item)
        self.https.take(request)
        for etag, content in request.get("contents", {}).items():
            self.landing.take_content(self.items[etag], base64.b64decode(content))
        for name, torrent in request.get("torrents", {}).items() if self.swarm else ():
            self._take_torrent(self.items[etag_of(name)], name, base64.b64decode(torrent))
        # From here on the Hub's part is over, or the seed's: all go on with torrents of whole files, if they know them.
        for etag in (*request.get("fetch", ()), *request.get("fill", ())):
            self._leave_units(self.items[etag])
        for etag in request.get("share", ()):
            if self.items[etag].state == HAVE:
                self.landing.share_own(self.items[etag])
        self.source.take(request)
        self._begin_waiting()

    def _take_torrent(self, item: Item, name: str, torrent: bytes) -> None:
        if not is_unit(name):
            item.torrent = torrent
        elif item.units if item.state == LEECHING or item.torrent else item.state in (ABSENT, WAITING):
            self.units.take(item, name, torrent, is_fetched=item.state == LEECHING)
        if item.state == ABSENT:
            item.state = WAITING

    def _leave_units(self, item: Item) -> None:
        """What has come stays where it is."""
        if item.units and item.state in (WAITING, LEECHING):
            self.landing.give_up(item)

    @property
    def complete(self) -> bool:
        return all(item.state == HAVE for item in self.items.values())

    def _report(self, version: int) -> dict:
        sizes = {etag: item.file.size for etag, item in self.items.items()}
        done, sent = sum(sizes[etag] for etag, item in self.items.items() if item.state == HAVE), self.https.bytes_sent
        received = 0
        for etag, item in self.items.items():
            for name in (etag, *(unit.name for unit in item.units.values())):
                if not self.swarm or not self.swarm.has(name):
                    continue
                progress = self.swarm.progress(name)
                sent += progress["sent"]
                received += progress["received"]
                done += progress["done"] if item.state in (LEECHING, FLUSHING, CHECKING) else 0
            received += item.received
            done += item.done if item.state == PULLING else 0
        return {
            "https_port": self.https.port,
            "serves": sorted(self.landing.shared),
            "have": sorted(etag for etag, item in self.items.items() if item.state == HAVE),
            "made": self._made[version:],
            "seen": len(self._made),
            "bytes_done": done + self.source.bytes_under_way,
            "bytes_from_hub": self.source.bytes_read,
            "bytes_from_peers": received,
            "bytes_sent": sent,
            "error": self._error,
        }

    def _begin_waiting(self) -> None:
        """Start on what waits for its lock; what another process has fetched meanwhile is taken as it is."""
        for item in self.items.values():
            if item.state != WAITING or not self.landing.claim(item):
                continue
            if item.units:
                self.units.begin(item)
            else:
                self.swarm.add(item.file.etag, item.torrent, str(item.target), seed=False)
            item.state = LEECHING

    def made(self, made: dict) -> None:
        with self.changed:
            self._made.append(made)
            self.changed.notify_all()

    # running

    def run(self) -> None:
        """Until it is told to stop, or nobody has asked for the length of the lease."""
        while not self._ended.is_set():
            if time.monotonic() - self._asked > self.spec["lease_seconds"]:
                self.end()
            events = self.swarm.events(TICK_SECONDS) if self.swarm else []
            if not self.swarm:
                self._ended.wait(TICK_SECONDS)
            for event in events:
                self.guarded(self._on, event)
            with self.changed:
                self.guarded(self._begin_waiting)

    def _on(self, event) -> None:
        with self.changed:
            item = self.items[etag_of(event.etag)]
            if is_unit(event.etag):
                self._on_unit(item, event)
            elif event.kind == "finished" and item.state == LEECHING:
                item.state = FLUSHING
                self.swarm.flush(event.etag)
            elif event.kind == "flushed" and item.state == FLUSHING:
                item.state = CHECKING
                self.landing.check(item)
            elif event.kind == "renamed" and item.state == CHECKING:
                self.landing.have(item)
            elif event.kind == "error":
                raise OSError(event.message)

    def _on_unit(self, item: Item, event) -> None:
        if event.kind == "error":
            raise OSError(event.message)
        if event.kind == "renamed":
            self.units.renamed(event.etag)
        elif event.kind == "finished" and item.state == LEECHING:
            self.swarm.flush(event.etag)
        elif event.kind == "flushed" and item.state == LEECHING and self.units.has_all(item, event.etag):
            item.state = CHECKING
            self.landing.check(item)

    def guarded(self, call, *args) -> None:
        try:
            call(*args)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Told to the controller with the next answer; the first error counts."""
        said = {"reason": "agent", "message": f"{type(error).__name__}: {error}", "remedy": "", "traceback": ""}
        if isinstance(error, HubError):
            said.update(reason=error.reason, message=error.message, remedy=error.remedy)
        else:
            said["traceback"] = "".join(traceback.format_exception(None, error, error.__traceback__))
        with self.changed:
            self._error = self._error or said
            self.changed.notify_all()

    def end(self) -> None:
        self._ended.set()
        self.https.stop()
        self.source.stop()

    def close(self) -> None:
        """What is incomplete stays on the disk for the next run, without a lock."""
        self.units.close()
        for item in self.items.values():
            self.landing.release(item)
