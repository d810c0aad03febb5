# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One snapshot on one host: find out what is missing or damaged, then fetch just that.

Order of writes: the Hub's listing (so that everybody can see what is still missing), the files, refs/<revision>.
A file is hashed under another name before it becomes a blob, so a killed run leaves nothing that looks whole; what it
leaves, the next run completes.
"""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import (
    DAMAGED,
    MISSING,
    OK,
    UNLINKED,
    RepoCache,
    free_bytes,
)
from ansible_collections.preheat.fleet.plugins.module_utils.hf_fetch import (
    STALL_SECONDS,
    Fetcher,
    held_bytes,
    new_partial_file,
    partial_file,
)
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile, Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError, huggingface_hub
from ansible_collections.preheat.fleet.plugins.module_utils.hf_tree import COMMIT, select


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
    def bytes_total(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def changed(self) -> bool:
        return bool(self.to_do or self.leftovers or (self.ref and self.ref_before != self.commit))


@dataclass
class Done:
    bytes_fetched: int = 0
    seconds: float = 0.0
    verified: set[str] = field(default_factory=set)  # etags hashed by this run


class Snapshot:
    def __init__(
        self,
        hub: HubClient,
        cache: RepoCache,
        *,
        repo_id: str,
        revision: str,
        selection: Selection,
        hashes: bool = False,
        max_workers: int = 8,
        min_free_bytes: int = 0,
        stall_seconds: float = STALL_SECONDS,
    ):
        self._hub, self._cache = hub, cache
        self._repo_id, self._revision, self._selection = repo_id, revision, selection
        self._hashes, self._max_workers, self._min_free_bytes = hashes, max_workers, min_free_bytes
        self._stall_seconds, self._count_lock = stall_seconds, threading.Lock()

    def plan(self) -> Plan:
        """Writes nothing. By commit, and with the Hub's listing in the cache, it asks nothing of the Hub either."""
        by_commit = bool(COMMIT.fullmatch(self._revision))
        recorded = None if by_commit else self._cache.ref(self._revision)
        unreachable: HubError | None = None
        commit = self._revision
        if not by_commit:
            try:
                commit = self._hub.commit(self._repo_id, self._revision)
            except HubError as error:
                if error.reason != "hub_unreachable" or not recorded:
                    raise
                unreachable, commit = error, recorded
        stored = self._cache.listing(commit)
        if stored is None and unreachable:
            raise unreachable
        listing = self._hub.tree(self._repo_id, commit) if stored is None else stored
        files = select(self._repo_id, listing, self._selection)
        states = self._states(commit, files)
        partials = self._partials(file for file in files if states[file.path] in (MISSING, DAMAGED))
        plan = Plan(
            commit=commit,
            listing=listing,
            listing_is_new=stored is None,
            files=files,
            states=states,
            hashed=self._hashes,
            leftovers=[path.name for path in self._cache.leftovers() if path not in partials],
            bytes_resumed=sum(partials.values()),
            ref=None if by_commit else self._revision,
            ref_before=recorded,
        )
        if unreachable and plan.to_fetch:
            found = f"The cache holds commit {commit}, but {len(plan.to_fetch)} of its {len(files)} files are missing."
            raise HubError(unreachable.reason, f"{unreachable.message} {found}", unreachable.remedy)
        if unreachable:
            found = (
                f"Using commit {commit}, which refs/{self._revision} names; it is complete, but may not be the newest."
            )
            plan.warnings.append(f"{unreachable.message} {found}")
        return plan

    def _states(self, commit: str, files: list[HubFile]) -> dict[str, str]:
        with ThreadPoolExecutor(self._max_workers if self._hashes else 1) as pool:
            found = pool.map(lambda file: self._cache.check(commit, file, self._hashes), files)
            return dict(zip((file.path for file in files), found))

    def _partials(self, files) -> dict[Path, int]:
        """{what a killed download has left of a file: how much of it is there}"""
        found = {file: partial_file(self._cache.blobs, file.etag) for file in files}
        return {path: held_bytes(path, file.size) for file, path in found.items() if path}

    def check_space(self, plan: Plan) -> None:
        """Damaged blobs and leftovers go before their successors come."""
        damaged = [file for file in plan.files if plan.states[file.path] == DAMAGED]
        freed = sum(self._cache.size_bytes(file) for file in damaged)
        freed += sum(path.stat().st_blocks * 512 for path in self._cache.leftovers())
        free = free_bytes(self._cache.cache_dir)
        if plan.bytes_to_fetch and free + freed < plan.bytes_to_fetch + self._min_free_bytes:
            raise HubError(
                "no_space",
                f"cache_dir '{self._cache.cache_dir}' has {_gb(free)} free, but {_gb(plan.bytes_to_fetch)} of "
                f"{self._repo_id} are to be fetched and {_gb(self._min_free_bytes)} must stay free (min_free_bytes).",
                "Free space there, remove another model (state: absent), or set model_cache_dir (parameter cache_dir) "
                "to a larger disk.",
            )

    def apply(self, plan: Plan) -> Done:
        done, begin = Done(), time.monotonic()
        if plan.listing_is_new:
            self._cache.write_listing(plan.commit, plan.listing)
        else:
            self._cache.share_listing(plan.commit)
        if plan.leftovers:
            self._remove_leftovers(set(plan.leftovers))
        if plan.to_do:
            self._fetch_all(plan, done)
        if plan.ref and plan.ref_before != plan.commit:
            self._cache.write_ref(plan.ref, plan.commit)
        done.seconds = time.monotonic() - begin
        return done

    def _fetch_all(self, plan: Plan, done: Done) -> None:
        # One file per blob at a time, not per path: two paths may share their content.
        groups: dict[str, list[HubFile]] = {}
        for file in plan.to_do:
            groups.setdefault(file.etag, []).append(file)
        self._cache.blobs.mkdir(parents=True, exist_ok=True)
        self._cache.locks.mkdir(parents=True, exist_ok=True)
        fetcher = Fetcher(
            self._hub,
            self._repo_id,
            plan.commit,
            connections=self._max_workers,
            count=self._counter(done),
            stall_seconds=self._stall_seconds,
        )
        huggingface_hub()  # imported before the threads race for it
        with ThreadPoolExecutor(self._max_workers) as pool:
            futures = [pool.submit(self._hold_all, plan, group, done, fetcher) for group in groups.values()]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
            finally:
                fetcher.stop()

    def _counter(self, done: Done):
        def count(size: int) -> None:
            with self._count_lock:
                done.bytes_fetched += size

        return count

    def _hold_all(self, plan: Plan, files: list[HubFile], done: Done, fetcher: Fetcher) -> None:
        for file in files:
            self._hold(plan, file, done, fetcher)

    def _hold(self, plan: Plan, file: HubFile, done: Done, fetcher: Fetcher) -> None:
        """Make the snapshot hold one file."""
        with self._lock(file.etag):
            # Another process may have been faster; what it left is believed once it is hashed.
            known = plan.states[file.path] == UNLINKED or file.etag in done.verified
            state = self._cache.check(plan.commit, file, self._hashes or not known)
            if state == DAMAGED:
                self._cache.remove_file(plan.commit, file)
            if state in (DAMAGED, MISSING):
                self._download(fetcher, file)
            if self._hashes or not known:
                done.verified.add(file.etag)
            if state != OK:
                self._cache.link(plan.commit, file)

    def _download(self, fetcher: Fetcher, file: HubFile) -> None:
        blobs = self._cache.blobs
        target = partial_file(blobs, file.etag) or new_partial_file(blobs, file.etag)
        try:
            fetcher.begin(file, str(target), pieces=False).result()
            target.replace(self._cache.blob(file))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            target.unlink(missing_ok=True)
            raise HubError(
                "no_space",
                f"The disk of cache_dir '{self._cache.cache_dir}' became full while {file.path} was fetched "
                f"({_gb(file.size)}).",
                "Free space there or set model_cache_dir (parameter cache_dir) to a larger disk.",
            ) from error

    # locks: the library's own, so that it and we never fetch the same blob at the same time

    def _lock(self, etag: str):
        return huggingface_hub().utils.WeakFileLock(self._cache.lock(etag))

    def _remove_leftovers(self, names: set[str]) -> None:
        import filelock  # huggingface_hub's own dependency

        self._cache.locks.mkdir(parents=True, exist_ok=True)
        for path in self._cache.leftovers():
            if path.name not in names:
                continue
            etag = path.name.split(".")[0]
            try:
                with filelock.FileLock(str(self._cache.lock(etag)), timeout=0, mode=0o664):
                    if path.exists():
                        path.unlink()
            except filelock.Timeout:
                continue


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
