# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One host's part in a swarm: takes files from the Hub or from peers, checks them, lands them, shares them.

Every file is hashed against the manifest before it gets the name of a blob, wherever its bytes came from. The agent
decides nothing about the fleet: the controller says what to fetch, what to share, and with whom.
"""

from __future__ import annotations

import base64
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_fetch import new_partial_file, partial_file
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_pull import Https
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_session import Swarm
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_source import Source
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_torrent import FilePass
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_units import Unit, Units, etag_of, is_unit

INLINE_BYTES = 256 << 10  # smaller files travel over the controller: a torrent would cost more than the bytes
TICK_SECONDS = 0.1
ATTEMPTS = 2

ABSENT = "absent"
WAITING = "waiting"  # for the lock of its blob, which another process may have
FETCHING = "fetching"  # from the Hub
LEECHING = "leeching"
PULLING = "pulling"  # from a peer, as a whole
FLUSHING = "flushing"  # all pieces have come, but not all may be on the disk
CHECKING = "checking"
HAVE = "have"


@dataclass
class Item:
    """One blob of the snapshot on this host."""

    file: HubFile
    state: str = ABSENT
    torrent: bytes = b""
    target: Path = Path()
    lock: Any = None
    received: int = 0
    done: int = 0  # of those that are pulled
    units: dict[int, Unit] = field(default_factory=dict)
    attempts: int = 0


class Agent:
    def __init__(self, spec: dict):
        self.cache = RepoCache(spec["cache_dir"], spec["repo_id"])
        self.spec = spec
        files = [HubFile(**entry) for entry in spec["files"]]
        self.items = {file.etag: Item(file) for file in files}
        self._same: dict[str, list[HubFile]] = {etag: [] for etag in self.items}  # paths that share their content
        for file in files:
            self._same[file.etag].append(file)
        for etag in spec["have"]:
            self.items[etag].state = HAVE
        self.alone = spec["alone"]
        self.shared: set[str] = set()  # blobs whose bytes this agent has checked itself: peers may have them
        self.swarm: Any = None
        self.https = Https(self, spec)
        self.units = Units(self, spec["secret"])
        self._no_torrent = ""
        if not self.alone:
            self._open()
        self.changed = threading.Condition()
        self._made: list[dict] = []  # what the controller passes on: torrents and small files
        self._asked = time.monotonic()
        self._ended = threading.Event()
        self._error: dict | None = None
        self._hashing = ThreadPoolExecutor(2)
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
        if "peers" in request and self.swarm and self.swarm.allow([(host, port) for host, port in request["peers"]]):
            # One has left: if it was the seed, nobody else may have the last units.
            for item in self.items.values():
                if item.torrent:
                    self._leave_units(item)
        self.https.take(request)
        for etag, content in request.get("contents", {}).items():
            self._take_content(self.items[etag], base64.b64decode(content))
        for name, torrent in request.get("torrents", {}).items() if self.swarm else ():
            self._take_torrent(self.items[etag_of(name)], name, base64.b64decode(torrent))
        # From here on the Hub's part is over, or the seed's: all go on with torrents of whole files, if they know them.
        for etag in (*request.get("fetch", ()), *request.get("fill", ())):
            self._leave_units(self.items[etag])
        for etag in request.get("share", ()):
            if self.items[etag].state == HAVE:
                self._hashing.submit(self._guarded, self._share_own, self.items[etag])
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
            self._give_up(item)

    def _give_up(self, item: Item) -> None:
        self.units.drop(item)
        item.state = WAITING if item.torrent and self.swarm else ABSENT
        self._release(item)

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
            "serves": sorted(self.shared),
            "have": sorted(etag for etag, item in self.items.items() if item.state == HAVE),
            "made": self._made[version:],
            "seen": len(self._made),
            "bytes_done": done + self.source.bytes_under_way,
            "bytes_from_hub": self.source.bytes_read,
            "bytes_from_peers": received,
            "bytes_sent": sent,
            "error": self._error,
        }

    # files from peers, as a whole

    def can_pull(self, etag: str) -> bool:
        return self.items[etag].state == ABSENT

    def begin_pull(self, etag: str):
        """(item, whether pieces are to be hashed); None if another process has the file, or had it before."""
        with self.changed:
            item = self.items[etag]
            if item.state != ABSENT or not self.lock(item):
                return None
            if self._is_there(item):
                return None
            item.target, item.state = self._target(etag), PULLING
            return item, bool(self.swarm)

    def give_up_pull(self, item: Item) -> None:
        with self.changed:
            self._give_up(item)

    def shared_path(self, etag: str) -> Path | None:
        return self.cache.blobs / etag if etag in self.shared else None

    # files from the controller and from peers

    def _take_content(self, item: Item, content: bytes) -> None:
        if item.state == HAVE:
            return
        item.target = self._target(item.file.etag)
        item.target.write_bytes(content)
        found = FilePass(item.file, pieces=False)
        found.update(content)
        item.received += len(content)
        self._land_or_fail(item, found)

    def _begin_waiting(self) -> None:
        """Start on what waits for its lock; what another process has fetched meanwhile is taken as it is."""
        for item in self.items.values():
            if item.state != WAITING or not self.lock(item):
                continue
            if self._is_there(item):
                continue
            item.target = self._target(item.file.etag)
            if item.units:
                self.units.begin(item)
            else:
                self.swarm.add(item.file.etag, item.torrent, str(item.target), seed=False)
            item.state = LEECHING

    def _is_there(self, item: Item) -> bool:
        if not self.cache.blob(item.file).exists():
            return False
        item.state = CHECKING
        self._hashing.submit(self._guarded, self._adopt, item)
        return True

    def lock(self, item: Item) -> bool:
        """The lock that huggingface_hub takes for a blob. Never waited for."""
        import filelock

        lock = filelock.FileLock(str(self.cache.lock(item.file.etag)), timeout=0, mode=0o664, thread_local=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            return False
        item.lock = lock
        return True

    def _target(self, etag: str) -> Path:
        """Where a file grows: what a killed run has left of it, if there is some."""
        return partial_file(self.cache.blobs, etag) or new_partial_file(self.cache.blobs, etag)

    def _adopt(self, item: Item) -> None:
        """A blob that is there: right, or taken away."""
        blob = self.cache.blob(item.file)
        if FilePass(item.file, pieces=False).read(blob).is_right:
            self._have(item)
        else:
            blob.unlink()
            self._again(item)

    def _share_own(self, item: Item) -> None:
        """Seed a blob that was here before, once all its bytes are known to be right."""
        if item.file.etag in self.shared:
            return
        found = FilePass(item.file, pieces=bool(self.swarm)).read(self.cache.blob(item.file))
        with self.changed:
            if found.is_right:
                self.share(item, found)
            else:
                self.cache.blob(item.file).unlink()
                item.state = ABSENT
                self.changed.notify_all()

    def _check(self, item: Item) -> None:
        """All pieces have come and are on the disk."""
        found = FilePass(item.file, pieces=False).read(item.target)
        with self.changed:
            if found.is_right and item.units:
                self.units.place(item, self.cache.blob(item.file))
                if item.torrent:
                    self.swarm.add(item.file.etag, item.torrent, str(self.cache.blob(item.file)), seed=True)
                self._have(item)
            elif found.is_right:
                self.swarm.rename(item.file.etag, str(self.cache.blob(item.file)))
            else:
                self._again(item)

    def _again(self, item: Item) -> None:
        """Wrong bytes, although every piece was right: once more from nothing, then give up."""
        if self.swarm:
            self.swarm.remove(item.file.etag)
        if item.target.is_file():
            item.target.unlink()
        self._give_up(item)
        item.attempts += 1
        if item.attempts >= ATTEMPTS:
            item.state = ABSENT
            raise HubError(
                "wrong_bytes",
                f"{item.file.path} came from peers with bytes that do not have the hash the Hub lists.",
                "Check the memory and disk of this host and of the one that fetched the file; meanwhile use "
                "model_cache_source: hub.",
            )

    # landing

    def _land_or_fail(self, item: Item, found: FilePass) -> None:
        if not found.is_right:
            item.target.unlink(missing_ok=True)
            raise HubError("wrong_bytes", f"{item.file.path} came with wrong bytes.", "Run again.")
        item.target.replace(self.cache.blob(item.file))
        self._have(item)

    def land(self, item: Item, found: FilePass) -> None:
        """A file that is right and whole: a blob from now on, and shared."""
        with self.changed:
            self.units.share_last(item, found)
            self.units.place(item, self.cache.blob(item.file))
            self.share(item, found)
            self._have(item)

    def share(self, item: Item, found: FilePass) -> None:
        if self.alone:
            return
        etag, blob = item.file.etag, self.cache.blob(item.file)
        if item.file.size <= INLINE_BYTES:
            made = {"etag": etag, "content": base64.b64encode(blob.read_bytes()).decode()}
        elif not self.swarm:
            made = {"etag": etag}
        else:
            torrent = found.torrent(self.spec["secret"])
            self.swarm.add(etag, torrent, str(blob), seed=True)
            made = {"etag": etag, "torrent": base64.b64encode(torrent).decode()}
        self.shared.add(etag)
        self.made(made)

    def made(self, made: dict) -> None:
        with self.changed:
            self._made.append(made)
            self.changed.notify_all()

    def _have(self, item: Item) -> None:
        for file in self._same[item.file.etag]:
            self.cache.link(self.spec["commit"], file)
        with self.changed:
            item.state = HAVE
            self.shared.add(item.file.etag)
            self._release(item)
            self.changed.notify_all()

    def _release(self, item: Item) -> None:
        if item.lock:
            item.lock.release()
            item.lock = None

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
                self._guarded(self._on, event)
            with self.changed:
                self._guarded(self._begin_waiting)

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
                self._hashing.submit(self._guarded, self._check, item)
            elif event.kind == "renamed" and item.state == CHECKING:
                self._have(item)
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
            self._hashing.submit(self._guarded, self._check, item)

    def _guarded(self, call, *args) -> None:
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
            self._release(item)
