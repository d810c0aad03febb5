"""hf_model on a real Hub for tests, with the real huggingface_hub."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import huggingface_hub
import pytest
from lab_hub import serving
from lab_hub.serving import FILES, REPO, SIZE, hf_model_params

from ansible_collections.preheat.fleet.plugins.module_utils import hf_errors, hf_fetch, hf_snapshot
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError
from ansible_collections.preheat.fleet.plugins.modules import hf_model

hub = pytest.fixture(serving.serve)
ROOT = Path(__file__).parents[4]
SHARD = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"
MODULE = "ansible_collections.preheat.fleet.plugins.modules.hf_model"
# For Python 3.9 there is version 1 only, which lists no commits and names its leftovers in another way.
of_huggingface_hub_2 = pytest.mark.skipif(huggingface_hub.__version__.startswith("1."), reason="huggingface_hub 1")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(hf_errors, "DELAY_SECONDS", (0.0, 0.0))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def present(hub, cache, check_mode=False, **given) -> dict:
    return hf_model.present(hf_model_params(hub.endpoint, cache, **given), check_mode)


def start(hub, cache, *, check=False, diff=False, env=None, **given) -> subprocess.Popen:
    """The module as Ansible runs it: a process of its own, with its arguments as JSON."""
    arguments = {
        name: value for name, value in hf_model_params(hub.endpoint, cache, **given).items() if value is not None
    }
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT / ".collections"), **(env or {})},
    )
    arguments.update({"_ansible_check_mode": check, "_ansible_diff": diff})
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
    process.stdin.close()
    process.stdin = None
    return process


def finish(process) -> dict:
    output, errors = process.communicate(timeout=60)
    assert not errors, errors
    return json.loads(output)


def tree_of(folder) -> dict:
    """Everything about a folder that a careless module could change; {} if there is none."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode, os.readlink(path) if path.is_symlink() else "")
        + ((hashlib.sha1(path.read_bytes()).hexdigest(),) if path.is_file() else ())
        for path in [folder, *folder.rglob("*")]
        if os.path.lexists(path)
    }


def repo_dir(cache) -> Path:
    return cache / "models--acme--tiny"


def contents(result) -> dict[str, bytes]:
    root = Path(result["snapshot_path"])
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def blob(result, path) -> Path:
    return (Path(result["snapshot_path"]) / path).resolve()


# cold and warm


def test_cold(hub, cache):
    result = present(hub, cache)
    assert result["changed"]
    assert contents(result) == FILES
    assert result["commit"] == hub.repos.tree(REPO, "main").commit
    assert (result["bytes_total"], result["bytes_to_fetch"], result["bytes_fetched"]) == (SIZE, SIZE, SIZE)
    assert (result["source"], result["verified"], result["repaired"]) == ("hub", "hash", [])
    assert result["mb_per_second"] > 0
    assert {file["path"]: file["found"] for file in result["files"]} == dict.fromkeys(FILES, "missing")
    assert (repo_dir(cache) / "refs" / "main").read_text() == result["commit"]
    listing = repo_dir(cache) / "trees" / f"{result['commit']}.json"
    assert listing.stat().st_mode & 0o777 == 0o644
    assert not list(cache.rglob("*.incomplete"))
    assert os.readlink(Path(result["snapshot_path"]) / "tokenizer" / "tokenizer.json").startswith("../../../blobs/")


@of_huggingface_hub_2
def test_huggingface_hub_agrees(hub, cache):
    result = present(hub, cache)
    requests = hub.requests()
    path = huggingface_hub.snapshot_download(REPO, cache_dir=cache, local_files_only=True)
    assert path == result["snapshot_path"]
    # Online, by commit, it finds our listing and every file, and asks for nothing.
    huggingface_hub.snapshot_download(REPO, revision=result["commit"], cache_dir=cache, endpoint=hub.endpoint)
    assert hub.requests() == requests


@of_huggingface_hub_2
def test_a_snapshot_of_huggingface_hub_is_taken_over(hub, cache):
    huggingface_hub.snapshot_download(REPO, cache_dir=cache, endpoint=hub.endpoint)
    listing = next((repo_dir(cache) / "trees").iterdir())
    assert listing.stat().st_mode & 0o777 == 0o600
    hub.control.reset()
    result = present(hub, cache)
    assert not result["changed"]
    assert hub.requests() == 1
    assert listing.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(("by", "requests"), [("branch", 1), ("commit", 0)])
def test_no_op(hub, cache, by, requests):
    revision = present(hub, cache)["commit"] if by == "commit" else "main"
    present(hub, cache, revision=revision)
    before = tree_of(cache)
    hub.control.reset()
    result = present(hub, cache, revision=revision)
    assert not result["changed"]
    assert (result["bytes_fetched"], result["source"], result["verified"]) == (0, "cache", "size")
    assert hub.requests() == requests, hub.targets()
    assert tree_of(cache) == before


def test_a_branch_that_moved(hub, cache):
    old = present(hub, cache)
    new_commit = hub.publish({**FILES, "config.json": b"new"})
    hub.control.reset()
    result = present(hub, cache)
    assert (result["changed"], result["commit"]) == (True, new_commit)
    assert result["bytes_fetched"] == len(b"new")  # the shards are the same blobs
    assert contents(result)["config.json"] == b"new"
    assert contents(old) == FILES
    assert (repo_dir(cache) / "refs" / "main").read_text() == new_commit


def test_a_tag_gets_a_ref_of_its_own(hub, cache):
    commit = hub.publish({"config.json": b"v1", "model.safetensors": b"w"}, ref="v1")
    assert present(hub, cache, revision="v1")["commit"] == commit
    assert (repo_dir(cache) / "refs" / "v1").read_text() == commit
    assert not (repo_dir(cache) / "refs" / "main").exists()


def test_equal_files_are_fetched_once(hub, cache):
    hub.publish({"a/model.safetensors": b"same" * 1000, "b/model.safetensors": b"same" * 1000})
    result = present(hub, cache)
    assert (result["bytes_total"], result["bytes_to_fetch"], result["bytes_fetched"]) == (8000, 4000, 4000)
    assert len(contents(result)) == 2


# damage


def truncate(result):
    os.truncate(blob(result, SHARD), 1000)


def grow(result):
    blob(result, SHARD).write_bytes(FILES[SHARD] + b"tail")


def flip(result):
    with blob(result, SHARD).open("r+b") as file:
        file.write(b"\xff")


def lose_blob(result):
    blob(result, SHARD).unlink()


def lose_link(result):
    (Path(result["snapshot_path"]) / SHARD).unlink()


def mislink(result):
    link = Path(result["snapshot_path"]) / SHARD
    other = os.readlink(link.with_name(SECOND))
    link.unlink()
    link.symlink_to(other)


def copied_and_cut(result):
    link = Path(result["snapshot_path"]) / SHARD
    link.unlink()
    link.write_bytes(b"cut")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (truncate, "damaged"),
        (grow, "damaged"),
        (flip, "damaged"),
        (lose_blob, "missing"),
        (lose_link, "unlinked"),
        (mislink, "unlinked"),
        (copied_and_cut, "damaged"),
    ],
)
def test_damage_is_found_and_repaired(hub, cache, damage, found):
    first = present(hub, cache)
    damage(first)
    hub.control.reset()
    result = present(hub, cache, revision=first["commit"], verify="full" if damage is flip else "size")
    assert result["changed"]
    assert {file["path"] for file in result["files"] if file["found"] == found} == {SHARD}
    assert result["repaired"] == ([SHARD] if found == "damaged" else [])
    assert result["bytes_fetched"] == (0 if found == "unlinked" else len(FILES[SHARD]))
    assert set(hub.control.stats()["files"]) <= {f"{REPO}/{SHARD}"}
    assert contents(result) == FILES
    assert not present(hub, cache, revision=first["commit"], verify="full")["changed"]


@pytest.mark.parametrize("damage", [truncate, copied_and_cut])
def test_what_is_damaged_cannot_be_loaded_until_it_is_repaired(hub, cache, damage):
    first = present(hub, cache)
    damage(first)
    hub.control.add_fault(kind="status", status=404, match="^/cdn/", count=None)
    with pytest.raises(HubError, match="404"):
        present(hub, cache)
    assert SHARD not in contents(first)


def test_full_verification_of_a_good_snapshot(hub, cache):
    present(hub, cache)
    result = present(hub, cache, verify="full")
    assert (result["changed"], result["verified"]) == (False, "hash")


# errors that pass


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "match": "/revision/main"},
        {"kind": "429", "retry_after": 0, "match": "/revision/main", "count": 2},
        {"kind": "drop", "match": "/revision/main"},
        {"kind": "status", "status": 502, "match": "/tree/"},
        {"kind": "status", "status": 503, "match": "^/cdn/.*00001"},
        {"kind": "status", "status": 500, "match": "/resolve/.*config.json"},
        {"kind": "drop", "after_bytes": 500000, "match": "^/cdn/.*00001"},
        {"kind": "wrong_bytes", "after_bytes": 500000, "match": "^/cdn/.*00001"},
        {"kind": "truncate", "after_bytes": 500000, "match": "^/cdn/.*00001"},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault['match']}",
)
def test_errors_that_pass(hub, cache, fault):
    hub.control.add_fault(**fault)
    result = present(hub, cache)
    assert contents(result) == FILES
    assert not present(hub, cache, verify="full")["changed"]
    assert not list(cache.rglob("*.incomplete"))


def test_a_broken_download_goes_on_where_it_was(hub, cache):
    hub.control.add_fault(kind="truncate", after_bytes=500000, match="^/cdn/.*00001")
    present(hub, cache)
    assert hub.control.stats()["files"][f"{REPO}/{SHARD}"]["bytes"] < 1.2 * len(FILES[SHARD])


@pytest.mark.parametrize(("status", "asked"), [(429, 7), (503, 3)])
def test_the_hub_says_how_long_to_wait(hub, status, asked):
    waits = []
    hub.control.add_fault(kind="status", status=status, retry_after=asked, match="/revision/")
    HubClient(hub.endpoint, retries=1, sleep=waits.append).commit(REPO, "main")
    assert len(waits) == 1
    assert asked <= waits[0] <= asked + 1


def test_wrong_bytes_every_time(hub, cache):
    hub.control.add_fault(kind="wrong_bytes", match="^/cdn/.*00001", count=None)
    with pytest.raises(HubError, match="3 times") as caught:
        present(hub, cache)
    assert caught.value.reason == "wrong_bytes"
    etag = hub.repos.tree(REPO, "main").files[SHARD].sha256
    assert not (repo_dir(cache) / "blobs" / etag).exists()
    assert not (repo_dir(cache) / "refs").exists()
    assert not list(cache.rglob("*.incomplete"))


# transfers that hang

STALL = {"kind": "stall", "after_bytes": 400_000, "seconds": 2, "match": "^/cdn/.*00001"}


def test_a_transfer_that_hangs_is_cut_and_goes_on(hub, cache):
    hub.control.add_fault(**STALL)
    result = present(hub, cache, stall_seconds=0.3)
    assert contents(result) == FILES
    # What had come is not asked for again; some of it may still have been on its way.
    assert hub.control.stats()["files"][f"{REPO}/{SHARD}"]["bytes"] < 1.5 * len(FILES[SHARD])


def test_a_hub_that_hangs_is_left_for_another(hub, cache, tmp_path):
    hub.control.add_fault(**STALL, count=None)
    with serving.ServedHub(tmp_path / "mirror") as mirror:
        mirror.publish(FILES)
        result = present(hub, cache, stall_seconds=0.3, fallback_endpoints=[mirror.endpoint])
        assert contents(result) == FILES
        assert mirror.control.stats()["sides"]["cdn"]["bytes"] > 0


def test_a_hub_that_always_hangs(hub, cache):
    hub.control.add_fault(**{**STALL, "after_bytes": 0, "count": None})
    with pytest.raises(HubError, match=r"no byte of model-00001.* in 0.3 s \(attempts: 3\)") as caught:
        present(hub, cache, stall_seconds=0.3)
    assert caught.value.reason == "stalled"
    assert "model_cache_stall_seconds" in caught.value.remedy


@pytest.mark.parametrize("lacks", ["everything", "the repo"])
def test_a_mirror_without_the_repo(hub, cache, tmp_path, lacks):
    with serving.ServedHub(tmp_path / "mirror") as mirror:
        if lacks == "the repo":
            mirror.publish(FILES, repo="acme/other")
        result = present(mirror, cache, fallback_endpoints=[hub.endpoint])
    assert contents(result) == FILES


def test_no_time_to_stall(hub, cache):
    with pytest.raises(HubError, match="model_cache_stall_seconds"):
        present(hub, cache, stall_seconds=0)


# errors that stay


@pytest.mark.parametrize(
    ("given", "reason", "says"),
    [
        ({"repo_id": "acme/nothing"}, "repo_not_found", "spelling"),
        ({"revision": "v9"}, "revision_not_found", "v9"),
        ({"revision": "0" * 40}, "revision_not_found", "0000"),
        ({"repo_id": "acme/gated"}, "gated_repo", "Accept its licence"),
        ({"repo_id": "acme/gated", "token": "stranger"}, "gated_repo", "model_cache_token"),
        ({"repo_id": "acme/private"}, "repo_not_found", "private repo"),
        ({"repo_id": "acme/private", "token": "stranger"}, "repo_not_found", "model_cache_token"),
        ({"token": "made-up"}, "unauthorized", "valid token"),
        ({"endpoint": "hub.example"}, "bad_name", "https://"),
        ({"repo_id": "../../etc"}, "bad_name", "ORG/NAME"),
        ({"revision": "../../etc"}, "bad_name", "branch"),
        ({"allow_patterns": ["*.nothing"]}, "nothing_selected", "*.nothing"),
    ],
)
def test_errors_that_stay(hub, cache, given, reason, says):
    for kind in ("gated", "private"):
        hub.publish(FILES, repo=f"acme/{kind}")
        hub.control.restrict(f"acme/{kind}", kind, tokens=["friend"], other_tokens=["stranger"])
    with pytest.raises(HubError) as caught:
        present(hub, cache, **given)
    assert caught.value.reason == reason
    assert says in str(caught.value)
    assert given.get("token", "friend") not in str(caught.value)
    assert not list(cache.rglob("refs/*"))


def test_the_token_opens_the_repo_and_never_reaches_the_cdn(hub, cache):
    hub.control.restrict(REPO, tokens=["friend"])
    assert contents(present(hub, cache, token="friend")) == FILES
    stats = hub.control.stats()
    assert stats["sides"]["cdn"]["requests"] == 2
    assert stats["cdn_authorizations"] == 0


DOWN = {"kind": "status", "status": 503, "match": "^/api/", "count": None}


def test_hub_down_and_the_snapshot_complete(hub, cache):
    commit = present(hub, cache)["commit"]
    hub.control.add_fault(**DOWN)
    result = present(hub, cache)
    assert (result["changed"], result["commit"]) == (False, commit)
    assert "may not be the newest" in result["warnings"][0]
    assert not present(hub, cache, revision=commit)["warnings"]


@pytest.mark.parametrize("damage", [None, lose_blob, truncate])
def test_hub_down_and_the_snapshot_not_complete(hub, cache, damage):
    if damage:
        damage(present(hub, cache))
    hub.control.add_fault(**DOWN)
    with pytest.raises(HubError, match="503") as caught:
        present(hub, cache)
    assert caught.value.reason == "hub_unreachable"
    assert ("1 of its 5 files" in str(caught.value)) is (damage is not None)


def test_nobody_listens(hub, cache):
    with pytest.raises(HubError, match="attempts: 3") as caught:
        present(hub, cache, endpoint="http://127.0.0.1:9")
    assert caught.value.reason == "hub_unreachable"
    assert "model_cache_endpoint" in caught.value.remedy


# what must never be half done


@of_huggingface_hub_2
def test_the_ref_moves_last(hub, cache):
    old = present(hub, cache)
    new_commit = hub.publish({**FILES, SHARD: b"new"})
    hub.control.add_fault(kind="status", status=404, match="^/cdn/.*00001", count=None)
    with pytest.raises(HubError):
        present(hub, cache)
    assert (repo_dir(cache) / "refs" / "main").read_text() == old["commit"]
    assert huggingface_hub.snapshot_download(REPO, cache_dir=cache, local_files_only=True) == old["snapshot_path"]
    # Whoever asks for the new commit offline is told that it is incomplete.
    with pytest.raises(Exception, match="incomplete"):
        huggingface_hub.snapshot_download(REPO, revision=new_commit, cache_dir=cache, local_files_only=True)


LARGE = "model.safetensors"


@pytest.fixture
def large(hub):
    """A repo whose one shard takes a while; returns its size."""
    data = random.Random(1).randbytes(24 << 20)
    hub.publish({"config.json": b"{}", LARGE: data})
    return len(data) + 2


def kill_midway(hub, cache, size, **given) -> int:
    """Kill the module when a part of the large shard has come; returns what the Hub has sent."""
    hub.control.mb_per_second = 8
    process = start(hub, cache, max_workers=2, **given)
    wait_for(lambda: hub.control.stats()["bytes"] > size / 2)
    hub.control.mb_per_second = 0.1  # so that however late the signal is, it is not too late
    process.send_signal(signal.SIGKILL)
    process.communicate()
    hub.control.mb_per_second = None
    return hub.control.stats()["bytes"]


def test_killed_midway_goes_on_where_it_was(hub, cache, large):
    sent = kill_midway(hub, cache, large)
    assert sent < large
    assert not (repo_dir(cache) / "refs").exists()
    predicted = present(hub, cache, check_mode=True)
    result = present(hub, cache)
    assert blob(result, LARGE).stat().st_size == large - 2
    assert hashlib.sha256(blob(result, LARGE).read_bytes()).hexdigest() == blob(result, LARGE).name
    connections, chunk = 2, 1 << 20
    assert hub.control.stats()["files"][f"{REPO}/{LARGE}"]["bytes"] <= large + connections * chunk
    assert result["bytes_resumed"] == predicted["bytes_resumed"] >= sent - connections * chunk - 10000
    assert result["leftovers"] == []
    assert result["bytes_fetched"] + result["bytes_resumed"] == pytest.approx(large, abs=10)
    assert not list(cache.rglob("*.incomplete"))
    assert not present(hub, cache)["changed"]


def test_killed_twice(hub, cache, large):
    kill_midway(hub, cache, large / 2)
    kill_midway(hub, cache, large * 3 / 2)
    assert present(hub, cache, verify="full")["bytes_resumed"] > large / 2
    assert hub.control.stats()["files"][f"{REPO}/{LARGE}"]["bytes"] <= large + 2 * 2 * (1 << 20)


@of_huggingface_hub_2
def test_what_huggingface_hub_has_left_is_completed(hub, cache, large):
    """It never resumes what a killed process has left."""
    hub.control.mb_per_second = 8
    process = subprocess.Popen([sys.executable, "-c", LIBRARY, REPO, str(cache), hub.endpoint])
    wait_for(lambda: hub.control.stats()["bytes"] > large * 2 / 3)
    hub.control.mb_per_second = 0.1
    process.kill()
    process.wait()
    hub.control.mb_per_second = None
    result = present(hub, cache)
    # What it had written, and what its own chunks of 10 MiB and its buffers had not.
    assert result["bytes_resumed"] >= 10 << 20
    assert result["bytes_fetched"] <= large - result["bytes_resumed"]
    assert not list(cache.rglob("*.incomplete"))


def test_leftovers_of_a_complete_snapshot(hub, cache):
    commit = present(hub, cache)["commit"]
    stale = repo_dir(cache) / "blobs" / f"{'0' * 64}.12345678.incomplete"
    stale.write_bytes(b"x")
    assert present(hub, cache, check_mode=True, revision=commit)["changed"]
    assert stale.exists()
    assert present(hub, cache, revision=commit)["leftovers"] == [stale.name]
    assert not stale.exists()
    assert not present(hub, cache, revision=commit)["changed"]


def test_a_running_download_is_left_alone(hub, cache):
    commit = present(hub, cache)["commit"]
    running = repo_dir(cache) / "blobs" / f"{'0' * 64}.12345678.incomplete"
    running.write_bytes(b"x")
    with (cache / ".locks" / "models--acme--tiny" / f"{'0' * 64}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not present(hub, cache, revision=commit)["changed"]
        assert running.exists()


LIBRARY = (
    "import sys, huggingface_hub as h; h.snapshot_download(sys.argv[1], cache_dir=sys.argv[2], endpoint=sys.argv[3])"
)


@pytest.mark.parametrize("other", ["hf_model", "huggingface_hub"])
def test_two_processes_share_one_download(hub, cache, other):
    hub.control.mb_per_second = 0.8
    first = start(hub, cache)
    wait_for(lambda: list(cache.rglob("*.incomplete")))
    if other == "hf_model":
        second = finish(start(hub, cache))
        assert second["bytes_fetched"] < SIZE
    else:
        subprocess.run([sys.executable, "-c", LIBRARY, REPO, str(cache), hub.endpoint], check=True, capture_output=True)
    result = finish(first)
    assert contents(result) == FILES
    assert hub.control.stats()["sides"]["cdn"]["bytes"] == len(FILES[SHARD]) + len(FILES[SECOND])


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


# space and rights


def test_too_little_space(hub, cache):
    with pytest.raises(HubError, match="must stay free") as caught:
        present(hub, cache, min_free_bytes=1 << 60)
    assert caught.value.reason == "no_space"
    assert not cache.exists()


def test_space_counts_what_a_repair_frees(hub, cache, monkeypatch):
    grow(present(hub, cache))
    monkeypatch.setattr(hf_snapshot, "free_bytes", lambda path: 0)
    assert present(hub, cache)["repaired"] == [SHARD]
    monkeypatch.setattr(hf_snapshot, "free_bytes", lambda path: len(FILES[SHARD]) - 1001)
    truncate(present(hub, cache))
    with pytest.raises(HubError, match="must stay free"):
        present(hub, cache)


def test_the_disk_becomes_full(hub, cache, monkeypatch):
    def full(self, _offset, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hf_fetch._Download, "_write", full)
    with pytest.raises(HubError, match="became full") as caught:
        present(hub, cache)
    assert caught.value.reason == "no_space"
    assert not list(cache.rglob("*.incomplete"))


SYSTEM_PYTHON = "/usr/bin/python3"  # that of a virtual environment may lie where other users may not look


def can_become_nobody() -> bool:
    ask = [SYSTEM_PYTHON, "-c", "import sys; print(sys.version_info[:2])"]
    same = Path(SYSTEM_PYTHON).exists() and subprocess.check_output(ask, text=True).strip() == str(sys.version_info[:2])
    return same and os.geteuid() == 0


@pytest.mark.skipif(not can_become_nobody(), reason="needs root, and a system Python of the same version")
def test_unprivileged(hub):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        own, foreign = Path(folder) / "own", Path(folder) / "foreign"
        own.mkdir()
        foreign.mkdir()
        os.chown(own, 65534, 65534)
        script = (
            f"import os, runpy; os.setgid(65534); os.setuid(65534); runpy.run_module('{MODULE}', run_name='__main__')"
        )
        for cache, failed in ((own, False), (foreign, True)):
            answer = subprocess.run(
                [SYSTEM_PYTHON, "-c", script],
                input=json.dumps(
                    {
                        "ANSIBLE_MODULE_ARGS": {
                            k: v for k, v in hf_model_params(hub.endpoint, cache).items() if v is not None
                        }
                    }
                ),
                capture_output=True,
                text=True,
                cwd="/",
                env={"PYTHONPATH": f"{ROOT / '.collections'}:{sysconfig.get_path('purelib')}", "HOME": folder},
                check=False,
            )
            result = json.loads(answer.stdout)
            assert result.get("failed", False) is failed, result
            if failed:
                assert result["reason"] == "not_writable"
                assert "model_cache_dir" in result["msg"]
            else:
                assert contents(result) == FILES


# check mode


@pytest.mark.parametrize("case", ["cold", "complete", "damaged", "moved"])
def test_check_mode_tells_the_truth_and_touches_nothing(hub, cache, case):
    if case != "cold":
        first = present(hub, cache)
    if case == "damaged":
        truncate(first)
    if case == "moved":
        hub.publish({**FILES, "config.json": b"new"})
    before = tree_of(cache)
    predicted = present(hub, cache, check_mode=True)
    assert tree_of(cache) == before
    assert predicted["bytes_fetched"] == 0
    real = present(hub, cache)
    assert (predicted["changed"], predicted["commit"], predicted["repaired"], predicted["files"]) == (
        real["changed"],
        real["commit"],
        real["repaired"],
        real["files"],
    )
    assert predicted["bytes_to_fetch"] == real["bytes_fetched"]
    assert predicted["diff"] == real["diff"]


# pickles


def test_only_pickled_weights(hub, cache):
    hub.publish({"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    with pytest.raises(HubError, match=r"pytorch_model\.bin") as caught:
        present(hub, cache)
    assert caught.value.reason == "no_weights"
    assert "allow_pickle: true" in caught.value.remedy
    assert "pytorch_model.bin" in contents(present(hub, cache, allow_pickle=True))


def test_pickles_beside_safetensors_are_left(hub, cache):
    hub.publish({**FILES, "pytorch_model.bin": b"pickle", "training_args.bin": b"pickle", "modeling.py": b"code"})
    assert contents(present(hub, cache)) == FILES


# absent


def absent(hub, cache, check_mode=False, **given):
    return hf_model.absent(hf_model_params(hub.endpoint, cache, state="absent", **given), check_mode)


def test_absent_revision_keeps_what_others_use(hub, cache):
    old = present(hub, cache)
    hub.publish({**FILES, "config.json": b"new"})
    new = present(hub, cache)
    before = tree_of(cache)
    hub.control.reset()
    predicted = absent(hub, cache, check_mode=True, revision=old["commit"])
    assert tree_of(cache) == before
    result = absent(hub, cache, revision=old["commit"])
    assert result == predicted
    assert result["removed"]["commits"] == [old["commit"]]
    assert result["removed"]["refs"] == []
    assert not Path(old["snapshot_path"]).exists()
    assert contents(new)["config.json"] == b"new"
    assert len(list((repo_dir(cache) / "blobs").iterdir())) == len(FILES)
    assert not absent(hub, cache, revision=old["commit"])["changed"]
    assert hub.requests() == 0


@pytest.mark.parametrize("revision", [None, "main"])
def test_absent_to_the_last(hub, cache, revision):
    present(hub, cache)
    result = absent(hub, cache, revision=revision)
    assert result["changed"]
    assert result["removed"]["refs"] == ["main"]
    assert result["removed"]["bytes_freed"] >= SIZE
    assert not repo_dir(cache).exists()
    assert not absent(hub, cache, revision=revision)["changed"]


# as Ansible runs it


def test_as_a_process_with_check_diff_and_a_secret(hub, cache):
    secret = "hf_SeCrEt0123456789"
    hub.control.restrict(REPO, tokens=[secret])
    predicted = start(hub, cache, check=True, diff=True, token=secret)
    outputs = [predicted.communicate(timeout=60)]
    assert not cache.exists()
    for given in ({}, {"verify": "full"}):
        process = start(hub, cache, token=secret, **given)
        outputs.append(process.communicate(timeout=60))
    results = [json.loads(output) for output, _errors in outputs]
    assert [result["changed"] for result in results] == [True, True, False]
    assert results[0]["diff"]["after"]["refs"] == {"main": results[0]["commit"]}
    assert "diff" not in results[1]
    assert not any(errors for _output, errors in outputs), outputs
    assert secret not in str(outputs)
    assert not any(secret.encode() in path.read_bytes() for path in cache.rglob("*") if path.is_file())


def test_a_call_that_defers_leaves_the_token_for_the_one_that_fetches(hub, cache):
    secret = "hf_SeCrEt0123456789"
    hub.control.restrict(REPO, tokens=[secret])
    deferred = finish(start(hub, cache, token=secret, progress_bytes=1))
    assert (deferred["deferred"], deferred["bytes_fetched"]) == (True, 0)
    left = Path(deferred["token_file"])
    assert (left.read_text(), left.stat().st_mode & 0o777) == (secret, 0o600)

    done = finish(start(hub, cache, token_file=str(left)))
    assert done["bytes_fetched"] == SIZE
    assert not left.exists()
    assert secret not in json.dumps([deferred, done])

    again = finish(start(hub, cache, token_file=str(left)))
    assert (again["failed"], again["reason"]) == (True, "bad_value")
    assert str(left) in again["msg"]


def test_without_a_token_none_is_left(hub, cache):
    assert "token_file" not in present(hub, cache, progress_bytes=1)
    assert "token_file" not in present(hub, cache, progress_bytes=1, token="any", check_mode=True)


def test_failure_as_a_process(hub, cache):
    result = finish(start(hub, cache, repo_id="acme/nothing"))
    assert result["failed"]
    assert result["reason"] == "repo_not_found"
    assert result["remedy"] in result["msg"]


def test_without_the_library(hub, cache, tmp_path):
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "huggingface_hub.py").write_text("raise ImportError('not here')")
    path = f"{tmp_path / 'stub'}:{ROOT / '.collections'}"
    result = finish(start(hub, cache, env={"PYTHONPATH": path}))
    assert result["failed"]
    assert "huggingface_hub" in result["msg"]
    assert "gpu_host" in result["msg"]
