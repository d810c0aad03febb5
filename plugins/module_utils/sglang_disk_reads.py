# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container has read from disks: what the page cache did not serve, the files of its image included."""

from __future__ import annotations

import os
import re

_READ_BYTES = re.compile(r"^read_bytes: (\d+)$", re.M)


def read_bytes(entries, container_id, processes="/proc", devices="/sys/dev/block"):
    """Bytes that a running container read from disks since it started; None where nothing can tell.

    C(entries) is Docker's account by device (see DockerClient.block_io), from the container's cgroup. Where it is
    empty, as without a controller for block devices, the processes that still run are asked: C(/proc/PID/io).
    """
    if entries:
        return _physical(entries, devices)
    return _of_processes(container_id, processes)


def _physical(entries, devices):
    """Without the devices that lie upon others (LVM, RAID): the kernel accounts their bytes at both."""
    total = 0
    for entry in entries:
        below = os.path.join(devices, f"{entry['major']}:{entry['minor']}", "slaves")
        if entry["op"].lower() == "read" and not (os.path.isdir(below) and os.listdir(below)):
            total += entry["value"]
    return total


def _of_processes(container_id, processes):
    found = []
    for name in os.listdir(processes):
        folder = os.path.join(processes, name)
        try:
            if name.isdigit() and container_id in _read(os.path.join(folder, "cgroup")):
                found.append(int(_READ_BYTES.search(_read(os.path.join(folder, "io"))).group(1)))
        except (OSError, AttributeError):
            # It ended meanwhile, or belongs to a user whose processes this one may not see.
            continue
    return sum(found) if found else None


def _read(path):
    with open(path, encoding="ascii", errors="replace") as stream:
        return stream.read()
