# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times as the engine writes them, in what it tells of containers and in their logs. Pure."""

from __future__ import annotations

import calendar
import re
import time


def parse_timestamp(text):
    """Epoch seconds of an RFC 3339 time with up to nine decimals; None for the engine's zero time.

    Docker writes all times in UTC, Podman those of logs in the host's time zone.
    """
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(?:Z|([+-])(\d\d):(\d\d))", text or "")
    if not match or text.startswith("0001-"):
        return None
    local, fraction, sign, hours, minutes = match.groups()
    ahead = (3600 * int(hours) + 60 * int(minutes)) * (-1 if sign == "-" else 1) if sign else 0
    return calendar.timegm(time.strptime(local, "%Y-%m-%dT%H:%M:%S")) - ahead + float(fraction or 0)


def split_timestamps(text):
    """[(epoch seconds, line)] of a log that was fetched with timestamps; lines without one join the last."""
    entries = []
    for line in text.splitlines():
        stamp, _unused, rest = line.partition(" ")
        epoch = parse_timestamp(stamp)
        if epoch is not None:
            entries.append((epoch, rest))
        elif entries:
            entries[-1] = (entries[-1][0], entries[-1][1] + line)
    return entries
