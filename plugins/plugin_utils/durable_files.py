# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the controller that are never half there, and where it matters outlast a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, content: str | bytes) -> None:
    """Replace C(path) in one step that survives a power cut: temporary file, fsync, rename, fsync of the folder."""
    write_whole(path, content, durably=True)
    sync_folder(path.parent)


def write_whole(path: Path, content: str | bytes, durably: bool = False) -> None:
    """Replace C(path) in one step, so that no reader sees a part of it; a power cut may take it back, or empty it."""
    data = content.encode("utf-8", errors="replace") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durably:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder and the missing ones above it; each new name is synced in its parent."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
