"""What all hosts are to hold, by the Hub's word or by what hosts remember of it."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile, Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_manifest

REPO = "org/model"
COMMIT, OTHER = "a" * 40, "b" * 40
FILES = [
    HubFile("big.safetensors", 5 << 20, "1" * 40, "1" * 64),
    HubFile("a.safetensors", 3 << 20, "2" * 40, "2" * 64),
    HubFile("config.json", 10, "3" * 40),
    HubFile("weights.bin", 10, "4" * 40),
]


def said(commit=COMMIT, files=FILES, origin="hub"):
    return {"commit": commit, "listing": [dataclasses.asdict(file) for file in files], "origin": origin}


NOTHING = {"commit": None, "listing": []}


def test_what_one_host_has_recorded_serves_all():
    found = swarm_manifest.recorded({"h1": NOTHING, "h2": said()}, REPO, Selection())
    assert found["commit"] == COMMIT
    assert found["hosts"] == ["h2"]
    assert found["paths"] == ["big.safetensors", "a.safetensors", "config.json"]
    assert [HubFile(**entry) for entry in found["listing"]] == FILES


def test_small_files_come_first_then_by_path():
    manifest = swarm_manifest.recorded({"h2": said()}, REPO, Selection())
    assert list(swarm_manifest.sizes(manifest)) == ["3" * 40, "2" * 64, "1" * 64]


@pytest.mark.parametrize(
    ("origins", "origin"), [(["seed"], "seed"), (["seed", "hub"], "hub"), (["none", "none"], "none")]
)
def test_the_hubs_word_counts_more_than_a_seeds(origins, origin):
    hosts = {f"h{number}": said(origin=said_by) for number, said_by in enumerate(origins)}
    assert swarm_manifest.recorded(hosts, REPO, Selection())["origin"] == origin


def test_where_no_host_has_recorded_anything_there_is_nothing():
    assert swarm_manifest.recorded({"h1": NOTHING, "h2": NOTHING}, REPO, Selection()) is None


def test_hosts_may_know_different_xet_hashes():
    other = [dataclasses.replace(file, xet_hash="x") for file in reversed(FILES)]
    assert swarm_manifest.recorded({"h1": said(), "h2": said(files=other)}, REPO, Selection())["hosts"] == ["h1", "h2"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (said(commit=OTHER), f"h1 has commit {COMMIT}, but h2 {OTHER}"),
        (said(files=FILES[1:]), "recorded different files"),
        (said(files=[dataclasses.replace(FILES[0], sha256="9" * 64), *FILES[1:]]), "recorded different files"),
    ],
    ids=["commit", "file missing", "other hash"],
)
def test_contradictions_are_refused(other, message):
    with pytest.raises(HubError, match=message):
        swarm_manifest.recorded({"h1": said(), "h2": other}, REPO, Selection())
