# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of some files is in the page cache: what a launch need not read from the disk."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import mmap
import os
import shutil
import subprocess

# Mapped in pieces, so that a file of any size needs one bounded map and one bounded vector.
_WINDOW_BYTES = 1 << 30


def resident_fraction(paths):
    """The share of the bytes of these files that is in RAM, 0.0 to 1.0; None where nothing can tell."""
    sizes = {path: os.path.getsize(path) for path in paths}
    total = sum(sizes.values())
    if not total:
        return None
    resident = _by_fincore(sorted(sizes)) if shutil.which("fincore") else _by_mincore(sizes)
    # A page counts whole, also the last one of a file, which the file fills in part.
    return None if resident is None else min(1.0, resident / total)


def _by_fincore(paths):
    result = subprocess.run(
        ["fincore", "--json", "--bytes", "--output", "RES", "--", *paths], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        return None
    return sum(int(entry["res"]) for entry in json.loads(result.stdout)["fincore"])


def _by_mincore(sizes):
    libc = ctypes.CDLL(ctypes.util.find_library("c") or None, use_errno=True)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    resident = 0
    for path, size in sizes.items():
        with open(path, "rb") as handle:
            for offset in range(0, size, _WINDOW_BYTES):
                pages = _resident_pages(libc, handle.fileno(), offset, min(_WINDOW_BYTES, size - offset))
                if pages is None:
                    return None
                resident += pages * mmap.PAGESIZE
    return resident


def _resident_pages(libc, descriptor, offset, length):
    # A private, writable map is what ctypes can take the address of; nothing is ever written to it.
    with mmap.mmap(descriptor, length, access=mmap.ACCESS_COPY, offset=offset) as mapped:
        vector = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        anchor = ctypes.c_char.from_buffer(mapped)
        try:
            failed = libc.mincore(ctypes.addressof(anchor), length, vector)
        finally:
            del anchor
        return None if failed else sum(byte & 1 for byte in vector.raw)
