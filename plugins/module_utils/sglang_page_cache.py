# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of some files is in the page cache: what a launch need not read from the disk."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
import subprocess

# Mapped in pieces, so that a file of any size needs one bounded map and one bounded vector.
_WINDOW_BYTES = 1 << 30


def resident_fraction(paths):
    """The share of the bytes of these files that is in RAM, 0.0 to 1.0; None where nothing can tell."""
    resident = resident_bytes(paths)
    total = sum(os.path.getsize(path) for path in paths)
    return sum(resident.values()) / total if resident and total else None


def resident_bytes(paths):
    """{path: how many of its bytes are in RAM}; None where nothing can tell."""
    paths = sorted(paths)
    if not all(_may_ask(path) for path in paths):
        return None
    found = _by_fincore(paths) if shutil.which("fincore") else _by_mincore(paths)
    # A page counts whole, also the last one of a file, which the file fills in part.
    return None if found is None else {path: min(size, os.path.getsize(path)) for path, size in found.items()}


def _may_ask(path):
    """Whether the kernel tells this process: of a file that it neither owns nor may write, all counts as resident."""
    return os.geteuid() in (0, os.stat(path).st_uid) or os.access(path, os.W_OK)


def _by_fincore(paths):
    if not paths:
        return {}
    result = subprocess.run(
        ["fincore", "--json", "--bytes", "--output", "RES,FILE", "--", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        return None
    return {entry["file"]: int(entry["res"]) for entry in json.loads(result.stdout)["fincore"]}


def _by_mincore(paths):
    found = {}
    for path in paths:
        with open(path, "rb") as handle:
            size = os.path.getsize(path)
            pages = [
                resident_pages(handle.fileno(), offset, min(_WINDOW_BYTES, size - offset))
                for offset in range(0, size, _WINDOW_BYTES)
            ]
        if None in pages:
            return None
        found[path] = sum(pages) * mmap.PAGESIZE
    return found


def resident_pages(descriptor, offset, length):
    """How many pages of a part of an open file are in RAM; None where the kernel does not say."""
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    # A private, writable map is what ctypes can take the address of; nothing is ever written to it.
    with mmap.mmap(descriptor, length, access=mmap.ACCESS_COPY, offset=offset) as mapped:
        vector = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        anchor = ctypes.c_char.from_buffer(mapped)
        try:
            failed = mincore(ctypes.addressof(anchor), length, vector)
        finally:
            del anchor
        return None if failed else sum(byte & 1 for byte in vector.raw)
