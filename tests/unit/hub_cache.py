"""A Hub cache made by hand: repos, snapshots and blobs of given sizes and ages. Beside K, listings are nothing."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile

NOW = 2_000_000_000.0  # later than every time that the file system notes by itself
DAY = 86400.0
K = 10_000


def commit(letter: str) -> str:
    return letter * 40


def snapshot(cache_dir, repo: str, letter: str, files: dict[str, int], *, days=10.0, ref: str | None = None) -> Path:
    """A complete snapshot, last used so many days before NOW. files: {blob: size in K}, so that snapshots can share."""
    cache = RepoCache(cache_dir, repo)
    cache.blobs.mkdir(parents=True, exist_ok=True)
    listing = []
    for name, size in files.items():
        etag = (name.encode().hex() + "0" * 64)[:64]
        file = HubFile(f"{name}.safetensors", size * K, "1" * 40, etag)
        if not cache.blob(file).exists():
            cache.blob(file).touch()
            os.truncate(cache.blob(file), size * K)
        cache.link(commit(letter), file)
        os.utime(cache.blob(file), (NOW - days * DAY, NOW - 100 * DAY))
        listing.append(file)
    cache.write_listing(commit(letter), listing)
    if ref:
        cache.write_ref(ref, commit(letter))
    return cache.snapshot(commit(letter))
