"""The layout of the cache, where it has to be huggingface_hub's own."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from huggingface_hub.file_download import repo_folder_name

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import (
    RepoCache,
    default_cache_dir,
    folder_name,
    free_bytes,
    has_hash,
)
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile

COMMIT = "a" * 40


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HF_HOME": "/data/hf"},
        {"XDG_CACHE_HOME": "/xdg"},
        {"HUGGINGFACE_HUB_CACHE": "/old"},
        {"HF_HUB_CACHE": "/new", "HF_HOME": "/data/hf"},
        {"HF_HOME": "$HOME/hf"},
        {"HF_HUB_CACHE": "~/x"},
    ],
)
def test_the_default_is_the_library_s(environ, monkeypatch):
    for name in ("HF_HOME", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    script = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    library = subprocess.check_output([sys.executable, "-c", script], text=True).strip()
    assert default_cache_dir() == library


@pytest.mark.parametrize("repo_id", ["gpt2", "Qwen/Qwen3-8B"])
def test_folder_name(repo_id):
    assert folder_name(repo_id) == repo_folder_name(repo_id=repo_id, repo_type="model")


def test_the_library_reads_our_listing(tmp_path):
    files = [HubFile("b.safetensors", 7, "1" * 40, "2" * 64, "3" * 64), HubFile("a.json", 2, "4" * 40)]
    cache = RepoCache(tmp_path, "a/b")
    cache.write_listing(COMMIT, files)
    assert sorted(cache.listing(COMMIT), key=lambda file: file.path) == sorted(files, key=lambda file: file.path)
    huggingface_hub = pytest.importorskip("huggingface_hub", "2")
    read = {
        file.path: file for file in huggingface_hub.get_cached_repo_tree("a/b", revision=COMMIT, cache_dir=tmp_path)
    }
    assert read["b.safetensors"].xet_hash == "3" * 64
    assert (read["a.json"].size, read["a.json"].blob_id) == (2, "4" * 40)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 2, "files": {}}', '{"format_version": 1}'])
def test_a_listing_that_cannot_be_read_is_none(tmp_path, text):
    cache = RepoCache(tmp_path, "a/b")
    (cache.path / "trees").mkdir(parents=True)
    (cache.path / "trees" / f"{COMMIT}.json").write_text(text)
    assert cache.listing(COMMIT) is None


def test_refs(tmp_path):
    cache = RepoCache(tmp_path, "a/b")
    assert cache.refs() == {}
    cache.write_ref("main", COMMIT)
    cache.write_ref("refs/pr/1", "b" * 40)
    assert cache.refs() == {"main": COMMIT, "refs/pr/1": "b" * 40}
    assert (cache.path / "refs" / "main").read_bytes() == COMMIT.encode()  # the library takes the whole file


@pytest.mark.parametrize("data", [b"", b"hello", bytes(3 << 20)], ids=len)
def test_hashes(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    git = subprocess.check_output(["git", "hash-object", str(path)], text=True).strip()
    assert has_hash(path, HubFile("x", len(data), git))
    assert has_hash(path, HubFile("x", len(data), "0" * 40, hashlib.sha256(data).hexdigest()))
    assert not has_hash(path, HubFile("x", len(data), "0" * 40))
    assert not has_hash(path, HubFile("x", len(data), git, "0" * 64))


def test_free_bytes_of_a_folder_to_come(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") > 0
    assert not (tmp_path / "a").exists()
