# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder or a tarball, looked into by the relative paths of its files. Both look the same to hf_seed.

Nothing is ever written by a name from here, and no link leads out of either.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

LINKS = 40  # that may lead from one to the next


class Store(Protocol):
    one_by_one: bool  # whether files can only be read one after the other, in the order of position()

    def bases(self) -> list[str]:
        """Folders of which each may be the one that was meant, outermost first."""

    def is_folder(self, path: str) -> bool: ...

    def names(self, folder: str) -> list[str]:
        """What lies in a folder."""

    def files(self, folder: str) -> list[str]:
        """All files below a folder, links included, relative to it."""

    def resolved(self, path: str) -> str | None:
        """The path of the file that a path leads to; None if there is none within the store."""

    def size(self, path: str) -> int: ...

    def position(self, path: str) -> int: ...

    def open(self, path: str): ...

    def on_disk(self, path: str) -> Path | None:
        """The file itself, if there is one that could be linked to."""


class FolderStore:
    one_by_one = False

    def __init__(self, root: Path):
        self._root = root
        # Links within a cache are good, also where the seed is a part of it.
        real = Path(os.path.realpath(str(root)))
        caches = [folder.parent for folder in (real, *real.parents) if folder.name.startswith("models--")]
        self._real, self._bound = str(real), os.path.join(str(caches[0] if caches else real), "")

    def bases(self) -> list[str]:
        return [""]

    def is_folder(self, path: str) -> bool:
        return (self._root / path).is_dir()

    def names(self, folder: str) -> list[str]:
        return sorted(os.listdir(str(self._root / folder))) if self.is_folder(folder) else []

    def files(self, folder: str) -> list[str]:
        found = []
        for parent, _folders, names in os.walk(str(self._root / folder)):
            found += [os.path.relpath(os.path.join(parent, name), str(self._root / folder)) for name in names]
        return sorted(found)

    def resolved(self, path: str) -> str | None:
        real = os.path.realpath(str(self._root / path))
        inside = real.startswith(self._bound) and os.path.isfile(real)
        return os.path.relpath(real, self._real) if inside else None

    def size(self, path: str) -> int:
        return (self._root / path).stat().st_size

    def position(self, _path: str) -> int:
        return 0

    def open(self, path: str):
        return (self._root / path).open("rb")

    def on_disk(self, path: str) -> Path | None:
        return self._root / path


class TarStore:
    """Members are read where they lie; a compressed tarball from its start to its end."""

    def __init__(self, path: Path):
        self._path, self._lock = path, threading.Lock()
        self._archive = tarfile.open(str(path), "r:*")  # noqa: SIM115 - read from as long as this lives
        self.one_by_one = not _is_plain(path)
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in self._archive:
            name = posixpath.normpath(member.name.lstrip("/"))
            if name != ".." and not name.startswith("../"):
                self._members[name] = member
        self._folders = {""}
        for name in self._members:
            while name := posixpath.dirname(name):
                self._folders.add(name)
        self._folders |= {name for name, member in self._members.items() if member.isdir() and name != "."}

    def bases(self) -> list[str]:
        """Down to where paths part: an archive made of one folder has that folder's name in front of all."""
        found = [""]
        while len(inside := self.names(found[-1])) == 1 and self.is_folder(join(found[-1], inside[0])):
            found.append(join(found[-1], inside[0]))
        return found

    def is_folder(self, path: str) -> bool:
        return path in self._folders

    def names(self, folder: str) -> list[str]:
        everything = self._folders.union(self._members) - {"", "."}
        return sorted({posixpath.basename(name) for name in everything if posixpath.dirname(name) == folder})

    def files(self, folder: str) -> list[str]:
        start = folder + "/" if folder else ""
        names = [name for name, member in self._members.items() if not member.isdir()]
        return sorted(name[len(start) :] for name in names if name.startswith(start))

    def resolved(self, path: str) -> str | None:
        for _link in range(LINKS):
            member = self._members.get(path)
            if member is None:
                return None
            if member.isreg():
                return path
            if member.issym():
                path = posixpath.normpath(join(posixpath.dirname(path), member.linkname))
            elif member.islnk():
                path = posixpath.normpath(member.linkname.lstrip("/"))
            else:
                return None
        return None

    def size(self, path: str) -> int:
        return self._members[path].size

    def position(self, path: str) -> int:
        return self._members[path].offset

    @contextmanager
    def open(self, path: str):
        member = self._members[path]
        if self.one_by_one:
            with self._lock:
                yield self._archive.extractfile(member)
        else:
            with tarfile.open(str(self._path), "r:") as archive:
                yield archive.extractfile(member)

    def on_disk(self, _path: str) -> Path | None:
        return None


def join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _is_plain(path: Path) -> bool:
    try:
        tarfile.open(str(path), "r:").close()
    except tarfile.TarError:
        return False
    return True
