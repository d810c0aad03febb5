# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of a snapshot, what is to do for the rest, and what was done. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import DAMAGED, MISSING, OK
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile


@dataclass
class Plan:
    """What the host has of a commit, and so what is to do."""

    commit: str
    listing: list[HubFile]
    listing_is_new: bool
    files: list[HubFile]
    states: dict[str, str]  # by path
    hashed: bool
    leftovers: list[str]  # names of files that killed downloads left and that are of no use
    bytes_resumed: int  # what such files hold of those to fetch
    origin: str  # who said what the files are: the Hub, or a seed in its place
    seeded: dict[str, str]  # etags of files to fetch that the seed seems to have, and where
    ref: str | None  # the branch or tag to record, and the commit it stands for so far
    ref_before: str | None
    warnings: list[str] = field(default_factory=list)

    @property
    def to_fetch(self) -> list[HubFile]:
        return [file for file in self.files if self.states[file.path] in (MISSING, DAMAGED)]

    @property
    def to_do(self) -> list[HubFile]:
        """Largest first, so that the last worker is not left alone with it."""
        todo = [file for file in self.files if self.states[file.path] != OK]
        return sorted(todo, key=lambda file: file.size, reverse=True)

    @property
    def bytes_to_fetch(self) -> int:
        return sum(file.size for file in {file.etag: file for file in self.to_fetch}.values())

    @property
    def bytes_in_seed(self) -> int:
        return sum(
            file.size for file in {file.etag: file for file in self.to_fetch}.values() if file.etag in self.seeded
        )

    def of_seed(self) -> Plan:
        """As much of it as can be done without the Hub; the branch is recorded by who completes the snapshot."""
        lacking = {file.path for file in self.to_fetch if file.etag not in self.seeded}
        return dataclasses.replace(
            self, files=[file for file in self.files if file.path not in lacking], ref=None if lacking else self.ref
        )

    @property
    def bytes_total(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def changed(self) -> bool:
        return bool(self.to_do or self.leftovers or (self.ref and self.ref_before != self.commit))


@dataclass
class Done:
    bytes_fetched: int = 0
    bytes_from_seed: int = 0
    seconds: float = 0.0
    verified: set[str] = field(default_factory=set)  # etags hashed by this run


def gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
