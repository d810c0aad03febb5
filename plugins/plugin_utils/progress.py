# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a download goes, as a line. Pure but for the clock that it is given."""

from __future__ import annotations

import time
from collections.abc import Callable

PROGRESS_SECONDS = 5.0


def interval_seconds(hosts: int) -> float:
    """How often a host of so many says how far it is: all together no more than four lines a second."""
    return max(PROGRESS_SECONDS, hosts / 4)


class Meter:
    """The rate between one look and the next. begun: bytes that were there when the download began."""

    def __init__(self, begun: int = 0, clock: Callable[[], float] = time.monotonic):
        self._clock, self._bytes, self._at = clock, begun, clock()

    def line(self, done: int, total: int, source: str, moved: int | None = None) -> str:
        """done and total: bytes; moved: what came over the network, where that is not what is done."""
        now, moved = self._clock(), done if moved is None else moved
        rate = max(0, moved - self._bytes) / max(0.1, now - self._at)
        self._bytes, self._at = moved, now
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s from {source}{left}"
