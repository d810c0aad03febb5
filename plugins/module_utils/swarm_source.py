# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one host of a swarm fetches from the Hub: whole files as the seed, single pieces when it took over from one."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.hf_fetch import (
    STALL_SECONDS,
    Cancelled,
    Fetcher,
)
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient
from ansible_collections.preheat.fleet.plugins.module_utils.hf_partial import file_to_fill
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_item import FETCHING, LEECHING, WAITING

AHEAD = 3  # files that are queued behind the one that is being finished
SETTLE_SECONDS = 1.5  # until peers have said what they have, before the Hub is asked for what nobody has
LOOK_SECONDS = 0.5
PIECES_AT_ONCE = 16
WRITE_SECONDS = 0.1  # until pieces that were given count as had


class Source:
    def __init__(self, agent):
        self._agent = agent
        self._fetcher: Any = None
        self._wanted: set[str] = set()
        self._count_lock = threading.Lock()
        self._stopped = threading.Event()
        self.bytes_read = 0
        self._landed = 0

    @property
    def bytes_under_way(self) -> int:
        return max(0, self.bytes_read - self._landed)

    def take(self, request: dict) -> None:
        """fetch: files that nobody has, in the order to fetch them; fill: files of which peers have pieces."""
        files = [etag for etag in request.get("fetch", ()) if etag not in self._wanted]
        pieces = [etag for etag in request.get("fill", ()) if etag not in self._wanted]
        if not files and not pieces:
            return
        if not self._fetcher:
            spec = self._agent.spec
            fallbacks = spec.get("fallback_endpoints") or ()
            hub = HubClient(request.get("endpoint"), request.get("token"), spec["retries"], fallbacks=fallbacks)
            self._fetcher = Fetcher(
                hub,
                spec["repo_id"],
                spec["commit"],
                connections=spec["connections"],
                count=self._count,
                stall_seconds=spec.get("stall_seconds") or STALL_SECONDS,
            )
        self._wanted.update(files, pieces)
        for work, etags in ((self._fetch_all, files), (self._fill_all, pieces)):
            if etags:
                threading.Thread(target=self._guarded, args=(work, etags), daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        if self._fetcher:
            self._fetcher.stop()

    def _count(self, size: int) -> None:
        with self._count_lock:
            self.bytes_read += size

    def _guarded(self, work, etags: list[str]) -> None:
        try:
            work(etags)
        except Cancelled:
            return
        except Exception as error:
            if not self._stopped.is_set():
                self._agent.fail(error)

    # whole files

    def _fetch_all(self, etags: list[str]) -> None:
        waiting = deque(etags)
        begun: deque = deque()
        while waiting or begun:
            while waiting and len(begun) <= AHEAD:
                item = self._agent.items[waiting.popleft()]
                begun.append(self._begin(item, is_last=not waiting))
            self._finish(*begun.popleft())

    def _begin(self, item, is_last: bool):
        """A file that another process fetches at this moment is waited for: its bytes count as well."""
        agent = self._agent
        while not agent.landing.lock(item):
            if self._stopped.wait(LOOK_SECONDS):
                raise Cancelled
        item.state = FETCHING
        blobs, etag = agent.cache.blobs, item.file.etag
        item.target = file_to_fill(blobs, etag)
        follow = agent.units.follow(item) if is_last else None
        return item, self._fetcher.begin(item.file, str(item.target), pieces=not agent.alone, follow=follow)

    def _finish(self, item, download) -> None:
        found = download.result()
        self._landed += item.file.size
        self._agent.landing.land(item, found)

    # pieces that died with a seed

    def _fill_all(self, etags: list[str]) -> None:
        time.sleep(SETTLE_SECONDS)
        open_etags = list(etags)
        while open_etags and not self._stopped.is_set():
            for etag in list(open_etags):
                state = self._agent.items[etag].state
                if state not in (WAITING, LEECHING):
                    open_etags.remove(etag)
                elif state == LEECHING:
                    self._fill(etag)
            self._stopped.wait(LOOK_SECONDS)

    def _fill(self, etag: str) -> None:
        """Fetch some of what neither this host nor a peer has, and look again: peers may bring pieces meanwhile."""
        file = self._agent.items[etag].file
        source = self._fetcher.source(file)
        while missing := self._agent.swarm.missing_pieces(etag)[:PIECES_AT_ONCE]:
            futures = [self._fetcher.submit(self._fill_piece, source, piece) for piece in missing]
            for future in futures:
                future.result()
            if self._stopped.wait(WRITE_SECONDS):
                return

    def _fill_piece(self, source, piece: int) -> None:
        etag = source.file.etag
        start, length = self._agent.swarm.piece_range(etag, piece)
        parts: list[bytes] = []
        self._fetcher.read(source, start, length, lambda _offset, part: parts.append(part))
        self._landed += length
        self._agent.swarm.give_piece(etag, piece, b"".join(parts))
