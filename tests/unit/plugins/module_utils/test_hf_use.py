"""What containers use of a Hub cache, as the engine describes them, and when snapshots count as used."""

from __future__ import annotations

import os
import time

import pytest
from hub_cache import commit, snapshot

from ansible_collections.preheat.fleet.plugins.module_utils import hf_use
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_inventory import inventory


def document(**state):
    return {
        "Id": "1", "Name": "/server",
        "State": {"Status": "running", "FinishedAt": "0001-01-01T00:00:00Z", **state},
        "Config": {"Entrypoint": None, "Cmd": ["serve", "o/m"], "Env": ["A=b"], "Labels": {"preheat.managed": "true"}},
        "Mounts": [{"Type": "bind", "Source": "/data/hub", "Destination": "/hub"}, {"Type": "tmpfs"}],
    }  # fmt: skip


def test_a_container_of_the_engine_s_answer():
    assert hf_use.container_of(document()) == hf_use.Container(
        "server", True, True, ("/data/hub",), ("serve", "o/m", "A=b"), 0.0
    )


@pytest.mark.parametrize(
    ("status", "alive"),
    [("created", True), ("running", True), ("paused", True), ("restarting", True), ("exited", False), ("dead", False)],
)
def test_what_has_not_ended_holds(status, alive):
    found = hf_use.container_of(document(Status=status, FinishedAt="2026-11-23T10:00:00.5Z"))
    assert (found.alive, found.ended) == (alive, 1795428000.5)


class Engine:
    def __init__(self, _docker_host):
        pass

    def get(self, path):
        if path == "/containers/json?all=true":
            return [{"Id": "1"}, {"Id": "2"}]
        return document() if path == "/containers/1/json" else None  # 2 has gone meanwhile


@pytest.mark.parametrize(("ignore", "names"), [([], ["server"]), (["ser*"], []), (["other"], ["server"])])
def test_containers_of_an_engine(monkeypatch, ignore, names):
    monkeypatch.setattr(hf_use, "Engine", Engine)
    assert [container.name for container in hf_use.containers("unix:///x", ignore)] == names


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], []),
        (["--model-path", "o/m", "--revision", commit("a")], [("o/m", commit("a"))]),
        (["--model-path", "o/m", "--revision", "main"], [("o/m", None)]),
        (["--model-path", "o/m"], [("o/m", None)]),
        (["--model-path", "o/m", "--revision", commit("a"), "--tokenizer-path", "o/m"], [("o/m", None)]),
        (["--model-path", "x", "--draft=o/m", "--revision", commit("a")], [("o/m", None)]),
        (["/hub/models--o--m/snapshots/1"], [("o/m", None)]),
    ],
)
def test_what_a_command_names(texts, expected):
    assert hf_use.named(texts, ["o/m", "o/n"]) == expected


@pytest.mark.parametrize(
    ("mount", "folder", "expected"),
    [
        ("/data/hub", "/data/hub", True),
        ("/", "/data/hub", True),
        ("/data/hub/x", "/data/hub", True),
        ("/data/hub2", "/data/hub", False),
        ("/data/hub", "/data/hub2", False),
    ],
)
def test_mounts(mount, folder, expected):
    assert hf_use.mounts(hf_use.Container("c", True, False, (mount,), ()), folder) is expected


def used(cache):
    repos = inventory(cache, Selection())
    return {revision["commit"][0]: revision["last_used"] for repo in repos for revision in repo["revisions"]}


@pytest.fixture
def past(monkeypatch):
    monkeypatch.setattr("hub_cache.NOW", time.time())


@pytest.mark.usefixtures("past")
def test_a_launch_is_a_use_of_what_it_names(tmp_path):
    for letter in "abc":
        snapshot(tmp_path, f"o/{'m' if letter < 'c' else 'n'}", letter, {letter: 1}, days=10)
    file = snapshot(tmp_path, "o/m", "a", {"a": 1}, days=10) / "a.safetensors"
    changed, begin = file.stat().st_mtime, time.time()
    hf_use.mark_used(str(tmp_path), ["--model-path", "o/m", "--revision", commit("a")])
    assert {letter: when >= begin - 1 for letter, when in used(tmp_path).items()} == {"a": True, "b": False, "c": False}
    assert file.stat().st_mtime == changed
    hf_use.mark_used(str(tmp_path), ["--lora-paths", "x=o/n"])
    assert used(tmp_path)["c"] >= begin - 1


@pytest.mark.usefixtures("past")
def test_the_removal_of_a_server_is_a_use(tmp_path):
    snapshot(tmp_path / "hub", "o/m", "a", {"a": 1}, days=10)
    for name in ("jit", "other"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    begin = time.time()
    mounted = [("hub", False), ("jit", True), ("other", False), ("gone", True)]
    mounts = [{"Source": str(tmp_path / name), "RW": writable} for name, writable in mounted]
    hf_use.mark_container({**document(), "Mounts": [*mounts, {"Type": "tmpfs"}]})
    assert used(tmp_path / "hub")["a"] >= begin - 1
    assert (tmp_path / "jit").stat().st_mtime >= begin - 1
    assert (tmp_path / "other").stat().st_mtime == 0


def test_files_of_others_do_not_stop_a_launch(tmp_path, monkeypatch):
    snapshot(tmp_path, "o/m", "a", {"a": 1})

    def refuse(*_args, **_named):
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    hf_use.mark_used(str(tmp_path), ["o/m"])
    hf_use.mark_used(str(tmp_path / "none"), ["o/m"])
