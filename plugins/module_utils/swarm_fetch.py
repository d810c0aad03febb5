# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files from the Hub, one after the other, each over several connections and hashed while it still arrives.

huggingface_hub fetches a file over one connection, in a loop that one core is busy with, and hashes nothing. Here plain
ranged requests fill a file from its start, a hashing thread follows, and the connections that a file no longer needs
begin with the next one: the network never waits for the hash or for another file's end.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import (
    TIMEOUT_SECONDS,
    TRANSIENT_STATUS,
    HubClient,
    WrongBytes,
    huggingface_hub,
)
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_torrent import READ_BYTES, FilePass

RANGE_BYTES = (1 << 20, 32 << 20)
RANGES_PER_FILE = 16
EXPIRED_STATUS = (401, 403, 410)  # of a signed address whose time is over


class Cancelled(Exception):
    """The fetcher was told to stop."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Does not follow: whoever is redirected to another origin must not take the token along."""

    def redirect_request(self, *_args):
        return None


def _redirected(url: str, headers: dict) -> str | None:
    """Where the bytes of a file are, if not at the address itself. Without the library, whose import takes longer."""
    request = urllib.request.Request(url, headers=headers, method="HEAD")
    try:
        urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT_SECONDS).close()
        return None
    except urllib.error.HTTPError as error:
        location = error.headers.get("Location") or ""
        if error.code in (301, 302, 303, 307, 308) and location.startswith(("https://", "http://")):
            return location
        raise


class RangeClient(HubClient):
    """The Hub, asked for parts of files."""

    def locate(self, repo_id: str, commit: str, file: HubFile) -> tuple[str, dict]:
        """(address of the bytes, headers to ask with): large files lie at another origin, which gets no token."""
        url = f"{self.endpoint}/{repo_id}/resolve/{commit}/{quote(file.path)}"
        headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        try:
            location = _redirected(url, headers)
        except (OSError, ValueError):
            return self._located_by_library(repo_id, commit, file, url)  # has patience, and words for what is wrong
        return (location, {"Accept-Encoding": "identity"}) if location else (url, headers)

    def _located_by_library(self, repo_id: str, commit: str, file: HubFile, url: str) -> tuple[str, dict]:
        library = huggingface_hub()
        with self._plain_errors(repo_id, commit, file):
            found = self._retried(
                lambda: library.get_hf_file_metadata(
                    url, token=self._token, timeout=TIMEOUT_SECONDS, endpoint=self.endpoint
                )
            )
        same_origin = found.location.split("/")[:3] == url.split("/")[:3]
        headers = library.utils.build_hf_headers(token=self._token if same_origin else False)
        return found.location, {**headers, "Accept-Encoding": "identity"}

    def patiently(self, repo_id: str, commit: str, file: HubFile, call):
        """call(), repeated while it fails in a way that may pass."""
        with self._plain_errors(repo_id, commit, file):
            return self._retried(call)


class Fetcher:
    """Fetches files of one snapshot; count() is told of every byte that came from the Hub."""

    def __init__(self, hub: RangeClient, repo_id: str, commit: str, connections: int, count):
        self._hub, self._repo_id, self._commit, self._count = hub, repo_id, commit, count
        self._pool = ThreadPoolExecutor(connections)
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self._pool.shutdown(wait=False)

    def begin(self, file: HubFile, target: str, pieces: bool) -> _Download:
        """Queue a file; its ranges come after those of the files before it."""
        return _Download(self, file, target, pieces)

    def read(self, source: _Source, start: int, length: int, write) -> None:
        """One range, with patience; write(offset, data) gets its bytes in order."""
        done = 0

        def attempt() -> None:
            nonlocal done
            try:
                with source.open(start + done, length - done) as answer:
                    while done < length:
                        if self._stopped.is_set():
                            raise Cancelled
                        data = answer.read(min(READ_BYTES, length - done))
                        if not data:
                            raise ConnectionError(f"{source.file.path}: the answer ended early")
                        write(start + done, data)
                        done += len(data)
                        self._count(len(data))
            except urllib.error.HTTPError as error:
                if error.code in EXPIRED_STATUS and source.forget():
                    raise ConnectionError(f"HTTP {error.code}, the address may have expired") from error
                if error.code in TRANSIENT_STATUS:
                    raise ConnectionError(f"HTTP {error.code}") from error
                raise
            except (OSError, EOFError) as error:
                if isinstance(error, ConnectionError) or getattr(error, "errno", None) is not None:
                    raise
                raise ConnectionError(str(error)) from error

        self.patiently(source.file, attempt)

    def patiently(self, file: HubFile, call):
        return self._hub.patiently(self._repo_id, self._commit, file, call)

    def source(self, file: HubFile) -> _Source:
        return _Source(lambda: self._hub.locate(self._repo_id, self._commit, file), file)

    def submit(self, call, *args):
        return self._pool.submit(call, *args)


class _Source:
    """Where a file's bytes are; asked for once, and again when the answer has expired."""

    def __init__(self, locate, file: HubFile):
        self._locate, self.file = locate, file
        self._lock, self._forgotten = threading.Lock(), 0
        self._found: tuple[str, dict] | None = None

    def open(self, start: int, length: int):
        with self._lock:
            self._found = self._found or self._locate()
            url, headers = self._found
        wanted = {**headers, "Range": f"bytes={start}-{start + length - 1}"}
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=wanted), timeout=TIMEOUT_SECONDS)
        if answer.status != 206 and (start or length != self.file.size):
            answer.close()
            raise WrongBytes(f"{self.file.path}: HTTP {answer.status} instead of a part of the file")
        return answer

    def forget(self) -> bool:
        """Whether it is worth to ask for the address again."""
        with self._lock:
            self._found, self._forgotten = None, self._forgotten + 1
            return self._forgotten <= 3


class _Download:
    """One file on its way. result() gives its finished FilePass, whose bytes are right."""

    def __init__(self, fetcher: Fetcher, file: HubFile, target: str, pieces: bool):
        self._fetcher, self._file, self._pieces = fetcher, file, pieces
        smallest, largest = RANGE_BYTES
        step = min(largest, max(smallest, file.size // RANGES_PER_FILE))
        self._ranges = [(start, min(step, file.size - start)) for start in range(0, file.size, step)]
        self._descriptor = os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
        self._source = fetcher.source(file)
        self._futures = self._submit()

    def _submit(self) -> list:
        return [self._fetcher.submit(self._fetch, *part) for part in self._ranges]

    def _fetch(self, start: int, length: int) -> None:
        self._fetcher.read(self._source, start, length, self._write)

    def _write(self, offset: int, data: bytes) -> None:
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written

    def result(self) -> FilePass:
        try:
            return self._fetcher.patiently(self._file, self._whole)
        finally:
            for future in self._futures:
                future.cancel()
            os.close(self._descriptor)

    def _whole(self) -> FilePass:
        """Follows the ranges with the hash; wrong bytes mean that all of them are fetched again."""
        found = FilePass(self._file, self._pieces)
        self._futures = self._futures or self._submit()
        for future, (start, length) in zip(self._futures, self._ranges):
            future.result()
            for offset in range(start, start + length, READ_BYTES):
                found.update(os.pread(self._descriptor, min(READ_BYTES, start + length - offset), offset))
        if not found.is_right:
            self._futures = []
            raise WrongBytes(self._file.path)
        return found
