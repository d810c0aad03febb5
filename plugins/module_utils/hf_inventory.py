# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's Hugging Face cache holds, and whether it is whole. Standard library only, no network."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import (
    DAMAGED,
    MISSING,
    UNLINKED,
    RepoCache,
    repo_ids,
)
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import Selection, matches

INDEXES = ("*.safetensors.index.json", "*.bin.index.json")


def inventory(cache_dir, selection: Selection, repo_id: str | None = None) -> list[dict]:
    """One entry per model repo, by name; a cache that does not exist holds nothing."""
    names = [name for name in repo_ids(cache_dir) if repo_id in (None, name)]
    return [_repo(RepoCache(cache_dir, name), name, selection) for name in names]


def _repo(cache: RepoCache, repo_id: str, selection: Selection) -> dict:
    refs = cache.refs()
    blobs = [path for path in cache.blobs.iterdir() if path.is_file()] if cache.blobs.is_dir() else []
    revisions = [_revision(cache, commit, refs, selection) for commit in cache.commits()]
    copies = sum(revision.pop("_copied_bytes") for revision in revisions)
    leftovers = cache.leftovers()
    return {
        "repo_id": repo_id,
        "path": str(cache.path),
        "size_bytes": sum(map(_occupied, blobs)) + copies,
        "leftover_bytes": sum(map(_occupied, leftovers)),
        "downloading": cache.is_busy(),
        "refs": refs,
        "last_used": max((revision["last_used"] for revision in revisions), default=0.0),
        "revisions": revisions,
    }


def _occupied(blob: Path) -> int:
    """Parts of files have holes."""
    status = blob.stat()
    return min(status.st_size, status.st_blocks * 512) if blob.name.endswith(".incomplete") else status.st_size


def _revision(cache: RepoCache, commit: str, refs: dict[str, str], selection: Selection) -> dict:
    root = cache.snapshot(commit)
    present = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    stats = {os.path.realpath(str(path)): path.stat() for path in present.values()}
    copied = [path for path in present.values() if not path.is_symlink()]
    against, absent, damaged = _completeness(cache, commit, present, selection)
    return {
        "commit": commit,
        "refs": sorted(name for name, target in refs.items() if target == commit),
        "path": str(root),
        "files": len(present),
        "size_bytes": sum(stat.st_size for stat in stats.values()),
        "complete": None if against == "none" else not (absent or damaged),
        "checked_against": against,
        "missing": absent,
        "damaged": damaged,
        "last_modified": max((stat.st_mtime for stat in stats.values()), default=0.0),
        "last_used": max((max(stat.st_atime, stat.st_mtime) for stat in stats.values()), default=0.0),
        "_copied_bytes": sum(path.stat().st_size for path in copied),
    }


def _completeness(cache: RepoCache, commit: str, present: dict, selection: Selection) -> tuple[str, list, list]:
    """(what was looked at, missing paths, damaged paths): the Hub's listing, else the weights' own index."""
    listing = cache.listing(commit)
    if listing is not None:
        states = {file.path: cache.check(commit, file) for file in selection.of(listing)}
        absent = [path for path, state in states.items() if state in (MISSING, UNLINKED)]
        return "listing", absent, [path for path, state in states.items() if state == DAMAGED]
    indexes = {path: _weights(present[path]) for path in present if matches(path, INDEXES)}
    if not indexes:
        return "none", [], []
    wanted = {(Path(index).parent / name).as_posix() for index, names in indexes.items() for name in names or ()}
    return "index", sorted(wanted - set(present)), sorted(index for index, names in indexes.items() if names is None)


def _weights(index: Path) -> set[str] | None:
    try:
        return weights_of(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def weights_of(index: str) -> set[str] | None:
    """The files that an index of shards names; None if it cannot be read."""
    try:
        return set(json.loads(index)["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
