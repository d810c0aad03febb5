# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take snapshots, or a whole repo, out of the Hugging Face cache. No network.

Not huggingface_hub's delete_revisions: that skips repos with a damaged snapshot, which are the ones to be rid of. Its
strategy does the work where a cache has the library's store of blobs that repos share, whose references it counts.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import COMMIT

STORE_MARKER = ".huggingface-shared-blobs"  # in CACHE/blobs, since huggingface_hub 2


@dataclass
class Removal:
    commits: list[str] = field(default_factory=list)
    refs: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)  # in the order in which they go
    bytes_freed: int = 0
    cache_dir: Path | None = None


def plan_removal(cache: RepoCache, revision: str | None) -> Removal:
    """What has to go for a revision (or, with None, the repo) to be gone; blobs that other snapshots use stay."""
    if revision is None:
        return _whole(cache)
    commit = revision if COMMIT.fullmatch(revision) else cache.refs().get(revision)
    return plan_commits(cache, {commit} if commit in cache.commits() else set())


def plan_commits(cache: RepoCache, commits: set[str]) -> Removal:
    """The same for several snapshots of a repo at once; all of them are the repo."""
    present = cache.commits()
    if not commits:
        return Removal()
    if commits.issuperset(present):
        return _whole(cache)
    kept = {blob for other in present if other not in commits for blob in blobs_of(cache.snapshot(other))}
    gone = {blob for commit in commits for blob in blobs_of(cache.snapshot(commit))}
    names = sorted(name for name, target in cache.refs().items() if target in commits)
    # Refs first: the snapshot must not be found by name while its blobs go.
    paths = [cache.path / "refs" / name for name in names]
    for commit in sorted(commits):
        paths += [cache.snapshot(commit), cache.path / "trees" / (commit + ".json")]
    paths += sorted(blob for blob in gone - kept if blob.parent == cache.blobs)
    paths = [path for path in paths if os.path.lexists(str(path))]
    return Removal(sorted(commits), names, paths, freed_bytes(cache.cache_dir, paths), cache.cache_dir)


def _whole(cache: RepoCache) -> Removal:
    if not cache.path.is_dir():
        return Removal()
    freed = freed_bytes(cache.cache_dir, [cache.path])
    return Removal(cache.commits(), sorted(cache.refs()), [cache.path], freed, cache.cache_dir)


def remove(removal: Removal) -> None:
    if removal.cache_dir and has_store(removal.cache_dir):
        _remove_by_library(removal)
        return
    for path in removal.paths:
        if path.is_dir():
            shutil.rmtree(str(path))
        else:
            path.unlink()


def _remove_by_library(removal: Removal) -> None:
    """It removes the files of its store that no repo refers to any more, under its own locks."""
    import huggingface_hub

    folders = frozenset(path for path in removal.paths if path.is_dir())
    blobs = frozenset(path for path in removal.paths if path.parent.name == "blobs")
    whole = frozenset(path for path in folders if path.parent == removal.cache_dir)
    huggingface_hub.DeleteCacheStrategy(
        expected_freed_size=removal.bytes_freed,
        blobs=blobs,
        refs=frozenset(removal.paths) - blobs - folders,
        repos=whole,
        snapshots=folders - whole,
        cache_dir=removal.cache_dir,
    ).execute()
    left = [str(path) for path in removal.paths if os.path.lexists(str(path))]
    if left:  # the library only warns
        raise PermissionError(f"could not be removed: {', '.join(left[:3])}")


def has_store(cache_dir) -> bool:
    return (Path(cache_dir) / "blobs" / STORE_MARKER).exists()


def blobs_of(snapshot: Path) -> set[Path]:
    """One hop only: in huggingface_hub 2.x a blob may itself be a link into a store that repos share."""
    links = [path for path in snapshot.rglob("*") if path.is_symlink()]
    return {Path(os.path.normpath(str(link.parent / os.readlink(str(link))))) for link in links}


def size_bytes(paths) -> int:
    """What regular files at and below paths take; a file with several names counts once."""
    found = {}
    for path in paths:
        for file in path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]:
            if file.is_file() and not file.is_symlink():
                status = file.lstat()
                found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


def freed_bytes(cache_dir: Path, paths: list[Path]) -> int:
    """What removing paths of a cache frees: their files, and those in the store that nothing else refers to."""
    freed = size_bytes(paths)
    if not has_store(cache_dir):
        return freed
    removed = set()
    for path in paths:
        removed |= set((path / "blobs").glob("*")) if path.is_dir() else {path}
    stored = {os.path.realpath(str(path)) for path in removed if path.is_symlink()}
    others = {path for path in cache_dir.glob("*--*/blobs/*") if path.is_symlink()} - removed
    stored -= {os.path.realpath(str(path)) for path in others}
    return freed + size_bytes([Path(path) for path in stored])
