# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a model lies in the host's Hub cache, and whether a server can start from it."""

from __future__ import annotations

import os

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import COMMIT

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


class ModelMissing(Exception):
    """The model, or a part of it, is not in the cache. The text says which."""


def resolve_commit(cache_dir, repo_id, revision):
    """The commit of a revision, by the cache's own references and nothing else."""
    commit = revision if COMMIT.fullmatch(revision) else RepoCache(cache_dir, repo_id).ref(revision)
    if commit is None:
        raise ModelMissing(f"repo_id '{repo_id}' at revision '{revision}' is not in the Hub cache {cache_dir}")
    return commit


def check_complete(directory):
    """Raise ModelMissing unless a server could load this directory: its files are there, weights among them."""
    if not os.path.isfile(os.path.join(directory, "config.json")):
        raise ModelMissing(f"{directory} has no config.json")
    files = _files(directory)
    dangling = sorted(path for path in files if not os.path.exists(path))
    if dangling:
        raise ModelMissing(f"{dangling[0]} points to a blob that is not there ({len(dangling)} such files)")
    if not weight_files(directory):
        raise ModelMissing(f"{directory} has no weights (*{', *'.join(WEIGHT_SUFFIXES)})")


def _files(directory):
    return [os.path.join(root, name) for root, unused, names in os.walk(directory) for name in names]


def weight_files(directory):
    """The files that a server reads the weights from, links followed, each once: safetensors where there are any."""
    found = [path for path in _files(directory) if path.endswith(WEIGHT_SUFFIXES) and os.path.isfile(path)]
    preferred = [path for path in found if path.endswith(WEIGHT_SUFFIXES[0])]
    return sorted({os.path.realpath(path) for path in preferred or found})


class ModelSource:
    """A model on this host: where it lies, here and in the container, and what the server is told to load."""

    def __init__(self, directory, container_path, mount, arguments, *, repo_id=None, commit=None):
        self.directory = directory
        self.container_path = container_path
        self.mount = mount
        self.arguments = arguments
        self.repo_id = repo_id
        self.commit = commit

    def described(self):
        """What modules return of it."""
        return {
            "repo_id": self.repo_id,
            "commit": self.commit,
            "path": self.directory,
            "container_path": self.container_path,
        }


def from_cache(cache_dir, container_cache_dir, repo_id, commit):
    """A snapshot of the Hub cache. The cache is mounted whole: a snapshot's files link to its blobs."""
    directory = str(RepoCache(cache_dir, repo_id).snapshot(commit))
    inside = str(RepoCache(container_cache_dir, repo_id).snapshot(commit))
    arguments = ["--model-path", repo_id, "--revision", commit]
    return ModelSource(directory, inside, (cache_dir, container_cache_dir), arguments, repo_id=repo_id, commit=commit)


def from_directory(path):
    """A model in a directory of its own, mounted where it lies."""
    return ModelSource(path, path, (path, path), ["--model-path", path])
