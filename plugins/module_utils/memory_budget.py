# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the host's memory files may fill: what is available, by the host and by the limits on this process."""

from __future__ import annotations

import os
import re

_HEADROOM_SHARE = 0.1
_HEADROOM_BYTES = 2 << 30
# What cgroup v1 says where there is no limit: the largest number of whole pages.
_NO_LIMIT = 1 << 62


def file_budget_bytes(root="/"):
    """Bytes of page cache that may be in use: what is available, less a tenth of all memory (2 GiB at least).

    Of the host, C(MemAvailable) of C(/proc/meminfo); of every cgroup that this process is in and that has a limit, what
    is left of it. Page cache counts as available in both, for it gives way, so files that are resident already are
    part of the budget.
    """
    meminfo = dict(re.findall(r"^(\w+): +(\d+) kB$", _read(os.path.join(root, "proc/meminfo")), re.M))
    total, available = int(meminfo["MemTotal"]) << 10, int(meminfo["MemAvailable"]) << 10
    headroom = max(_HEADROOM_BYTES, int(total * _HEADROOM_SHARE))
    return max(0, min([available - headroom, *_left_in_cgroups(root)]))


def _left_in_cgroups(root):
    """What is left in every cgroup with a limit, from this process's own up to the root."""
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            base = "sys/fs/cgroup/memory"
            names = (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
                "total_active_file",
            )
        else:
            continue
        yield from _left_on_path(os.path.join(root, base), path, *names)


def _left_on_path(base, path, limit_name, usage_name, *file_names):
    parts = [part for part in path.split("/") if part]
    for depth in range(len(parts), -1, -1):
        # In a container the path may be that of the host, of which only the container's own part is there.
        folder = os.path.join(base, *parts[:depth])
        limit, usage = _number(os.path.join(folder, limit_name)), _number(os.path.join(folder, usage_name))
        if limit is None or usage is None or limit >= _NO_LIMIT:
            continue
        statistics = dict(re.findall(r"^(\w+) (\d+)$", _read(os.path.join(folder, "memory.stat")), re.M))
        yield limit - usage + sum(int(statistics.get(name, 0)) for name in file_names)


def _number(path):
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
