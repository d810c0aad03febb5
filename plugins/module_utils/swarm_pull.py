# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one host of a swarm takes from its peers over HTTPS, file by file, from whoever has one and is not busy.

As each host gives to two at a time, and begins to give what it has got, a file spreads as down a tree, and the next one
follows it: the rarest first, and among these each host another.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.preheat.fleet.plugins.module_utils import swarm_control, swarm_https
from ansible_collections.preheat.fleet.plugins.module_utils.hf_partial import held_ranges
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_torrent import FilePass

PULLS = 2  # files at the same time
BUSY_SECONDS = 0.2  # until peers that had no time are asked again
FAILED_SECONDS = 1.0


class DiskError(Exception):
    """This host's disk, and no peer, is at fault."""


@contextmanager
def _own_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(str(error)) from error


class Puller:
    """fail(error) tells the controller."""

    def __init__(self, landing, fail, context, limit: swarm_https.Limit, address: str):
        self._landing, self._fail = landing, fail
        self._context, self._limit, self._address = context, limit, address
        self._holders: dict[str, list[tuple[str, int]]] = {}
        self._liars: dict[str, set] = {}  # who gave wrong bytes of a file
        self._doubted: set[str] = set()
        self._under_way: set[str] = set()
        self._lock = threading.Lock()
        self._news, self._stopped = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []

    def take(self, holders: dict) -> None:
        """{etag: [[address, port]]}: who has what this host lacks, and shall be asked for it."""
        self._holders = {etag: [tuple(peer) for peer in peers] for etag, peers in holders.items()}
        while self._holders and len(self._threads) < PULLS:
            self._threads.append(threading.Thread(target=self._run, daemon=True))
            self._threads[-1].start()
        self._news.set()

    def stop(self) -> None:
        self._stopped.set()
        self._news.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            etag = self._choose()
            if etag is None:
                self._news.wait(BUSY_SECONDS)
                self._news.clear()
                continue
            try:
                pause = self._pull(etag)
            except Exception as error:
                self._fail(error)
                return
            finally:
                with self._lock:
                    self._under_way.discard(etag)
            self._stopped.wait(pause)

    def _choose(self) -> str | None:
        with self._lock:
            able = [
                etag
                for etag, peers in self._holders.items()
                if etag not in self._under_way and self._of_use(etag, peers) and self._landing.can_pull(etag)
            ]
            if not able:
                return None
            chosen = min(able, key=lambda etag: (len(self._holders[etag]), _rank(self._address, etag)))
            self._under_way.add(chosen)
            return chosen

    def _of_use(self, etag: str, peers) -> list[tuple[str, int]]:
        return [peer for peer in peers if peer not in self._liars.get(etag, ())]

    def _pull(self, etag: str) -> float:
        """Ask all who have it, until one has time; returns for how many seconds to leave peers alone then."""
        begun = self._landing.begin_pull(etag)
        if begun is None:
            return BUSY_SECONDS
        item, pieces = begun
        found = FilePass(item.file, pieces)
        if item.target.exists():
            _keep_start(item)
            found.read(item.target)
        givers: set[tuple[str, int] | None] = {None} if found.size else set()
        pause = BUSY_SECONDS
        peers = self._of_use(etag, self._holders.get(etag, ()))
        for peer in random.sample(peers, len(peers)):
            if self._stopped.is_set() or found.size >= item.file.size:
                break
            before = found.size
            try:
                self._read(peer, item, found)
            except swarm_https.Busy:
                continue
            except OSError:
                pause = FAILED_SECONDS
            if found.size > before:
                givers.add(peer)
        if found.is_right:
            self._landing.land(item, found)
            return 0.0
        if found.size >= item.file.size:
            item.target.unlink()
            self._doubt(etag, givers)
        self._landing.give_up_pull(item)  # what has come stays: the next peer goes on from there
        return pause

    def _read(self, peer: tuple[str, int], item, found: FilePass) -> None:
        with _own_disk():
            stream = item.target.open("ab")

        def write(data: bytes) -> None:
            with _own_disk():
                stream.write(data)
            found.update(data)
            item.received, item.done = item.received + len(data), found.size

        etag = item.file.etag
        try:
            swarm_https.read(
                peer, etag, found.size, source=self._address, context=self._context, limit=self._limit, write=write
            )
        finally:
            with _own_disk():
                stream.close()

    def _doubt(self, etag: str, givers: set) -> None:
        """Wrong bytes: the one who gave all of them is not asked again, nor all of those who did it twice."""
        if len(givers) == 1 or etag in self._doubted:
            self._liars.setdefault(etag, set()).update(givers)
        self._doubted.add(etag)


class Https:
    """The agent's part in the exchange of whole files: opened when it is told that some host needs it."""

    def __init__(self, landing, fail, spec: dict):
        self._landing, self._fail, self._spec = landing, fail, spec
        self._server: swarm_https.Server | None = None
        self._puller: Puller | None = None
        self._peers: list[str] = []

    def open(self) -> None:
        if self._server:
            return
        spec = self._spec
        server, client = swarm_https.contexts(spec["identity"], swarm_control.folder())
        up, down = (swarm_https.Limit(spec[f"{way}_bytes_per_second"]) for way in ("upload", "download"))
        port = spec["port"] + 1 if spec["port"] else 0  # the port itself is libtorrent's
        self._server = swarm_https.Server(spec["address"], port, server, self._landing.shared_path, up)
        self._server.allow(self._peers)
        self._puller = Puller(self._landing, self._fail, client, down, spec["address"])

    def take(self, request: dict) -> None:
        if request.get("serve_https"):
            self.open()
        if "peers" in request:
            self._peers = [address for address, _port in request["peers"]]
            if self._server:
                self._server.allow(self._peers)
        if self._puller and "holders" in request:
            self._puller.take(request["holders"])

    @property
    def port(self) -> int:
        return self._server.port if self._server else 0

    @property
    def bytes_sent(self) -> int:
        return self._server.bytes_sent if self._server else 0

    def stop(self) -> None:
        if self._puller:
            self._puller.stop()


def _keep_start(item) -> None:
    """Files come from their start to their end here; others may have left a part with holes."""
    with item.target.open("r+b") as stream:
        held = held_ranges(stream.fileno(), item.file.size)
        stream.truncate(held[0][1] if held and held[0][0] == 0 else 0)


def _rank(name: str, etag: str) -> str:
    """Another order for every host."""
    return hashlib.sha256(f"{name} {etag}".encode()).hexdigest()
