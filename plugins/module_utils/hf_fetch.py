# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files from the Hub, one after the other, each over several connections and hashed while it still arrives.

huggingface_hub fetches a file over one connection, in a loop that keeps one core busy, and hashes nothing; over Xet it
can hang for hours; and neither way goes on after a kill. Here plain ranged requests fill a file from its start, a
hashing thread follows, and the connections that a file no longer needs begin with the next one: the network never waits
for the hash or for another file's end.

What a killed run has left of a file is not fetched again (hf_partial).
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urljoin

from ansible_collections.preheat.fleet.plugins.module_utils.hf_errors import NoRanges, Offline, Stalled, WrongBytes
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_partial import cut, held_ranges
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_torrent import READ_BYTES, FilePass

STALL_SECONDS = 60
RANGE_BYTES = (READ_BYTES, 32 << 20)
RANGES_PER_FILE = 16
REDIRECTS = 5
EXPIRED_STATUS = (401, 403, 410)  # of a signed address whose time is over
HIDDEN_STATUS = (401, 403, 404)  # what the Hub says of a private repo to those who may not know of it


class Cancelled(Exception):
    """The fetcher was told to stop."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Does not follow: whoever is redirected to another origin must not take the token along."""

    def redirect_request(self, *_args):
        return None


class Fetcher:
    """Fetches files of one snapshot; count() is told of every byte that came from the Hub. A connection over which no
    byte comes for stall_seconds is given up, and the rest asked for over a new one, at the next endpoint if there is
    one."""

    def __init__(
        self,
        hub: HubClient,
        repo_id: str,
        commit: str,
        *,
        connections: int,
        count,
        stall_seconds: float = STALL_SECONDS,
    ):
        self.hub, self.repo_id, self.commit, self._count = hub, repo_id, commit, count
        self._stall_seconds = stall_seconds
        self._pool = ThreadPoolExecutor(connections)
        self._stopped = threading.Event()
        # One context: to read the system's certificates for every connection would take longer than a small file.
        https = urllib.request.HTTPSHandler(context=ssl.create_default_context())
        self._opener = urllib.request.build_opener(_Stay, https)

    def stop(self) -> None:
        self._stopped.set()
        self._pool.shutdown(wait=False)

    def begin(self, file: HubFile, target: str, pieces: bool, follow=None) -> _Download:
        """Queue a file; its ranges come after those of the files before it. What target holds already is kept.
        follow(FilePass) is called as the hash proceeds; it begins anew when bytes were wrong."""
        return _Download(self, file, target, pieces, follow)

    def read(self, source: _Source, start: int, length: int, write) -> None:
        """One range, with patience; write(offset, data) gets its bytes in order."""
        done = before = 0

        def attempt(endpoint: str) -> None:
            nonlocal done, before
            before = done
            with self._cutting_stalls(), source.open(endpoint, start + done, length - done) as answer:
                while done < length:
                    if self._stopped.is_set():
                        raise Cancelled
                    # To the next multiple of READ_BYTES, so that a kill leaves whole blocks.
                    data = answer.read(min(READ_BYTES - (start + done) % READ_BYTES, length - done))
                    if not data:
                        raise ConnectionError(f"{source.file.path}: the answer ended early")
                    write(start + done, data)
                    done += len(data)
                    self._count(len(data))

        self.patiently(source.file, attempt, lambda: done > before)

    def _cutting_stalls(self):
        return _CuttingStalls(self._stall_seconds)

    def open(self, request: urllib.request.Request):
        return self._opener.open(request, timeout=self._stall_seconds)

    def patiently(self, file: HubFile, call, moved=lambda: False):
        return self.hub.patiently(self.repo_id, self.commit, call, file, moved)

    def source(self, file: HubFile) -> _Source:
        return _Source(self, file)

    def submit(self, call, *args):
        try:
            return self._pool.submit(call, *args)
        except RuntimeError as error:  # the pool was shut down
            raise Cancelled from error


class _CuttingStalls:
    """The socket's own timeout is the watchdog: here it gets its name."""

    def __init__(self, seconds: float):
        self._seconds = seconds

    def __enter__(self):
        return self

    def __exit__(self, _kind, error, _traceback):
        is_answer = isinstance(error, urllib.error.HTTPError)  # a URLError too, whose reason is a text
        cause = error.reason if isinstance(error, urllib.error.URLError) and not is_answer else error
        if isinstance(cause, (TimeoutError, socket.timeout)) and getattr(cause, "errno", None) != errno.ETIMEDOUT:
            raise Stalled(f"{self._seconds:g} s") from error


class _Source:
    """Where a file's bytes are at each endpoint; asked for with the first range, again when the answer has expired."""

    def __init__(self, fetcher: Fetcher, file: HubFile):
        self._fetcher, self.file = fetcher, file
        self._found: dict[str, str] = {}
        self._forgotten = 0

    def open(self, endpoint: str, start: int, length: int):
        """The answer with a range of the file. Large files lie at another origin, which gets no token."""
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise Offline
        fetcher = self._fetcher
        first = f"{endpoint}/{fetcher.repo_id}/resolve/{fetcher.commit}/{quote(self.file.path)}"
        url = self._found.get(endpoint, first)
        for _redirect in range(REDIRECTS):
            try:
                answer = fetcher.open(self._request(url, endpoint, start, length))
            except urllib.error.HTTPError as error:
                error.close()
                location = urljoin(url, error.headers.get("Location") or "")
                if error.code in (301, 302, 303, 307, 308) and location.startswith(("https://", "http://")):
                    url = location
                    continue
                if error.code in EXPIRED_STATUS and self._forget(endpoint):
                    raise ConnectionError(f"HTTP {error.code}, the address may have expired") from error
                if error.code in HIDDEN_STATUS and not fetcher.hub.token and fetcher.hub.log_in():
                    continue
                raise
            if url != first:
                self._found[endpoint] = url
            if answer.status != 206 and (start or length != self.file.size):
                answer.close()
                raise NoRanges
            return answer
        raise ConnectionError(f"{self.file.path}: more than {REDIRECTS} redirects")

    def _request(self, url: str, endpoint: str, start: int, length: int) -> urllib.request.Request:
        headers = {
            "Accept-Encoding": "identity",
            "Range": f"bytes={start}-{start + length - 1}",
            "User-Agent": "preheat",
        }
        if self._fetcher.hub.token and url.split("/")[:3] == endpoint.split("/")[:3]:
            headers["Authorization"] = f"Bearer {self._fetcher.hub.token}"
        return urllib.request.Request(url, headers=headers)

    def _forget(self, endpoint: str) -> bool:
        """Whether there was an address, and it is worth to ask for it again."""
        self._forgotten += 1
        return self._found.pop(endpoint, None) is not None and self._forgotten <= 3 * RANGES_PER_FILE


class _Download:
    """One file on its way. result() gives its finished FilePass, whose bytes are right and on the disk."""

    def __init__(self, fetcher: Fetcher, file: HubFile, target: str, pieces: bool, follow):
        self._fetcher, self._file, self._pieces, self._follow = fetcher, file, pieces, follow
        self._target, self._source = target, fetcher.source(file)
        self._descriptor = os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
        self._begin(held_ranges(self._descriptor, file.size))

    def _begin(self, held: list[tuple[int, int]]) -> None:
        if not held:
            os.ftruncate(self._descriptor, 0)
        self._resumed, self._begun = bool(held), True
        smallest, largest = RANGE_BYTES
        share = self._file.size // RANGES_PER_FILE
        step = min(largest, max(smallest, share - share % READ_BYTES))
        self._parts = [
            (start, end, None if is_held else self._fetcher.submit(self._fetch, start, end - start))
            for start, end, is_held in cut(self._file.size, step, held)
        ]

    def _fetch(self, start: int, length: int) -> None:
        self._fetcher.read(self._source, start, length, self._write)

    def _write(self, offset: int, data: bytes) -> None:
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written

    def result(self) -> FilePass:
        try:
            found = self._fetcher.patiently(self._file, lambda _endpoint: self._whole())
            os.fdatasync(self._descriptor)
            return found
        except HubError as error:
            if error.reason == "wrong_bytes":
                os.unlink(self._target)
            raise
        finally:
            self._end()

    def _end(self) -> None:
        """Nobody writes any more when the file is closed."""
        for _start, _end, future in self._parts:
            if future and not future.cancel():
                future.exception()
        os.close(self._descriptor)

    def _whole(self) -> FilePass:
        """Follows the ranges with the hash; wrong bytes mean that all of them are fetched again."""
        if not self._begun:
            self._begin([])
        found = FilePass(self._file, self._pieces)
        for start, end, future in self._parts:
            if future:
                future.result()
            for offset in range(start, end, READ_BYTES):
                found.update(os.pread(self._descriptor, min(READ_BYTES, end - offset), offset))
                if self._follow:
                    self._follow(found)
        if found.is_right:
            return found
        self._begun = False
        if self._resumed:  # what was left behind may not be what it seemed to be
            return self._whole()
        raise WrongBytes(self._file.path)
