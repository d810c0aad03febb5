"""hf_cache_info on caches that hf_model and huggingface_hub filled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab_hub import serving
from lab_hub.serving import FILES, REPO, SIZE

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient
from ansible_collections.preheat.fleet.plugins.module_utils.hf_inventory import inventory
from ansible_collections.preheat.fleet.plugins.module_utils.hf_snapshot import Snapshot

hub = pytest.fixture(serving.serve)
ROOT = Path(__file__).parents[4]
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def fill(hub, cache) -> Path:
    repo = RepoCache(cache, REPO)
    snapshot = Snapshot(HubClient(hub.endpoint, retries=0), repo, repo_id=REPO, revision="main", selection=Selection())
    plan = snapshot.plan()
    snapshot.apply(plan)
    return repo.snapshot(plan.commit)


def look(cache, repo_id=None) -> list[dict]:
    return inventory(cache, Selection(), repo_id)


def test_a_cache_that_is_not_there(cache):
    assert look(cache) == []
    assert not cache.exists()


def test_a_complete_snapshot(hub, cache):
    root = fill(hub, cache)
    hub.control.reset()
    (repo,) = look(cache)
    (revision,) = repo["revisions"]
    assert (repo["repo_id"], repo["size_bytes"], repo["leftover_bytes"]) == (REPO, SIZE, 0)
    assert repo["refs"] == {"main": root.name}
    assert (revision["commit"], revision["refs"], revision["files"]) == (root.name, ["main"], len(FILES))
    assert (revision["complete"], revision["checked_against"]) == (True, "listing")
    assert (revision["size_bytes"], revision["missing"], revision["damaged"]) == (SIZE, [], [])
    assert hub.requests() == 0


def test_last_use(hub, cache):
    root = fill(hub, cache)
    used = time.time() + 5000
    os.utime(root / SHARD, (used, 1))
    (repo,) = look(cache)
    assert abs(repo["last_used"] - used) < 1


def lose_link(root):
    (root / SHARD).unlink()


def lose_blob(root):
    (root / SHARD).resolve().unlink()


def cut(root):
    os.truncate((root / SHARD).resolve(), 10)


@pytest.mark.parametrize(
    ("damage", "missing", "damaged"), [(lose_link, [SHARD], []), (lose_blob, [SHARD], []), (cut, [], [SHARD])]
)
def test_an_incomplete_snapshot(hub, cache, damage, missing, damaged):
    damage(fill(hub, cache))
    (revision,) = look(cache)[0]["revisions"]
    assert (revision["complete"], revision["missing"], revision["damaged"]) == (False, missing, damaged)


INDEX = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"x.safetensors.index.json": INDEX, "m-1.safetensors": "", "m-2.safetensors": ""}, (True, "index", [], [])),
        ({"x.safetensors.index.json": INDEX, "m-1.safetensors": ""}, (False, "index", ["m-2.safetensors"], [])),
        ({"x.safetensors.index.json": "{"}, (False, "index", [], ["x.safetensors.index.json"])),
        ({"model.safetensors": "w"}, (None, "none", [], [])),
        ({}, (None, "none", [], [])),
    ],
)
def test_without_a_listing_the_index_of_the_weights_tells(cache, files, expected):
    root = RepoCache(cache, REPO).snapshot("c" * 40)
    root.mkdir(parents=True)
    for name, text in files.items():
        (root / name).write_text(text)
    (repo,) = look(cache)
    (revision,) = repo["revisions"]
    assert (revision["complete"], revision["checked_against"], revision["missing"], revision["damaged"]) == expected
    assert repo["size_bytes"] == sum(len(text) for text in files.values())


def test_leftovers_and_the_filter(hub, cache):
    fill(hub, cache)
    (cache / "models--acme--tiny" / "blobs" / "x.incomplete").write_bytes(b"12345")
    (cache / "models--other" / "blobs").mkdir(parents=True)
    assert [repo["repo_id"] for repo in look(cache)] == [REPO, "other"]
    (repo,) = look(cache, REPO)
    assert repo["leftover_bytes"] == 5
    assert look(cache, "acme/none") == []


def test_as_a_process_without_the_library(hub, cache, tmp_path):
    fill(hub, cache)
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "huggingface_hub.py").write_text("raise ImportError('not here')")
    answer = subprocess.run(
        [sys.executable, "-m", "ansible_collections.preheat.fleet.plugins.modules.hf_cache_info"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"cache_dir": str(cache)}}),
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'stub'}:{ROOT / '.collections'}"},
        check=True,
    )
    result = json.loads(answer.stdout)
    assert (result["changed"], result["size_bytes"], len(result["repos"])) == (False, SIZE, 1)
