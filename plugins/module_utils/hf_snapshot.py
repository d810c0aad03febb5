# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One snapshot on one host: find out what is missing or damaged, then fetch just that.

Order of writes: the Hub's listing (so that everybody can see what is still missing), the files, refs/<revision>.
A file is hashed under another name before it becomes a blob, so a killed run leaves nothing that looks whole; what it
leaves, the next run completes.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import DAMAGED, HUB, MISSING, RepoCache, free_bytes
from ansible_collections.preheat.fleet.plugins.module_utils.hf_completion import Completion
from ansible_collections.preheat.fleet.plugins.module_utils.hf_fetch import STALL_SECONDS
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile, Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_partial import held_bytes, partial_file
from ansible_collections.preheat.fleet.plugins.module_utils.hf_plan import Done, Plan, gb
from ansible_collections.preheat.fleet.plugins.module_utils.hf_seed import LISTED, UNLISTED, Seed
from ansible_collections.preheat.fleet.plugins.module_utils.hf_tree import COMMIT, select

_ORIGINS = {
    LISTED: "The Hub did not give the files' hashes: they are checked against those that seed '{seed}' brings along, "
    "which finds damage, but not a seed that was wrong from the start.",
    UNLISTED: "The Hub did not give the files' hashes, and seed '{seed}' has none: its bytes are taken for right.",
}


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
        seed: Seed | None = None,
    ):
        self._hub, self._cache = hub, cache
        self._repo_id, self._revision, self._selection = repo_id, revision, selection
        self._hashes, self._max_workers, self._min_free_bytes = hashes, max_workers, min_free_bytes
        self._stall_seconds, self._seed = stall_seconds, seed

    def plan(self, seed_only: bool = False) -> Plan:
        """Writes nothing. By commit, and with the Hub's listing in the cache, it asks nothing of the Hub either."""
        by_commit = bool(COMMIT.fullmatch(self._revision))
        recorded = None if by_commit else self._cache.ref(self._revision)
        commit, listing, origin, is_new, unreachable = self._resolve(by_commit, recorded)
        files = select(self._repo_id, listing, self._selection)
        states = self._states(commit, files)
        wanted = [file for file in files if states[file.path] in (MISSING, DAMAGED)]
        seeded = {file.etag: self._seed.find(commit, file) for file in wanted} if self._seed else {}
        partials = self._partials(file for file in wanted if not seeded.get(file.etag))
        plan = Plan(
            commit=commit,
            listing=listing,
            listing_is_new=is_new,
            files=files,
            states=states,
            hashed=self._hashes,
            leftovers=[path.name for path in self._cache.leftovers() if path not in partials],
            bytes_resumed=sum(partials.values()),
            origin=origin,
            seeded={etag: at for etag, at in seeded.items() if at is not None},
            ref=None if by_commit else self._revision,
            ref_before=recorded,
        )
        plan = plan.of_seed() if seed_only else plan
        self._check_reachable(plan, unreachable)
        if is_new and origin != HUB and self._seed:
            plan.warnings.append(_ORIGINS[origin].format(seed=self._seed.path))
        return plan

    def _resolve(self, by_commit: bool, recorded: str | None):
        """(commit, listing, its origin, whether it is new, the error if the Hub was asked for the commit in vain)"""
        seed, unreachable, commit = self._seed, None, self._revision
        hub = self._hub.hasty() if seed else self._hub
        if not by_commit:
            try:
                commit = hub.commit(self._repo_id, self._revision)
            except HubError as error:
                # What somebody has brought to this host is newer than what was here before.
                known = (seed.commit(self._revision) if seed else None) or recorded
                if error.reason != "hub_unreachable":
                    raise
                if not known:
                    raise self._without_commit(error) from error
                unreachable, commit = error, known
        stored, origin = self._cache.listing(commit), self._cache.listing_origin(commit)
        if stored is not None and (origin == HUB or not self._hashes or unreachable):
            return commit, stored, origin, False, unreachable
        try:
            if unreachable:
                raise unreachable
            return commit, hub.tree(self._repo_id, commit), hub.origin, True, None
        except HubError as error:
            if error.reason != "hub_unreachable":
                raise
            if stored is not None:
                return commit, stored, origin, False, error
            found = seed.listing(commit) if seed else None
            if found is None:
                raise self._without_commit(error) if seed else error from None
            return commit, *found, True, error

    def _without_commit(self, error: HubError) -> HubError:
        if not self._seed:
            return error
        what = f"{error.message} The seed '{self._seed.path}' does not say what revision '{self._revision}' of it is."
        remedy = (
            "Give the commit as revision, or a seed that has it: a Hub cache with its refs and snapshots, or a folder "
            "made by hf download --local-dir."
        )
        return HubError(error.reason, what, remedy)

    def _check_reachable(self, plan: Plan, unreachable: HubError | None) -> None:
        lacking = [file for file in plan.to_fetch if file.etag not in plan.seeded]
        if unreachable and lacking:
            found = (
                f"The cache holds commit {plan.commit}, but {len(lacking)} of its {len(plan.files)} files are missing"
            )
            found += f" there and in seed '{self._seed.path}'." if self._seed else "."
            raise HubError(unreachable.reason, f"{unreachable.message} {found}", unreachable.remedy)
        if unreachable and plan.ref:
            by = f"refs/{self._revision} names" if plan.commit == plan.ref_before else "the seed names"
            found = f"Using commit {plan.commit}, which {by}; it is complete, but may not be the newest."
            plan.warnings.append(f"{unreachable.message} {found}")

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
        needed = plan.bytes_to_fetch - self._linked_bytes(plan)
        if needed and free + freed < needed + self._min_free_bytes:
            raise HubError(
                "no_space",
                f"cache_dir '{self._cache.cache_dir}' has {gb(free)} free, but {gb(needed)} of "
                f"{self._repo_id} are to be fetched and {gb(self._min_free_bytes)} must stay free (min_free_bytes).",
                "Free space there, remove another model (state: absent), or set model_cache_dir (parameter cache_dir) "
                "to a larger disk.",
            )

    def _linked_bytes(self, plan: Plan) -> int:
        """What comes from the seed without taking space."""
        if not self._seed:
            return 0
        files = {file.etag: file for file in plan.to_fetch if file.etag in plan.seeded}
        return sum(
            file.size for etag, file in files.items() if self._seed.links(plan.seeded[etag], self._cache.cache_dir)
        )

    def apply(self, plan: Plan) -> Done:
        done, begin = Done(), time.monotonic()
        if plan.listing_is_new:
            self._cache.write_listing(plan.commit, plan.listing, plan.origin)
        else:
            self._cache.share_listing(plan.commit)
        if plan.leftovers:
            self._remove_leftovers(set(plan.leftovers))
        if plan.to_do:
            completion = Completion(self._cache, plan, done, self._seed)
            completion.run(self._hub, self._repo_id, self._max_workers, self._stall_seconds)
        if plan.ref and plan.ref_before != plan.commit:
            self._cache.write_ref(plan.ref, plan.commit)
        done.seconds = time.monotonic() - begin
        return done

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
