# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan carried out: the files that a snapshot lacks, taken from a seed or fetched, hashed, and linked into it."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import DAMAGED, MISSING, OK, UNLINKED, RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_fetch import Fetcher
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError, huggingface_hub
from ansible_collections.preheat.fleet.plugins.module_utils.hf_partial import file_to_fill
from ansible_collections.preheat.fleet.plugins.module_utils.hf_plan import Done, Plan, gb
from ansible_collections.preheat.fleet.plugins.module_utils.hf_seed import Seed


class Completion:
    """done is counted up while it runs."""

    def __init__(self, cache: RepoCache, plan: Plan, done: Done, seed: Seed | None):
        self._cache, self._plan, self._done, self._seed = cache, plan, done, seed
        self._count_lock, self._full = threading.Lock(), threading.Event()

    def run(self, hub: HubClient, repo_id: str, max_workers: int, stall_seconds: float) -> None:
        """Fetch with so many connections; the first failure of a file ends it."""
        # One file per blob at a time, not per path: two paths may share their content.
        groups: dict[str, list[HubFile]] = {}
        for file in self._plan.to_do:
            groups.setdefault(file.etag, []).append(file)
        self._cache.blobs.mkdir(parents=True, exist_ok=True)
        self._cache.locks.mkdir(parents=True, exist_ok=True)
        fetcher = Fetcher(
            hub,
            repo_id,
            self._plan.commit,
            connections=max_workers,
            count=self._count,
            stall_seconds=stall_seconds,
        )
        huggingface_hub()  # imported before the threads race for it
        workers, etags, seeded = max_workers, list(groups), self._plan.seeded
        if self._seed and seeded and self._seed.one_by_one:
            seed, first = self._seed, [etag for etag in groups if etag in seeded]
            first.sort(key=lambda etag: seed.position(seeded[etag]))
            workers, etags = 1, [*first, *(etag for etag in groups if etag not in seeded)]
        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(self._hold_all, groups[etag], fetcher) for etag in etags]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
            finally:
                fetcher.stop()

    def _count(self, size: int) -> None:
        with self._count_lock:
            self._done.bytes_fetched += size

    def _hold_all(self, files: list[HubFile], fetcher: Fetcher) -> None:
        for file in files:
            self._hold(file, fetcher)

    def _hold(self, file: HubFile, fetcher: Fetcher) -> None:
        """Make the snapshot hold one file."""
        plan, done = self._plan, self._done
        # The library's own lock, so that it and we never fetch the same blob at the same time.
        with huggingface_hub().utils.WeakFileLock(self._cache.lock(file.etag)):
            # Another process may have been faster; what it left is believed once it is hashed.
            known = plan.states[file.path] == UNLINKED or file.etag in done.verified
            state = self._cache.check(plan.commit, file, plan.hashed or not known)
            if state == DAMAGED:
                self._cache.remove_file(plan.commit, file)
            if state in (DAMAGED, MISSING) and not self._take(file):
                self._download(file, fetcher)
            if plan.hashed or not known:
                done.verified.add(file.etag)
            if state != OK:
                self._cache.link(plan.commit, file)

    def _take(self, file: HubFile) -> bool:
        """Take a file from the seed, if it is there and right."""
        at = self._plan.seeded.get(file.etag)
        if at is None or not self._seed:
            return False
        target = self._target(file.etag)
        if not self._seed.take(at, file, target):
            self._plan.warnings.append(f"{file.path} in seed '{self._seed.path}' is damaged: the Hub is asked for it.")
            return False
        target.replace(self._cache.blob(file))
        with self._count_lock:
            self._done.bytes_from_seed += file.size
        return True

    def _download(self, file: HubFile, fetcher: Fetcher) -> None:
        target = self._target(file.etag)
        try:
            fetcher.begin(file, str(target), pieces=False).result()
            target.replace(self._cache.blob(file))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._full.set()
            raise HubError(
                "no_space",
                f"The disk of cache_dir '{self._cache.cache_dir}' became full while {file.path} was fetched "
                f"({gb(file.size)}).",
                "Free space there or set model_cache_dir (parameter cache_dir) to a larger disk.",
            ) from error
        finally:
            # Kept for the next run, but not where it takes the space that others on the host need to live.
            if self._full.is_set():
                target.unlink(missing_ok=True)

    def _target(self, etag: str) -> Path:
        """Where a file grows: what a killed run has left of it, if there is some."""
        return file_to_fill(self._cache.blobs, etag)
