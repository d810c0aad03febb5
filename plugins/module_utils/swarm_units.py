# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The last file from the Hub is shared while it still arrives, in units that get smaller towards its end.

Otherwise all hosts would wait for the whole of it, and then once more as long as it takes to spread. A unit is a
torrent of the whole file of which only some pieces have hashes; all units of a file write to one place. Its name is the
blob's, its number and a digest. The last unit is shared when the seed has found the whole file right, together with an
ordinary torrent for those who come later; and like any other file it becomes a blob on a host only when that has hashed
all of it.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.swarm_torrent import FilePass, units


@dataclass
class Unit:
    name: str
    torrent: bytes
    is_here: bool = False


def is_unit(name: str) -> bool:
    return "-" in name


def etag_of(name: str) -> str:
    """Of a unit or of a whole file."""
    return name.partition("-")[0]


class Units:
    """What the agent does with them. All but the callback of follow() is called with the agent's lock held."""

    def __init__(self, agent, secret: str):
        self._agent, self._secret = agent, secret
        self._renaming: dict[Path, set[str]] = {}  # second names of blobs, until no torrent uses them

    # the seed

    def follow(self, item):
        """The callback for the file's hash as it proceeds; None if there is nobody to share with by torrents."""
        cut = units(item.file.size)
        if not self._agent.swarm or len(cut) < 2:
            return None
        passes: list[FilePass] = []

        def share_what_is_covered(found: FilePass) -> None:
            if passes[-1:] != [found]:  # begun, or begun anew
                passes[:] = [found]
                with self._agent.changed:
                    self.drop(item)
            while (number := len(item.units)) < len(cut) - 1 and found.covers(cut[number]):
                with self._agent.changed:
                    self._share(item, number, found)

        return share_what_is_covered

    def share_last(self, item, found: FilePass) -> None:
        for number in range(len(item.units), len(units(item.file.size)) if item.units else 0):
            self._share(item, number, found)

    def _share(self, item, number: int, found: FilePass) -> None:
        torrent = found.torrent(self._secret, units(item.file.size)[number])
        digest = hashlib.sha256(torrent).hexdigest()[:12]
        unit = item.units[number] = Unit(f"{item.file.etag}-{number}-{digest}", torrent, is_here=True)
        self._add(item, number, seed=True)
        self._agent.made({"etag": unit.name, "torrent": base64.b64encode(torrent).decode()})

    def _add(self, item, number: int, seed: bool) -> None:
        unit = item.units[number]
        self._agent.swarm.add(unit.name, unit.torrent, str(item.target), seed, units(item.file.size)[number])

    # the others

    def take(self, item, name: str, torrent: bytes, is_fetched: bool) -> None:
        """is_fetched: the units of this file are on their way, and this one begins at once."""
        number = int(name.split("-")[1])
        if number in item.units:  # the seed had to fetch it anew
            self._agent.swarm.remove(item.units[number].name)
        item.units[number] = Unit(name, torrent)
        if is_fetched:
            self._add(item, number, seed=False)

    def begin(self, item) -> None:
        for number in item.units:
            self._add(item, number, seed=False)

    def has_all(self, item, name: str) -> bool:
        """This unit is on the disk; are they all?"""
        for unit in item.units.values():
            unit.is_here = unit.is_here or unit.name == name
        return len(item.units) == len(units(item.file.size)) and all(unit.is_here for unit in item.units.values())

    # both

    def drop(self, item) -> None:
        for unit in item.units.values():
            self._agent.swarm.remove(unit.name)
        item.units.clear()

    def place(self, item, blob: Path) -> None:
        """The file becomes a blob, and its units go on being shared from there."""
        if not item.units:
            item.target.replace(blob)
            return
        try:
            os.link(str(item.target), str(blob))  # under both names until no torrent reads the old one
        except OSError:  # a file system without hard links
            self.drop(item)
            item.target.replace(blob)
            return
        self._renaming[item.target] = {unit.name for unit in item.units.values()}
        for unit in item.units.values():
            self._agent.swarm.rename(unit.name, str(blob))

    def renamed(self, name: str) -> None:
        for target, names in list(self._renaming.items()):
            names.discard(name)
            if not names:
                self._forget(target)

    def close(self) -> None:
        for target in list(self._renaming):
            self._forget(target)

    def _forget(self, target: Path) -> None:
        del self._renaming[target]
        if target.exists():
            target.unlink()
