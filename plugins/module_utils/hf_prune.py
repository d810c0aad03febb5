# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a Hub cache goes so that the rest fits: by last use, and never what is in use, needed, coming or recent.

Looks and plans; apply() removes. No network, standard library only (a store of shared blobs needs huggingface_hub).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils import hf_remove, hf_use
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache, free_bytes
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import COMMIT, Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_inventory import inventory

# Of the modules that evict or foresee it; documented in the fragment preheat.fleet.eviction.
ARGUMENTS = {
    "budget_bytes": {"type": "bytes", "default": 0},
    "keep": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"repo_id": {"type": "str", "required": True}, "revision": {"type": "str", "default": "main"}},
    },
    "keep_used_within_seconds": {"type": "int", "default": 3600},
    "ignore_containers": {"type": "list", "elements": "str", "default": []},
}


@dataclass(frozen=True)
class Limits:
    """What must hold afterwards. budget_bytes 0: no limit of the cache's size."""

    budget_bytes: int = 0
    min_free_bytes: int = 0
    incoming_bytes: int = 0  # about to be downloaded
    keep_used_within_seconds: float = 0.0


@dataclass(frozen=True)
class Unit:
    """A snapshot, or a file or folder that is removed as one. why: what keeps it; empty if it may go."""

    kind: str  # revision, leftover, orphan, jit
    path: str
    size_bytes: int
    last_used: float
    repo_id: str | None = None
    commit: str | None = None
    why: str = ""

    def summary(self) -> dict:
        names = ("kind", "repo_id", "commit", "path", "size_bytes", "last_used")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**found, **({"why": self.why} if self.why else {})}


@dataclass
class Plan:
    cache_dir: Path
    size_bytes: int  # of the models and of what downloads have left
    wanted_bytes: int  # to be freed
    freed: list[Unit] = field(default_factory=list)
    kept: list[Unit] = field(default_factory=list)
    evictable_bytes: int = 0  # the most that could be freed
    freed_bytes: int = 0

    @property
    def short_bytes(self) -> int:
        """What is still missing afterwards."""
        return max(0, self.wanted_bytes - self.freed_bytes)


def plan(cache_dir, limits: Limits, keep: list[dict], containers: list[hf_use.Container], now: float) -> Plan:
    """Least recently used snapshots go until the limits hold; leftovers of dead downloads go in any case.

    keep: repo_id and revision of what the play needs. Where room is made for a download that would not fit even so,
    no snapshot goes at all.
    """
    cache_dir = Path(cache_dir)
    repos = inventory(cache_dir, Selection())
    recent = now - limits.keep_used_within_seconds
    uses = [(container, hf_use.used_by(container, str(cache_dir))) for container in containers]
    revisions, garbage = [], []
    for repo in repos:
        found, rubbish = _units_of(cache_dir, repo, _needed(repo, keep), uses, recent)
        revisions += found
        garbage += rubbish
    stores = [cache_dir / "blobs"] if hf_remove.has_store(cache_dir) else []
    size = hf_remove.size_bytes([*(Path(repo["path"]) for repo in repos), *stores])
    result = Plan(cache_dir, size, _wanted(cache_dir, size, limits), freed=garbage)
    result.freed_bytes = sum(unit.size_bytes for unit in garbage)
    candidates = sorted((unit for unit in revisions if not unit.why), key=lambda unit: (unit.last_used, unit.path))
    chosen, freed_by_all = _choose(cache_dir, candidates, garbage, result.short_bytes)
    result.evictable_bytes = result.freed_bytes + freed_by_all
    if not limits.incoming_bytes or result.evictable_bytes >= result.wanted_bytes:
        result.freed += chosen
        result.freed_bytes += sum(unit.size_bytes for unit in chosen)
    going = {unit.path for unit in result.freed}
    result.kept = [unit for unit in revisions if unit.path not in going]
    return result


def _wanted(cache_dir: Path, size: int, limits: Limits) -> int:
    over_budget = size + limits.incoming_bytes - limits.budget_bytes if limits.budget_bytes else 0
    return max(0, over_budget, limits.incoming_bytes + limits.min_free_bytes - free_bytes(cache_dir))


def _units_of(cache_dir: Path, repo: dict, needed: set[str], uses: list, recent: float) -> tuple[list, list]:
    """(snapshots, files that belong to none) of a repo."""
    cache = RepoCache(cache_dir, repo["repo_id"])
    strays = _strays(cache)
    reason = ""
    if repo["downloading"]:
        reason = "a download of this repo is going on"
    elif any(unit.last_used > recent for unit in strays):
        reason = "a download of this repo was cut off lately"
    units = []
    for revision in repo["revisions"]:
        users, last_used = _use(repo["repo_id"], revision, uses)
        why = reason
        if revision["commit"] in needed:
            why = "this play needs it"
        elif users:
            why = f"used by container {', '.join(users)}"
        elif not why and last_used > recent:
            why = "used lately"
        size = hf_remove.plan_commits(cache, {revision["commit"]}).bytes_freed
        units.append(Unit("revision", revision["path"], size, last_used, repo["repo_id"], revision["commit"], why))
    # What was cut off may be gone on with, by the play or by a container of which nothing is known.
    settled = not reason and not needed and not any(unit.why.startswith("used by") for unit in units)
    return units, strays if settled else []


def _needed(repo: dict, keep: list[dict]) -> set[str]:
    """Commits that the play needs. As long as its snapshot is not whole, all: they may share blobs with it."""
    found = set()
    for model in keep:
        if model["repo_id"] != repo["repo_id"]:
            continue
        revision = model.get("revision") or "main"
        commit = revision if COMMIT.fullmatch(revision) else repo["refs"].get(revision)
        whole = [entry["commit"] for entry in repo["revisions"] if entry["commit"] == commit and entry["complete"]]
        found |= set(whole or (entry["commit"] for entry in repo["revisions"]))
    return found


def _use(repo_id: str, revision: dict, uses: list) -> tuple[list[str], float]:
    """(names of containers that may read a snapshot, when it was used last)."""
    users, last_used = [], revision["last_used"]
    for container, used in uses:
        if (repo_id, None) not in used and (repo_id, revision["commit"]) not in used:
            continue
        if container.alive:
            users.append(container.name)
        elif container.managed:  # of others it is not known what they read while they ran
            last_used = max(last_used, container.ended)
    return users, last_used


def _strays(cache: RepoCache) -> list[Unit]:
    """What downloads that ended early have left: parts of files, and blobs that no snapshot has."""
    linked = {blob for commit in cache.commits() for blob in hf_remove.blobs_of(cache.snapshot(commit))}
    repo_id = cache.path.name[len("models--") :].replace("--", "/")
    units = []
    for path in sorted(set(cache.blobs.iterdir()) - linked) if cache.blobs.is_dir() else []:
        kind = "leftover" if path.name.endswith(".incomplete") else "orphan"
        changed = max(path.lstat().st_mtime, path.lstat().st_ctime)
        units.append(Unit(kind, str(path), hf_remove.freed_bytes(cache.cache_dir, [path]), changed, repo_id))
    return units


def _choose(cache_dir: Path, candidates: list[Unit], garbage: list[Unit], wanted: int) -> tuple[list[Unit], int]:
    """(the first candidates that together free what is wanted, what all of them would free).

    Snapshots of a repo share blobs, so each counts with what it frees beside what goes before it.
    """
    gone: dict[str, set[str]] = {}
    freed_of: dict[str, int] = {}
    chosen: list[Unit] = []
    freed = 0
    for unit in candidates:
        repo_id = unit.repo_id or ""
        gone.setdefault(repo_id, set()).add(unit.commit or "")
        cache = RepoCache(cache_dir, repo_id)
        removal = hf_remove.plan_commits(cache, gone[repo_id])
        total = removal.bytes_freed
        if removal.paths == [cache.path]:
            total -= sum(other.size_bytes for other in garbage if other.repo_id == repo_id)
        more = total - freed_of.get(repo_id, 0)
        freed_of[repo_id] = total
        if freed < wanted:
            chosen.append(replace(unit, size_bytes=more))
        freed += more
    return chosen, freed


def plan_jit(jit_cache_dir, unused_seconds: float, containers: list[hf_use.Container], now: float) -> tuple[list, list]:
    """(folders of compiled kernels that go, those that stay): each first-level folder by its last use."""
    root = Path(jit_cache_dir)
    going: list[Unit] = []
    kept: list[Unit] = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.is_symlink() or not folder.is_dir():
            continue
        users = [
            container.name for container in containers if container.alive and hf_use.mounts(container, str(folder))
        ]
        used = _last_used(folder)
        why = f"used by container {', '.join(users)}" if users else "used lately" if now - used < unused_seconds else ""
        unit = Unit("jit", str(folder), hf_remove.size_bytes([folder]), used, why=why)
        (kept if why else going).append(unit)
    return going, kept


def _last_used(folder: Path) -> float:
    latest = folder.stat().st_mtime
    for root, _folders, names in os.walk(str(folder)):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.stat(os.path.join(root, name))
                latest = max(latest, status.st_atime, status.st_mtime)
    return latest


def apply(cache_dir, units: list[Unit]) -> list[Unit]:
    """Remove; returns what was left after all because a download of its repo has begun meanwhile."""
    left = []
    by_repo: dict[str, list[Unit]] = {}
    for unit in units:
        by_repo.setdefault(unit.repo_id or "", []).append(unit)
    for repo_id, ours in by_repo.items():
        cache = RepoCache(cache_dir, repo_id)
        if repo_id and cache.is_busy():
            left += ours
            continue
        hf_remove.remove(hf_remove.plan_commits(cache, {unit.commit for unit in ours if unit.commit}))
        rest = [Path(unit.path) for unit in ours if os.path.lexists(unit.path)]
        hf_remove.remove(hf_remove.Removal(paths=rest, cache_dir=cache.cache_dir if repo_id else None))
    return left
