# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a snapshot, or a whole repo, out of the Hugging Face cache. No network.

Not huggingface_hub's delete_revisions: that skips repos with a damaged snapshot, which are the ones to be rid of.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_tree import COMMIT


@dataclass
class Removal:
    commits: list[str] = field(default_factory=list)
    refs: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)  # in the order in which they go
    bytes_freed: int = 0


def plan_removal(cache: RepoCache, revision: str | None) -> Removal:
    """What has to go for a revision (or, with None, the repo) to be gone; blobs that other snapshots use stay."""
    refs, commits = cache.refs(), cache.commits()
    if revision is None:
        if not cache.path.is_dir():
            return Removal()
        return Removal(commits, sorted(refs), [cache.path], _size([cache.path]))
    commit = revision if COMMIT.fullmatch(revision) else refs.get(revision)
    if commits == [commit]:
        return plan_removal(cache, None)
    if commit is None or commit not in commits:
        return Removal()
    kept = {blob for other in commits if other != commit for blob in _blobs(cache.snapshot(other))}
    names = sorted(name for name, target in refs.items() if target == commit)
    # Refs first: the snapshot must not be found by name while its blobs go.
    paths = [cache.path / "refs" / name for name in names]
    paths += [cache.snapshot(commit), cache.path / "trees" / (commit + ".json")]
    paths += sorted(blob for blob in _blobs(cache.snapshot(commit)) - kept if blob.parent == cache.blobs)
    paths = [path for path in paths if os.path.lexists(str(path))]
    return Removal([commit], names, paths, _size(paths))


def remove(removal: Removal) -> None:
    for path in removal.paths:
        if path.is_dir():
            shutil.rmtree(str(path))
        else:
            path.unlink()


def _blobs(snapshot: Path) -> set[Path]:
    """One hop only: in huggingface_hub 2.x a blob may itself be a link into a store that repos share."""
    links = [path for path in snapshot.rglob("*") if path.is_symlink()]
    return {Path(os.path.normpath(str(link.parent / os.readlink(str(link))))) for link in links}


def _size(paths: list[Path]) -> int:
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())
