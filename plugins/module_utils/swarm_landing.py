# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How bytes become blobs on one host of a swarm: locked, hashed, linked into the snapshot, and shared from then on.

Wherever they came from, no file gets the name of a blob before all of it is known to be right.
"""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_partial import file_to_fill
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_item import (
    ABSENT,
    CHECKING,
    HAVE,
    PULLING,
    WAITING,
    Item,
)
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_torrent import FilePass

INLINE_BYTES = 256 << 10  # smaller files travel over the controller: a torrent would cost more than the bytes
ATTEMPTS = 2


class Landing:
    """Works on the cache, items, swarm and units of the agent, whose made() and guarded() tell the controller."""

    def __init__(self, agent, files: list[HubFile]):
        self._agent = agent
        self._same: dict[str, list[HubFile]] = {}  # paths that share their content
        for file in files:
            self._same.setdefault(file.etag, []).append(file)
        self.shared: set[str] = set()  # blobs whose bytes this agent has checked itself: peers may have them
        self._hashing = ThreadPoolExecutor(2)

    # a file begins

    def claim(self, item: Item) -> bool:
        """Its lock, and the place where it grows. False if another process has the file, or had it before."""
        if not self.lock(item) or self._is_there(item):
            return False
        item.target = self._target(item.file.etag)
        return True

    def lock(self, item: Item) -> bool:
        """The lock that huggingface_hub takes for a blob. Never waited for."""
        import filelock

        path = str(self._agent.cache.lock(item.file.etag))
        lock = filelock.FileLock(path, timeout=0, mode=0o664, thread_local=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            return False
        item.lock = lock
        return True

    def _is_there(self, item: Item) -> bool:
        if not self._blob(item).exists():
            return False
        item.state = CHECKING
        self._hash(self._adopt, item)
        return True

    def _target(self, etag: str) -> Path:
        """Where a file grows: what a killed run has left of it, if there is some."""
        blobs = self._agent.cache.blobs
        return file_to_fill(blobs, etag)

    def give_up(self, item: Item) -> None:
        self._agent.units.drop(item)
        item.state = WAITING if item.torrent and self._agent.swarm else ABSENT
        self.release(item)

    def release(self, item: Item) -> None:
        if item.lock:
            item.lock.release()
            item.lock = None

    # files from peers, as a whole

    def can_pull(self, etag: str) -> bool:
        return self._agent.items[etag].state == ABSENT

    def begin_pull(self, etag: str):
        """(item, whether pieces are to be hashed); None if another process has the file, or had it before."""
        with self._agent.changed:
            item = self._agent.items[etag]
            if item.state != ABSENT or not self.claim(item):
                return None
            item.state = PULLING
            return item, bool(self._agent.swarm)

    def give_up_pull(self, item: Item) -> None:
        with self._agent.changed:
            self.give_up(item)

    def shared_path(self, etag: str) -> Path | None:
        return self._agent.cache.blobs / etag if etag in self.shared else None

    # hashing: in threads of its own

    def check(self, item: Item) -> None:
        """All pieces have come and are on the disk."""
        self._hash(self._check, item)

    def share_own(self, item: Item) -> None:
        """Seed a blob that was here before, once all its bytes are known to be right."""
        self._hash(self._share_own, item)

    def _hash(self, work, item: Item) -> None:
        self._hashing.submit(self._agent.guarded, work, item)

    def _adopt(self, item: Item) -> None:
        """A blob that is there: right, or taken away."""
        blob = self._blob(item)
        if FilePass(item.file, pieces=False).read(blob).is_right:
            self.have(item)
        else:
            blob.unlink()
            self._again(item)

    def _share_own(self, item: Item) -> None:
        if item.file.etag in self.shared:
            return
        found = FilePass(item.file, pieces=bool(self._agent.swarm)).read(self._blob(item))
        with self._agent.changed:
            if found.is_right:
                self._share(item, found)
            else:
                self._blob(item).unlink()
                item.state = ABSENT
                self._agent.changed.notify_all()

    def _check(self, item: Item) -> None:
        agent, blob = self._agent, self._blob(item)
        found = FilePass(item.file, pieces=False).read(item.target)
        with agent.changed:
            if found.is_right and item.units:
                agent.units.place(item, blob)
                if item.torrent:
                    agent.swarm.add(item.file.etag, item.torrent, str(blob), seed=True)
                self.have(item)
            elif found.is_right:
                agent.swarm.rename(item.file.etag, str(blob))
            else:
                self._again(item)

    def _again(self, item: Item) -> None:
        """Wrong bytes, although every piece was right: once more from nothing, then give up."""
        if self._agent.swarm:
            self._agent.swarm.remove(item.file.etag)
        if item.target.is_file():
            item.target.unlink()
        self.give_up(item)
        item.attempts += 1
        if item.attempts >= ATTEMPTS:
            item.state = ABSENT
            raise HubError(
                "wrong_bytes",
                f"{item.file.path} came from peers with bytes that do not have the hash the Hub lists.",
                "Check the memory and disk of this host and of the one that fetched the file; meanwhile use "
                "model_cache_source: hub.",
            )

    # a file is whole

    def take_content(self, item: Item, content: bytes) -> None:
        """A small file, from the controller."""
        if item.state == HAVE:
            return
        item.target = self._target(item.file.etag)
        item.target.write_bytes(content)
        found = FilePass(item.file, pieces=False)
        found.update(content)
        item.received += len(content)
        if not found.is_right:
            item.target.unlink(missing_ok=True)
            raise HubError("wrong_bytes", f"{item.file.path} came with wrong bytes.", "Run again.")
        item.target.replace(self._blob(item))
        self.have(item)

    def land(self, item: Item, found: FilePass) -> None:
        """A file that is right and whole: a blob from now on, and shared."""
        with self._agent.changed:
            self._agent.units.share_last(item, found)
            self._agent.units.place(item, self._blob(item))
            self._share(item, found)
            self.have(item)

    def _share(self, item: Item, found: FilePass) -> None:
        agent, etag, blob = self._agent, item.file.etag, self._blob(item)
        if agent.alone:
            return
        if item.file.size <= INLINE_BYTES:
            made = {"etag": etag, "content": base64.b64encode(blob.read_bytes()).decode()}
        elif not agent.swarm:
            made = {"etag": etag}
        else:
            torrent = found.torrent(agent.spec["secret"])
            agent.swarm.add(etag, torrent, str(blob), seed=True)
            made = {"etag": etag, "torrent": base64.b64encode(torrent).decode()}
        self.shared.add(etag)
        agent.made(made)

    def have(self, item: Item) -> None:
        """The blob is there: linked into the snapshot, and others on this host may have it."""
        for file in self._same[item.file.etag]:
            self._agent.cache.link(self._agent.spec["commit"], file)
        with self._agent.changed:
            item.state = HAVE
            self.shared.add(item.file.etag)
            self.release(item)
            self._agent.changed.notify_all()

    def _blob(self, item: Item) -> Path:
        return self._agent.cache.blob(item.file)
