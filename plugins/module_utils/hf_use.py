# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses a Hub cache: what of it the containers of a host need, and when a snapshot was used last.

The file system does not tell: reading through a read-only mount, which is how servers have the cache, leaves the time
of the last access as it was. So a launch and a removal of a server set it, on the files that it reads.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import MANAGED_LABEL
from ansible_collections.preheat.fleet.plugins.module_utils.docker_time import parse_timestamp
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache, folder_name, repo_ids
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import COMMIT
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_engine import Engine

# A container that was created is about to start, one that is dead or exited holds nothing.
GONE = ("exited", "dead", "removing")


@dataclass(frozen=True)
class Container:
    """A container as far as caches are concerned."""

    name: str
    alive: bool
    managed: bool  # by preheat, which names in the command all that is loaded
    mounts: tuple[str, ...]  # folders of the host, links resolved
    texts: tuple[str, ...]  # the command, the entry point and the environment
    ended: float = 0.0  # epoch seconds; 0 while it runs, or where it never ran


def container_of(document: dict) -> Container:
    """Of the engine's answer to inspect."""
    config, state = document.get("Config") or {}, document.get("State") or {}
    texts = [text for key in ("Entrypoint", "Cmd", "Env") for text in config.get(key) or []]
    return Container(
        name=document.get("Name", "").lstrip("/"),
        alive=state.get("Status") not in GONE,
        managed=(config.get("Labels") or {}).get(MANAGED_LABEL) == "true",
        mounts=tuple(
            os.path.realpath(mount["Source"]) for mount in document.get("Mounts") or [] if mount.get("Source")
        ),
        texts=tuple(texts),
        ended=parse_timestamp(state.get("FinishedAt")) or 0.0,
    )


def containers(docker_host: str, ignore: list[str]) -> list[Container]:
    """All containers of an engine but those whose names match a pattern of C(ignore). Raises EngineError."""
    engine = Engine(docker_host)
    found = (engine.get(f"/containers/{entry['Id']}/json") for entry in engine.get("/containers/json?all=true") or [])
    known = [container_of(document) for document in found if document]  # one may have gone meanwhile
    return [container for container in known if not any(fnmatchcase(container.name, pattern) for pattern in ignore)]


def mounts(container: Container, folder: str) -> bool:
    """Whether a folder, one above it or something inside it is mounted."""
    folder = os.path.realpath(folder)
    return any(_is_within(folder, mount) or _is_within(mount, folder) for mount in container.mounts)


def used_by(container: Container, cache_dir: str) -> list[tuple[str, str | None]]:
    """(repo, commit or None for all its commits) that a container may read in a cache.

    preheat's containers name what they load. Of others nothing is known: all that they can see counts.
    """
    cache_dir, repos = os.path.realpath(cache_dir), repo_ids(cache_dir)
    used: list[tuple[str, str | None]] = []
    for mount in container.mounts:
        if _is_within(cache_dir, mount):  # the cache, or a folder that it is in
            used += (named(container.texts, repos) if container.managed else []) or [(repo, None) for repo in repos]
        elif _is_within(mount, cache_dir):
            first = os.path.relpath(mount, cache_dir).split(os.sep)[0]
            inside = [repo for repo in repos if folder_name(repo) == first]
            used += [(repo, None) for repo in inside or repos]
    return used


def named(texts, repos: list[str]) -> list[tuple[str, str | None]]:
    """The repos that a command names, each with its commit where that is given, else None."""
    texts = list(texts)
    found: list[tuple[str, str | None]] = []
    for repo in repos:
        naming = [text for text in texts if repo.lower() in text.lower() or folder_name(repo).lower() in text.lower()]
        if naming:
            found.append((repo, _commit_of(texts, repo) if naming == [repo] else None))
    return found


def _commit_of(texts: list[str], repo: str) -> str | None:
    """What preheat's launches look like: --model-path REPO --revision COMMIT."""
    at = texts.index(repo)
    follows = texts[at - 1 : at] == ["--model-path"] and texts[at + 1 : at + 2] == ["--revision"]
    commit = texts[at + 2] if follows and len(texts) > at + 2 else ""
    return commit if COMMIT.fullmatch(commit) else None


def mark_mounts(mounted, texts) -> None:
    """A server begins or ends: what it has mounted was used. mounted: (folder of the host, whether it may write).

    Of a cache, which it reads, the snapshots that its command names; a folder of compiled kernels as a whole.
    """
    for folder, writable in mounted:
        mark_used(folder, texts)
        if writable:
            with contextlib.suppress(OSError):
                os.utime(folder)


def mark_container(document: dict) -> None:
    """The same for a container, as the engine's answer to inspect describes it."""
    mounted = [
        (mount["Source"], bool(mount.get("RW"))) for mount in document.get("Mounts") or [] if mount.get("Source")
    ]
    mark_mounts(mounted, container_of(document).texts)


def mark_used(cache_dir: str, texts) -> None:
    """Set the time of the last access of all snapshots that a server's command names to now.

    Does what it can: files of another user keep their times.
    """
    now = time.time_ns()
    for repo, commit in named(texts, repo_ids(cache_dir)):
        cache = RepoCache(cache_dir, repo)
        for snapshot in [cache.snapshot(commit)] if commit else [cache.snapshot(name) for name in cache.commits()]:
            for path in snapshot.rglob("*"):
                with contextlib.suppress(OSError):
                    if path.is_file():
                        os.utime(str(path), ns=(now, path.stat().st_mtime_ns))


def _is_within(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder
