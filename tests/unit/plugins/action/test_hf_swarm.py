"""hf_swarm on hosts that are folders here: what it makes of arguments, of the Hub, and of a Hub that is away."""

from __future__ import annotations

import hashlib
import json
import os
import threading

import pytest
from ansible import constants

from ansible_collections.preheat.fleet.plugins.action import hf_swarm
from ansible_collections.preheat.fleet.plugins.module_utils import swarm_peer
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_manifest, swarm_worker

REPO, COMMIT = "org/model", "c" * 40
DATA = b"weights" * 1000
FILE = HubFile("model.safetensors", len(DATA), "0" * 40, hashlib.sha256(DATA).hexdigest())
CONFIG = b"{}"
CONFIG_FILE = HubFile("config.json", 2, hashlib.sha1(b"blob 2\0{}", usedforsecurity=False).hexdigest())


def hold(cache_dir, ref=COMMIT):
    """A complete snapshot."""
    cache = RepoCache(cache_dir, REPO)
    cache.blobs.mkdir(parents=True)
    for file, data in ((FILE, DATA), (CONFIG_FILE, CONFIG)):
        cache.blob(file).write_bytes(data)
        cache.link(COMMIT, file)
    cache.write_listing(COMMIT, [FILE, CONFIG_FILE])
    cache.write_ref("main", ref)
    return cache


@pytest.fixture
def play(tmp_path, monkeypatch, make_action):
    """play(hosts, **arguments) runs the task on all of them at once: ({host: result}, {host: its requests})."""
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path / "local"))
    monkeypatch.setattr(swarm_worker, "JOIN_SECONDS", 10.0)
    monkeypatch.setattr(hf_swarm, "JOIN_SECONDS", 10.0)

    def run(hosts, forks=5, check_mode=False, **arguments):
        results, requests = {}, {host: [] for host in hosts}

        def work(host):
            args = {"repo_id": REPO, "retries": 0, **arguments, "cache_dir": str(tmp_path / host)}
            action = make_action(hf_swarm.ActionModule, check_mode=check_mode, **args)
            action._task._uuid, action._task.throttle, action._task.diff = "task", 0, False

            def execute_module(module_name, module_args, task_vars):
                assert module_name == "preheat.fleet.hf_swarm_peer"
                requests[host].append(module_args)
                try:
                    return {"answer": swarm_peer.handle(json.loads(json.dumps(module_args["request"])))}
                except HubError as error:
                    told = {"reason": error.reason, "message": error.message, "remedy": error.remedy}
                    return {"failed": True, "msg": str(error), **told}

            monkeypatch.setattr(action, "_execute_module", execute_module)
            variables = {"inventory_hostname": host, "ansible_play_batch": hosts, "ansible_forks": forks}
            results[host] = action.run(task_vars=variables)

        threads = [threading.Thread(target=work, args=(host,)) for host in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return results, requests

    return run


@pytest.fixture
def no_hub(monkeypatch):
    """A Hub that nobody reaches, and how often it was asked."""
    asked = []

    def resolve(*_args, **_settings):
        asked.append(1)
        raise HubError("hub_unreachable", "The Hub did not answer.", "Check the network.")

    monkeypatch.setattr(swarm_manifest, "resolve", resolve)
    return asked


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_hosts_that_hold_everything_need_no_hub(play, no_hub, tmp_path, revision):
    for host in ("h1", "h2"):
        hold(tmp_path / host)
    results, _requests = play(["h1", "h2"], revision=revision)
    assert len(no_hub) == 1  # asked once for all, in vain
    for result in results.values():
        assert not result.get("failed"), result
        assert (result["changed"], result["commit"], result["source"]) == (False, COMMIT, "cache")
        assert result["listing_from"] == "hosts"
        (warning,) = result["warnings"]
        assert "The Hub did not answer." in warning
        assert f"commit {COMMIT} that was recorded on h1, h2" in warning


def test_without_the_hub_a_damaged_file_is_still_found(play, no_hub, tmp_path):
    for host in ("h1", "h2"):
        hold(tmp_path / host)
    RepoCache(tmp_path / "h2", REPO).blob(FILE).write_bytes(b"x" * len(DATA))
    results, _requests = play(["h1", "h2"], verify="full", check_mode=True)
    assert {host: result["bytes_to_fetch"] for host, result in results.items()} == {"h1": 0, "h2": len(DATA)}
    assert results["h2"]["repaired"] == [FILE.path]


def test_where_nobody_remembers_the_hub_s_failure_is_told(play, no_hub):
    results, _requests = play(["h1", "h2"])
    for result in results.values():
        assert result["failed"]
        assert result["reason"] == "hub_unreachable"
        assert "The Hub did not answer." in result["msg"]


def test_hosts_that_contradict_each_other_are_not_believed(play, no_hub, tmp_path):
    hold(tmp_path / "h1")
    other = hold(tmp_path / "h2", ref="d" * 40)
    other.write_listing("d" * 40, [FILE, CONFIG_FILE])
    results, _requests = play(["h1", "h2"])
    assert all(result["failed"] and "Name the commit as revision" in result["remedy"] for result in results.values())
    # By commit there is no contradiction.
    results, _requests = play(["h1", "h2"], revision=COMMIT)
    assert not any(result.get("failed") for result in results.values())


def test_a_refusal_of_the_hub_is_no_absence(play, monkeypatch, tmp_path):
    """The repo is gone, or the token is wrong: that must not be papered over."""
    hold(tmp_path / "h1")

    def resolve(*_args, **_settings):
        raise HubError("unauthorized", "The Hub refused.", "Set a token.")

    monkeypatch.setattr(swarm_manifest, "resolve", resolve)
    results, requests = play(["h1"])
    assert results["h1"]["reason"] == "unauthorized"
    assert requests["h1"] == []


def test_the_hub_s_listing_is_what_counts_where_it_answers(play, monkeypatch, tmp_path):
    import dataclasses

    hold(tmp_path / "h1")
    newer = {
        "commit": "e" * 40,
        "listing": [dataclasses.asdict(FILE), dataclasses.asdict(CONFIG_FILE)],
        "paths": [FILE.path, CONFIG_FILE.path],
    }
    monkeypatch.setattr(swarm_manifest, "resolve", lambda *_args, **_settings: newer)
    results, _requests = play(["h1"])
    assert results["h1"]["commit"] == "e" * 40
    assert results["h1"]["listing_from"] == "hub"
    assert "warnings" not in results["h1"] or results["h1"]["warnings"] == []
    assert RepoCache(tmp_path / "h1", REPO).ref("main") == "e" * 40


def test_too_few_forks_are_refused_before_anything_is_asked(play, no_hub):
    results, requests = play(["h1", "h2", "h3"], forks=2)
    assert all(result["reason"] == "too_few_forks" and "--forks 3" in result["remedy"] for result in results.values())
    assert not no_hub
    assert not any(requests.values())


def test_secrets_travel_as_secrets(play, no_hub, tmp_path):
    hold(tmp_path / "h1")
    _results, requests = play(["h1"], token="hf_secret")
    for arguments in requests["h1"]:
        assert "hf_secret" not in json.dumps(arguments["request"])
        assert arguments["secret"] not in json.dumps(arguments["request"])
        assert "PRIVATE KEY" not in json.dumps(arguments["request"])


def test_the_folder_where_workers_meet_is_of_this_user_alone(play, no_hub, tmp_path):
    hold(tmp_path / "h1")
    play(["h1"])
    for folder in (tmp_path / "local").glob("preheat-swarm-*/*"):
        if folder.is_dir():
            assert os.stat(folder).st_mode & 0o077 == 0


def test_an_address_where_nothing_listens_is_a_hub_that_is_away(play, tmp_path):
    hold(tmp_path / "h1")
    results, _requests = play(["h1"], endpoint="http://127.0.0.1:9")
    assert results["h1"]["listing_from"] == "hosts", results
