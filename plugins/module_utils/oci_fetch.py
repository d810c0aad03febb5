# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of an image from its registry into a folder, each named by its sha256 once its bytes are right."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.preheat.fleet.plugins.module_utils.hf_errors import backoff
from ansible_collections.preheat.fleet.plugins.module_utils.oci_registry import (
    FOLLOWING,
    TIMEOUT_SECONDS,
    RegistryError,
    explain,
)

READ_BYTES = 1 << 20
RETRIES = 5
# 401 and 403: of a token or a signed address whose time is over; the next attempt asks for another.
PASSING_STATUS = (401, 403, 408, 429, 500, 502, 503, 504)
UNFINISHED = ".fetch.incomplete"


class _Incomplete(OSError):
    """The connection ended before the file did."""


class Fetch:
    """Fetches what a folder lacks of an image (files: as Registry.image() gives them); bytes_fetched counts."""

    def __init__(self, registry, folder, workers=4, sleep=time.sleep):
        self._registry, self._folder, self._workers, self._sleep = registry, folder, workers, sleep
        self._lock = threading.Lock()
        self.bytes_fetched = 0

    def missing(self, files):
        return [file for file in files if _size(self._path(file)) != file["size"]]

    def run(self, files):
        """Raises RegistryError, or OSError for what is wrong with the folder."""
        os.makedirs(self._folder, exist_ok=True)
        missing = self.missing(files)
        free = os.statvfs(self._folder).f_bavail * os.statvfs(self._folder).f_frsize
        needed = sum(file["size"] - (_size(self._path(file) + UNFINISHED) or 0) for file in missing)
        if needed > free:
            raise OSError(errno.ENOSPC, f"{needed} bytes of the image are missing, {free} are free", self._folder)
        # Largest first, so that the last worker is not left alone with it.
        missing.sort(key=lambda file: file["size"], reverse=True)
        with ThreadPoolExecutor(self._workers) as pool:
            for done in [pool.submit(self._file, file) for file in missing]:
                done.result()

    def _path(self, file):
        return os.path.join(self._folder, file["digest"].partition(":")[2])

    def _file(self, file):
        path = self._path(file)
        with open(path + UNFINISHED, "a+b") as target:
            fcntl.flock(target, fcntl.LOCK_EX)  # another run on this host
            if _size(path) == file["size"]:
                return
            for attempt in range(RETRIES + 1):
                try:
                    self._rest(file, target)
                    break
                except (OSError, ValueError) as error:
                    if attempt == RETRIES or not _may_pass(error):
                        what = f"{file['digest']} of {self._registry.repository}"
                        raise error if _is_local(error) else explain(error, self._registry.endpoint, what) from error
                    self._sleep(backoff(attempt))
            os.fsync(target.fileno())
            os.replace(target.name, path)

    def _rest(self, file, target):
        """What is still to come of a file, behind what an earlier attempt or run has left."""
        target.seek(0)
        found = hashlib.sha256()
        for data in iter(lambda: target.read(READ_BYTES), b""):
            found.update(data)
        begin = target.tell()
        if begin > file["size"] or (begin == file["size"] and not _is_right(found, file)):
            target.truncate(0)
            found, begin = hashlib.sha256(), 0
        if begin < file["size"]:
            url, headers = self._registry.locate(file["digest"], file["is_manifest"])
            wanted = {**headers, **({"Range": f"bytes={begin}-"} if begin else {})}
            request = urllib.request.Request(url, headers=wanted)
            with FOLLOWING.open(request, timeout=TIMEOUT_SECONDS) as answer:
                if begin and answer.status != 206:
                    target.truncate(0)
                    found, begin = hashlib.sha256(), 0
                for data in iter(lambda: answer.read(READ_BYTES), b""):
                    target.write(data)
                    found.update(data)
                    with self._lock:
                        self.bytes_fetched += len(data)
            target.flush()
        size = os.fstat(target.fileno()).st_size
        if size < file["size"]:
            raise _Incomplete(f"{size} of {file['size']} bytes came")
        if not _is_right(found, file):
            target.truncate(0)
            raise RegistryError(
                "strange", f"{self._registry.endpoint} gave bytes that do not have the digest {file['digest']}"
            )


def _is_right(found, file):
    return found.hexdigest() == file["digest"].partition(":")[2]


def _may_pass(error):
    if isinstance(error, urllib.error.HTTPError):
        return error.code in PASSING_STATUS
    return isinstance(error, (ConnectionError, TimeoutError, urllib.error.URLError, _Incomplete))


def _is_local(error):
    """Whether an error is one of the disk. Those of the network have numbers too, or none."""
    return not isinstance(error, (urllib.error.URLError, ConnectionError, TimeoutError, _Incomplete, ValueError))


def _size(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return None
