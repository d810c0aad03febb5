# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files read into the page cache, so that the launch that follows finds them in RAM.

Read, not asked for: C(posix_fadvise(WILLNEED)) on a file of 1 GiB loads a few megabytes and says nothing of it.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_page_cache import resident_bytes, resident_pages

# One read. Large enough that a disk streams and readers seldom change places.
CHUNK_BYTES = 16 << 20
_of_this_thread = threading.local()


class Preload:
    """What is to be read of C(paths) so that at most C(budget_bytes) of them lie in RAM.

    C(bytes_total), C(resident_bytes_before) (None where the kernel does not tell), C(bytes_to_read) and C(bytes_left)
    (what the budget leaves on the disk) are known at once. Files count in the order of their names, each whole as far
    as the budget goes, so that what does not fit is in one piece.
    """

    def __init__(self, paths, budget_bytes):
        self.sizes = {path: os.path.getsize(path) for path in sorted(paths)}
        self.bytes_total = sum(self.sizes.values())
        self._resident = resident_bytes(self.sizes)
        self.resident_bytes_before = None if self._resident is None else sum(self._resident.values())
        missing = self.bytes_total - (self.resident_bytes_before or 0)
        self.bytes_to_read = max(0, min(missing, budget_bytes - (self.resident_bytes_before or 0)))
        self.bytes_left = missing - self.bytes_to_read

    def fraction(self, resident):
        """The share of all bytes that C(resident) bytes are; None for None, and without any."""
        return None if resident is None or not self.bytes_total else round(resident / self.bytes_total, 4)

    def run(self, readers):
        """Read; returns C(bytes_read) (from the disk, as far as one knows), C(resident_fraction_after), C(seconds)."""
        began = time.monotonic()
        with ThreadPoolExecutor(max_workers=readers) as pool:
            bytes_read = sum(pool.map(_read_chunk, list(self._chunks())))
        after = resident_bytes(self.sizes)
        return {
            "bytes_read": bytes_read,
            "resident_fraction_after": self.fraction(None if after is None else sum(after.values())),
            "seconds": round(time.monotonic() - began, 3),
        }

    def _chunks(self):
        """(path, offset, length, bytes missing) of what is not in RAM, until the budget is used up."""
        left = self.bytes_to_read
        for path, size in self.sizes.items():
            if self._resident is not None and self._resident[path] >= size:
                continue
            with open(path, "rb") as handle:
                for offset in range(0, size, CHUNK_BYTES):
                    length = min(CHUNK_BYTES, size - offset)
                    missing = length - (self._resident_in(handle, offset, length) if self._resident is not None else 0)
                    if left <= 0:
                        return
                    if missing:
                        yield path, offset, length, missing
                        left -= missing

    @staticmethod
    def _resident_in(handle, offset, length):
        return min(length, (resident_pages(handle.fileno(), offset, length) or 0) * mmap.PAGESIZE)


def _read_chunk(chunk):
    """Read one chunk into a buffer that is used again; the bytes that were missing. Reading needs no GIL."""
    path, offset, length, missing = chunk
    buffer = _of_this_thread.__dict__.setdefault("buffer", memoryview(bytearray(CHUNK_BYTES)))
    done = 0
    with open(path, "rb", buffering=0) as handle:
        while done < length:
            count = os.preadv(handle.fileno(), [buffer[: length - done]], offset + done)
            if not count:
                break  # the file became shorter meanwhile
            done += count
    return min(done, missing)
