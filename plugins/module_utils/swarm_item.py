# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One blob of the snapshot on one host of a swarm, and what is going on with it there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_units import Unit

ABSENT = "absent"
WAITING = "waiting"  # for the lock of its blob, which another process may have
FETCHING = "fetching"  # from the Hub
LEECHING = "leeching"
PULLING = "pulling"  # from a peer, as a whole
FLUSHING = "flushing"  # all pieces have come, but not all may be on the disk
CHECKING = "checking"
HAVE = "have"


@dataclass
class Item:
    """One blob of the snapshot on this host."""

    file: HubFile
    state: str = ABSENT
    torrent: bytes = b""
    target: Path = Path()
    lock: Any = None
    received: int = 0
    done: int = 0  # of those that are pulled
    units: dict[int, Unit] = field(default_factory=dict)
    attempts: int = 0
