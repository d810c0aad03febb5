"""The facts of warm-ups: what it notes, and that nothing it cannot write is a failure."""

from __future__ import annotations

import os
import shutil

import pytest
from hub_cache import K, commit, snapshot

from ansible_collections.preheat.fleet.plugins.module_utils.warm_facts import keep


def params(tmp_path, **given):
    return {
        "path": str(tmp_path / "root" / "preheat.fact"), "link_dir": str(tmp_path / "facts.d"), "warm": None,
        "cache_dir": None, "budget_bytes": 0, **given,
    }  # fmt: skip


def test_warm_and_cache_are_noted(tmp_path):
    snapshot(tmp_path / "hub", "o/m", "a", {"a": 3}, ref="main")
    answers = [{"repo_id": "o/m", "commit": commit("a"), "files": ["config.json"], "invocation": {}}]
    given = params(tmp_path, warm=answers, cache_dir=str(tmp_path / "hub"), budget_bytes=9)
    first = keep(given, False)
    assert (first["changed"], first["linked"], first["notice"]) == (True, True, "")
    facts = first["facts"]
    noted = {"time": facts["warm"]["time"], "repo_id": "o/m", "commit": commit("a")}
    assert facts["warm"]["models"] == [noted]
    assert (facts["cache"]["size_bytes"], facts["cache"]["budget_bytes"]) == (3 * K, 9)
    (repo,) = facts["cache"]["repos"]
    assert repo["revisions"] == [{"commit": commit("a"), "refs": ["main"], "complete": True}]
    # A later run notes what it knows and leaves the rest.
    second = keep(params(tmp_path, warm=[]), False)
    assert second["changed"] is False
    assert second["facts"]["warm"]["models"] == [noted]
    assert second["facts"]["cache"] == facts["cache"]


def test_a_model_replaces_its_own_entry_and_those_that_the_cache_lost(tmp_path):
    snapshot(tmp_path / "hub", "o/m", "a", {"a": 3}, ref="main")
    snapshot(tmp_path / "hub", "o/n", "b", {"b": 1}, ref="main")

    def warm(repo_id, letter, source):
        model = {"repo_id": repo_id, "revision": "main", "commit": commit(letter), "source": source}
        found = keep(params(tmp_path, warm=[model], cache_dir=str(tmp_path / "hub")))
        return [(model["repo_id"], model["source"]) for model in found["facts"]["warm"]["models"]]

    assert warm("o/m", "a", "hub") == [("o/m", "hub")]
    assert warm("o/n", "b", "hub") == [("o/n", "hub"), ("o/m", "hub")]
    assert warm("o/m", "a", "cache") == [("o/m", "cache"), ("o/n", "hub")]
    shutil.rmtree(tmp_path / "hub" / "models--o--n")
    assert warm("o/m", "a", "cache") == [("o/m", "cache")]


def test_check_mode_writes_nothing(tmp_path):
    found = keep(params(tmp_path, warm=[]), True)
    assert (found["changed"], found["facts"]) == (True, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["root", "facts.d"])
def test_what_cannot_be_written_is_a_notice(tmp_path, place):
    (tmp_path / place).write_text("a file is in the way")
    found = keep(params(tmp_path, warm=[]), False)
    assert str(tmp_path / place) in found["notice"]
    assert found["linked"] is (place == "root")
    assert bool(found["facts"]) is (place == "facts.d")


def test_without_a_folder_of_facts_there_is_no_link(tmp_path):
    assert keep(params(tmp_path, link_dir=None), False)["linked"]
    assert os.listdir(tmp_path) == ["root"]
