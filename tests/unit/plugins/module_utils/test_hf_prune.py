"""What goes and what stays when a Hub cache is over its budget."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from hub_cache import DAY, NOW, K, commit, snapshot

from ansible_collections.preheat.fleet.plugins.module_utils import hf_prune, hf_remove
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_prune import Limits
from ansible_collections.preheat.fleet.plugins.module_utils.hf_use import Container


@pytest.fixture
def cache(tmp_path):
    """In K: old/a 300, used 30 days ago; mid/b 200, 20 days; new/c 100, 10 days; each on main."""
    root = tmp_path / "hub"
    snapshot(root, "old/a", "a", {"a": 300}, days=30, ref="main")
    snapshot(root, "mid/b", "b", {"b": 200}, days=20, ref="main")
    snapshot(root, "new/c", "c", {"c": 100}, days=10, ref="main")
    return root


def extra(cache) -> int:
    """Bytes of listings and refs."""
    return hf_remove.size_bytes(cache.glob("models--*")) % K


def plan(cache, budget=None, keep=(), containers=(), **limits):
    budget = 0 if budget is None else budget * K + extra(cache)
    return hf_prune.plan(cache, Limits(budget_bytes=budget, **limits), list(keep), list(containers), NOW)


def repos(units):
    return [unit.repo_id for unit in units]


def why(found):
    return {unit.repo_id: unit.why for unit in found.kept}


def server(cache, *texts, name="server", managed=True, alive=True, mount="", ended=0.0):
    return Container(name, alive, managed, (os.path.realpath(cache / mount),), texts, ended)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (None, []),
        (600, []),
        (599, ["old/a"]),
        (300, ["old/a"]),
        (100, ["old/a", "mid/b"]),
        (1, ["old/a", "mid/b", "new/c"]),
    ],
)
def test_the_least_recently_used_go_until_the_budget_holds(cache, budget, expected):
    found = plan(cache, budget)
    assert repos(found.freed) == expected
    assert found.short_bytes == 0
    assert sorted(repos(found.kept) + expected) == ["mid/b", "new/c", "old/a"]


def test_applied_the_cache_has_the_size_that_was_planned(cache):
    found = plan(cache, 300)
    assert hf_prune.apply(cache, found.freed) == []
    assert hf_remove.size_bytes(cache.glob("models--*")) == found.size_bytes - found.freed_bytes
    assert not (cache / "models--old--a").exists()
    assert plan(cache, 300).freed == []


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        ({"repo_id": "old/a"}, "this play needs it"),
        ({"repo_id": "old/a", "revision": "main"}, "this play needs it"),
        ({"repo_id": "old/a", "revision": commit("a")}, "this play needs it"),
        ({"repo_id": "old/a", "revision": commit("f")}, "this play needs it"),  # to come: it may share blobs
    ],
)
def test_what_the_play_needs_stays(cache, keep, reason):
    found = plan(cache, 1, [keep])
    assert repos(found.freed) == ["mid/b", "new/c"]
    assert why(found) == {"old/a": reason}
    assert round(found.short_bytes / K) == 299


def test_other_revisions_of_a_repo_that_the_play_needs_may_go(cache):
    snapshot(cache, "old/a", "d", {"d": 50}, days=40)
    found = plan(cache, 601, [{"repo_id": "old/a"}])
    assert [(unit.commit, unit.size_bytes // K) for unit in found.freed] == [(commit("d"), 50)]
    hf_prune.apply(cache, found.freed)
    assert RepoCache(cache, "old/a").commits() == [commit("a")]


def test_revisions_that_share_blobs_count_with_what_they_free(cache):
    snapshot(cache, "old/a", "d", {"a": 300, "d": 10}, days=40)
    snapshot(cache, "old/a", "e", {"a": 300, "e": 20}, days=30)
    found = plan(cache, 629)
    assert [(unit.commit, round(unit.size_bytes / K)) for unit in found.freed] == [(commit("a"), 0), (commit("d"), 10)]
    assert found.evictable_bytes == found.size_bytes
    found = plan(cache, 610)
    assert [round(unit.size_bytes / K) for unit in found.freed] == [0, 10, 320]
    hf_prune.apply(cache, found.freed)
    assert not (cache / "models--old--a").exists()


@pytest.mark.parametrize(
    ("texts", "stays"),
    [
        (("--model-path", "old/a", "--revision", commit("a")), ["old/a"]),
        (("--model-path", "old/a", "--speculative-draft-model-path", "mid/b"), ["old/a", "mid/b"]),
        (("--model-path", "/root/.cache/huggingface/hub/models--old--a/snapshots/x"), ["old/a"]),
        (("--lora-paths", "x=OLD/A"), ["old/a"]),
        (("--model-path", "none/of-these"), ["old/a", "mid/b", "new/c"]),  # nothing known: everything
    ],
)
def test_a_server_keeps_what_it_names(cache, texts, stays):
    found = plan(cache, 1, containers=[server(cache, *texts)])
    assert sorted(unit.repo_id for unit in found.kept) == sorted(stays)
    assert set(why(found).values()) == {"used by container server"}


def test_a_server_keeps_its_commit_and_no_other(cache):
    snapshot(cache, "old/a", "d", {"d": 50}, days=40)
    found = plan(cache, 1, containers=[server(cache, "--model-path", "old/a", "--revision", commit("a"))])
    assert [unit.commit for unit in found.kept] == [commit("a")]


@pytest.mark.parametrize("mount", ["", "..", "../.."])
def test_a_container_that_is_not_known_keeps_all_that_it_sees(cache, mount):
    found = plan(cache, 1, containers=[server(cache, "vllm", "old/a", name="vllm", managed=False, mount=mount)])
    assert found.freed == []
    assert set(why(found).values()) == {"used by container vllm"}


@pytest.mark.parametrize("mount", ["models--old--a", f"models--old--a/snapshots/{commit('a')}"])
def test_a_container_that_mounts_one_repo_keeps_that(cache, mount):
    found = plan(cache, 1, containers=[server(cache, managed=False, mount=mount)])
    assert repos(found.kept) == ["old/a"]


def test_containers_beside_the_cache_keep_nothing(cache, tmp_path):
    (tmp_path / "hub-other").mkdir()
    found = plan(cache, 1, containers=[server(tmp_path / "hub-other", managed=False)])
    assert found.kept == []


def test_the_end_of_a_container_is_a_use(cache):
    ended = server(cache, "--model-path", "old/a", alive=False, ended=NOW - DAY)
    assert repos(plan(cache, 500, containers=[ended]).freed) == ["mid/b"]
    unknown = server(cache, managed=False, alive=False, ended=NOW - DAY)
    assert repos(plan(cache, 500, containers=[unknown]).freed) == ["old/a"]


def test_what_was_used_lately_stays(cache):
    found = plan(cache, 1, keep_used_within_seconds=int(15 * DAY))
    assert repos(found.freed) == ["old/a", "mid/b"]
    assert why(found) == {"new/c": "used lately"}


def test_a_repo_that_is_being_downloaded_stays(cache):
    repo = RepoCache(cache, "old/a")
    repo.locks.mkdir(parents=True)
    part = repo.blobs / "e.1234abcd.incomplete"
    part.write_bytes(b"12345")
    with repo.lock("e").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = plan(cache, 1)
        assert why(found) == {"old/a": "a download of this repo is going on"}
        assert repos(found.freed) == ["mid/b", "new/c"]
    found = plan(cache, 1)
    assert [unit.kind for unit in found.freed] == ["leftover", "revision", "revision", "revision"]
    with repo.lock("e").open("w") as lock:  # it has begun meanwhile
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert set(repos(hf_prune.apply(cache, found.freed))) == {"old/a"}
    assert part.exists()
    assert not (cache / "models--mid--b").exists()


def test_leftovers_and_orphans_go_whatever_the_budget(cache):
    blobs = RepoCache(cache, "old/a").blobs
    (blobs / "e.1234abcd.incomplete").write_bytes(b"12345")
    (blobs / "f").write_bytes(b"1234567")
    found = plan(cache)
    assert [(unit.kind, unit.size_bytes) for unit in found.freed] == [("leftover", 5), ("orphan", 7)]
    assert (found.freed_bytes, found.short_bytes) == (12, 0)
    # With the repo they count once.
    assert plan(cache, 1).freed_bytes == found.size_bytes
    hf_prune.apply(cache, found.freed)
    assert plan(cache).freed == []
    assert len(list(blobs.iterdir())) == 1


def test_leftovers_that_may_be_gone_on_with_stay(cache):
    (RepoCache(cache, "old/a").blobs / "e.1234abcd.incomplete").write_bytes(b"12345")
    assert plan(cache, keep=[{"repo_id": "old/a"}]).freed == []
    lately = plan(cache, 1, keep_used_within_seconds=10**9)
    assert why(lately)["old/a"] == "a download of this repo was cut off lately"
    assert lately.freed == []


def test_room_for_a_download_is_made_only_if_it_will_do(cache):
    found = plan(cache, 700, incoming_bytes=250 * K)
    assert repos(found.freed) == ["old/a"]
    found = plan(cache, 700, incoming_bytes=701 * K)
    assert (found.freed, found.short_bytes > 0) == ([], True)


def test_a_full_disk(cache, monkeypatch):
    monkeypatch.setattr(hf_prune, "free_bytes", lambda path: 1000 * K)
    assert repos(plan(cache, incoming_bytes=900 * K, min_free_bytes=200 * K).freed) == ["old/a"]
    assert plan(cache, incoming_bytes=900 * K, min_free_bytes=100 * K).freed == []


def test_a_cache_that_is_not_there(tmp_path):
    found = hf_prune.plan(tmp_path / "none", Limits(budget_bytes=1), [], [], NOW)
    assert (found.size_bytes, found.freed, found.kept) == (0, [], [])
    assert not (tmp_path / "none").exists()


def test_blobs_that_repos_share_go_with_the_last_of_them(tmp_path):
    library = pytest.importorskip("huggingface_hub.utils._shared_blobs")
    cache = tmp_path / "hub"
    for repo, letter, days in (("one/a", "a", 30), ("two/b", "b", 20)):
        root = snapshot(cache, repo, letter, {"s": 1}, days=days)
        (blob,) = hf_remove.blobs_of(root)
        if repo == "one/a":
            library.publish_blob_to_shared_store(blob_path=blob, xet_hash="e" * 64, cache_dir=cache, expected_size=K)
        else:
            blob.unlink()
            assert library.try_link_from_shared_store(
                blob_path=blob, xet_hash="e" * 64, cache_dir=cache, expected_size=K
            )
        assert blob.is_symlink()
    size = plan(cache).size_bytes
    assert K < size < 2 * K
    first = hf_prune.plan(cache, Limits(budget_bytes=size - 1), [], [], NOW)
    assert repos(first.freed) == ["one/a"]
    assert first.freed_bytes < K  # the other has the bytes still
    hf_prune.apply(cache, first.freed)
    (blob,) = hf_remove.blobs_of(RepoCache(cache, "two/b").snapshot(commit("b")))
    assert blob.stat().st_size == K
    last = hf_prune.plan(cache, Limits(budget_bytes=1), [], [], NOW)
    assert last.freed_bytes >= K
    hf_prune.apply(cache, last.freed)
    assert not list((cache / "blobs").rglob("e" * 64))


def jit(tmp_path, name, days):
    folder = tmp_path / "jit" / name / "triton"
    folder.mkdir(parents=True)
    (folder / "kernel").write_bytes(b"123")
    for path in (folder / "kernel", folder, folder.parent):
        os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return folder.parent


def test_compiled_kernels_go_by_their_last_use(tmp_path):
    for name, days in (("old", 40), ("mounted", 40), ("new", 5)):
        jit(tmp_path, name, days)
    user = Container("s", True, True, (os.path.realpath(tmp_path / "jit" / "mounted"),), ())
    going, kept = hf_prune.plan_jit(tmp_path / "jit", 30 * DAY, [user], NOW)
    assert [Path(unit.path).name for unit in going] == ["old"]
    assert {Path(unit.path).name: unit.why for unit in kept} == {"mounted": "used by container s", "new": "used lately"}
    hf_prune.apply(tmp_path / "hub", going)
    assert sorted(path.name for path in (tmp_path / "jit").iterdir()) == ["mounted", "new"]
    assert hf_prune.plan_jit(tmp_path / "none", 1, [], NOW) == ([], [])
