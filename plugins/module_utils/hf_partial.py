# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unfinished files: what killed runs have left of a blob, and which parts of it need not be fetched again.

The file system knows which parts were written (SEEK_DATA). What it says is believed until the whole file is hashed.
"""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path


def partial_file(blobs: Path, etag: str) -> Path | None:
    """The largest part that killed runs have left of a blob. Ask with the blob's lock held, or just to know."""
    left = {path: path.stat().st_blocks for path in blobs.glob(f"{etag}.*.incomplete")}
    return max(left, key=lambda path: left[path], default=None)


def file_to_fill(blobs: Path, etag: str) -> Path:
    """The part that was left, or a new one. Ask with the blob's lock held."""
    # Named as huggingface_hub names them.
    return partial_file(blobs, etag) or blobs / f"{etag}.{uuid.uuid4().hex[:8]}.incomplete"


def held_bytes(path: Path, size: int) -> int:
    """How much of an unfinished file of `size` bytes need not be fetched again."""
    with path.open("rb") as stream:
        return sum(end - start for start, end in held_ranges(stream.fileno(), size))


def held_ranges(descriptor: int, size: int) -> list[tuple[int, int]]:
    """[(start, end)] of the parts of an unfinished file of `size` bytes that have been written.

    A block that was written in part looks written, so the last block before a hole does not count; at the end of the
    file it does. Where the file system keeps no holes, the file is one part.
    """
    stat = os.fstat(descriptor)
    held, at = [], 0
    while 0 < stat.st_size <= size and at < stat.st_size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: only a hole is left
                raise
            break
        at = os.lseek(descriptor, start, os.SEEK_HOLE)
        end = at if at == stat.st_size else at - stat.st_blksize
        if end > start:
            held.append((start, end))
    return held


def cut(size: int, step: int, held: list[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """[(start, end, is_held)] from 0 to size; what is not held ends at multiples of step."""
    parts, at = [], 0
    for start, end in [*held, (size, size)]:
        while at < start:
            stop = min(start, at - at % step + step)
            parts.append((at, stop, False))
            at = stop
        if end > start:
            parts.append((start, end, True))
            at = end
    return parts
