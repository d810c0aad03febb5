"""Resolving a revision without a cache, as the controller does."""

from __future__ import annotations

import pytest
from lab_hub import serving
from lab_hub.serving import FILES, REPO, SIZE

from ansible_collections.preheat.fleet.plugins.module_utils import hf_tree

hub = pytest.fixture(serving.serve)


def test_resolve(hub):
    manifest = hf_tree.resolve(REPO, "main", endpoint=hub.endpoint)
    tree = hub.repos.tree(REPO, "main")
    assert manifest["commit"] == tree.commit
    assert manifest["bytes_total"] == SIZE
    shard = tree.files["model-00001-of-00002.safetensors"]
    assert {"path": shard.path, "size": shard.size, "sha256": shard.sha256} in manifest["files"]
    config = tree.files["config.json"]
    assert {"path": "config.json", "size": config.size, "git_sha1": config.git_sha1} in manifest["files"]
    assert hub.requests() == 2
    assert hf_tree.resolve(REPO, tree.commit, endpoint=hub.endpoint) == manifest
    assert hub.requests() == 3


def test_many_files_come_in_pages(hub):
    hub.page_size = 2
    assert len(hf_tree.resolve(REPO, endpoint=hub.endpoint)["files"]) == len(FILES)


def test_patterns(hub):
    manifest = hf_tree.resolve(REPO, endpoint=hub.endpoint, allow_patterns=["*.json"], ignore_patterns=["tokenizer/"])
    assert [file["path"] for file in manifest["files"]] == ["config.json"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"repo_id": "acme/nothing"}, "repo_not_found"),
        ({"revision": "v9"}, "revision_not_found"),
        ({"allow_patterns": ["*.zip"]}, "nothing_selected"),
        ({"allow_patterns": ["*.json", "*.bin"]}, "pickle_not_allowed"),
        ({"repo_id": "a/b/c"}, "bad_name"),
        ({"repo_id": "a--b/c"}, "bad_name"),
        ({"repo_id": ""}, "bad_name"),
        ({"revision": "a b"}, "bad_name"),
        ({"endpoint": "nowhere"}, "bad_name"),
    ],
)
def test_errors_name_a_remedy(hub, given, reason):
    with pytest.raises(hf_tree.HubError) as caught:
        hf_tree.resolve(**{"repo_id": REPO, "endpoint": hub.endpoint, **given})
    assert caught.value.reason == reason
    assert caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct", "a_b/c.d"])
def test_good_names(name):
    hf_tree.check_names(name, "refs/pr/1")
