from __future__ import annotations

import os

import pytest
from hub_cache import NOW, K, snapshot

from ansible_collections.preheat.fleet.plugins.module_utils import preflight_facts
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_engine import EngineError


def parameters(tmp_path, **changes):
    params = {
        "docker_host": "",
        "images": [],
        "registry_username": None,
        "registry_password": None,
        "cache_dir": str(tmp_path),
        "root_dir": None,
        "venv": None,
        "repo_id": "org/name",
        "blobs": [],
        "disk_needed_bytes": 0,
        "controller_time": None,
        "budget_bytes": 0,
        "keep": [],
        "keep_used_within_seconds": 0,
        "ignore_containers": [],
    }
    return dict(params, **changes)


@pytest.mark.parametrize(
    ("there", "blobs", "needed", "missing"),
    [
        ({}, {}, 700, 700),
        ({}, {"a": 100, "b": 20}, 700, 120),
        ({"a": 100}, {"a": 100, "b": 20}, 0, 20),
        ({"a": 100, "b": 20}, {"a": 100, "b": 20}, 0, 0),
        ({"a": 99}, {"a": 100, "b": 20}, 0, 120),
        ({"a.12345678.incomplete": 100}, {"a": 100}, 0, 100),
        ({"c": 5}, {"a": 100}, 0, 100),
    ],
)
def test_missing_bytes(tmp_path, there, blobs, needed, missing):
    folder = tmp_path / "models--org--name" / "blobs"
    folder.mkdir(parents=True)
    for name, size in there.items():
        (folder / name).write_bytes(b"x" * size)
    wanted = [{"etag": etag, "size": size} for etag, size in blobs.items()]
    params = parameters(tmp_path, blobs=wanted + wanted[:1], disk_needed_bytes=needed)
    assert preflight_facts.missing_bytes(params) == missing


def test_missing_bytes_without_a_cache(tmp_path):
    params = parameters(tmp_path, cache_dir=str(tmp_path / "none"), blobs=[{"etag": "a", "size": 9}])
    assert preflight_facts.missing_bytes(params) == 9


def test_eviction(tmp_path, monkeypatch):
    snapshot(tmp_path, "old/a", "a", {"a": 3})
    snapshot(tmp_path, "new/b", "b", {"b": 2})
    monkeypatch.setattr(preflight_facts.hf_use, "containers", lambda host, ignore: [])
    wishes = parameters(tmp_path, keep=[{"repo_id": "new/b"}])
    assert preflight_facts.eviction(wishes, NOW) is None
    found = preflight_facts.eviction({**wishes, "budget_bytes": 100 * K}, NOW)
    assert {name: size // K for name, size in found.items()} == {"size_bytes": 5, "evictable_bytes": 3}


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    found = preflight_facts.disk(str(tmp_path / "a" / "b"))
    assert found["existing"] == str(tmp_path)
    assert found["writable"]
    assert 0 < found["free_bytes"] <= found["total_bytes"]
    assert found["device"] == os.stat(tmp_path).st_dev


def test_disk_where_a_file_is_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    assert not preflight_facts.disk(str(tmp_path / "file"))["writable"]


def test_disk_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight_facts.os, "access", lambda path, mode: False)
    assert not preflight_facts.disk(str(tmp_path))["writable"]


def test_gather(tmp_path, monkeypatch):
    gpu = {"vendor": "nvidia", "gpus": [{"index": 0}], "error": None}
    monkeypatch.setattr(preflight_facts, "inventory", lambda: dict(gpu))
    monkeypatch.setattr(
        preflight_facts, "engine_facts", lambda host, names, login: {"docker_version": "28", "images": (names, login)}
    )
    params = parameters(
        tmp_path,
        docker_host="unix:///x",
        images=[{"name": "a"}],
        registry_username="me",
        registry_password="pass",
        venv=str(tmp_path / "venv"),
        controller_time=100.0,
    )
    facts = preflight_facts.gather(params, 101.23456)
    assert facts["clock_offset_seconds"] == 1.235
    assert facts["docker_version"] == "28"
    assert facts["images"] == (["a"], ("me", "pass"))
    assert facts["docker_error"] is None
    assert facts["gpus"] == [{"index": 0}]
    assert facts["gpu_vendor"] == "nvidia"
    assert facts["venv_exists"] is False
    assert list(facts["disks"]) == [str(tmp_path)]


def test_gather_without_an_engine(tmp_path, monkeypatch):
    def no_engine(_host, _names, _login):
        raise EngineError("denied", "why")

    monkeypatch.setattr(preflight_facts, "engine_facts", no_engine)
    facts = preflight_facts.gather(parameters(tmp_path, docker_host="unix:///x"), 0.0)
    assert facts["docker_error"] == {"kind": "denied", "detail": "why"}
    assert facts["docker_version"] is None
    assert facts["clock_offset_seconds"] is None


def test_a_user_id_without_a_name(monkeypatch):
    def nobody():
        raise KeyError("uid not found")

    monkeypatch.setattr(preflight_facts.getpass, "getuser", nobody)
    assert preflight_facts._user() == str(os.getuid())
