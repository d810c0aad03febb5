"""sglang_server from its arguments to its result, with the light engine as a process in the place of a container."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from pathlib import Path

import docker
import pytest
from process_engine import IMAGE, ProcessEngine

from ansible_collections.preheat.fleet.plugins.module_utils import hf_use
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.modules import sglang_server

pytestmark = pytest.mark.skipif(sys.version_info < (3, 10), reason="the light engine is for the images' Python")

NAME, REPO, COMMIT = "a-server", "acme/tiny", "1e" * 20
QUICK = {"LIGHT_ENGINE_START_SECONDS": "0.2"}


@pytest.fixture
def engine(monkeypatch):
    engine = ProcessEngine()
    monkeypatch.setattr(docker, "APIClient", lambda **_given: engine)
    yield engine
    engine.close()


@pytest.fixture
def cache_dir(tmp_path):
    cache = RepoCache(str(tmp_path / "hub"), REPO)
    cache.blobs.mkdir(parents=True)
    listing = []
    for number, (path, data) in enumerate({"config.json": b"{}", "model.safetensors": bytes(100_000)}.items()):
        file = HubFile(path, len(data), f"{number:040x}", f"{number:064x}")
        cache.blob(file).write_bytes(data)
        cache.link(COMMIT, file)
        listing.append(file)
    cache.write_listing(COMMIT, listing)
    cache.write_ref("main", COMMIT)
    return tmp_path / "hub"


class Module:
    """As far as run() knows an AnsibleModule; started(...) and absent(...) are its results."""

    check_mode = False

    def __init__(self, cache_dir, folder):
        self.warnings = []
        self._given = {
            "name": NAME, "image": IMAGE["RepoTags"][0], "pull": "never", "repo_id": REPO, "cache_dir": str(cache_dir),
            "jit_cache_dir": str(folder / "jit"), "environment": QUICK, "facts_file": str(folder / "preheat.fact"),
        }  # fmt: skip

    def warn(self, text):
        self.warnings.append(text)

    def run(self, **given):
        spec = sglang_server.argument_spec()
        self.check_mode = given.pop("check_mode", False)
        self.params = {name: option.get("default") for name, option in spec.items()} | given
        begin = time.time()
        result = sglang_server.run(self, begin)
        sglang_server.note_launch(self, result, begin)
        json.dumps(result)
        return result

    def started(self, **given):
        return self.run(**{**self._given, **given})

    def absent(self, **given):
        return self.run(**{"state": "absent", **({} if "match_labels" in given else {"name": NAME}), **given})


@pytest.fixture
def module(engine, cache_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(hf_use, "mark_container", lambda _container: None)
    return Module(cache_dir, tmp_path)


def test_launched_left_alone_changed_and_removed(engine, module, tmp_path):
    foreseen = module.started(check_mode=True)
    assert (foreseen["changed"], engine.containers_by_id) == (True, {})

    made = module.started()
    assert "error" not in made, made
    assert (made["changed"], made["ready"], made["engine_version"]) == (True, True, "0.5.15+light")
    assert made["model"]["commit"] == COMMIT
    assert {"container_create", "engine_start", "weights_load", "ready"} <= {phase["name"] for phase in made["phases"]}
    assert made["cache"]["disk_read_bytes"] == 4096
    assert made["container"]["image_digest"] == IMAGE["Id"]
    assert json.loads((tmp_path / "preheat.fact").read_text())["launches"][0]["repo_id"] == REPO

    again = module.started()
    assert (again["changed"], again["ready"], again["phases"]) == (False, True, [])
    assert (again["url"], again["container"]["id"]) == (made["url"], made["container"]["id"])
    assert "fired up" in again["log_tail"]

    other = module.started(parameters={"max_running_requests": 7}, restart_policy="unless-stopped")
    assert (other["changed"], other["ready"]) == (True, True)
    assert other["container"]["id"] != made["container"]["id"]
    assert engine.policies == {other["container"]["id"]: "unless-stopped"}
    assert "--max-running-requests" in other["diff"]["after"]["command"]

    assert module.absent(check_mode=True)["removed"] == [NAME]
    gone = module.absent(return_log=True)
    assert (gone["changed"], gone["removed"], engine.containers_by_id) == (True, [NAME], {})
    assert "fired up" in gone["log"]
    assert list(gone["exit_codes"]) == [NAME]
    assert module.absent()["removed"] == []


def test_a_launch_that_is_waited_for_in_slices(engine, module):
    slow = {"environment": {"LIGHT_ENGINE_START_SECONDS": "2"}, "wait_seconds": 1}
    first = module.started(**slow)
    assert (first["changed"], first["ready"]) == (True, False)
    calls = [first]
    while not calls[-1]["ready"]:
        assert len(calls) < 60
        calls.append(module.started(**slow))
        assert "error" not in calls[-1], calls[-1]
        assert calls[-1]["container"]["id"] == first["container"]["id"]
        assert not calls[-1]["changed"]
    assert calls[-1]["phases"][-1]["name"] == "ready"


@pytest.mark.parametrize(
    ("given", "error_class", "said"),
    [
        ({"environment": {**QUICK, "LIGHT_ENGINE_FAULT": "out_of_memory"}}, "out_of_memory", "memory"),
        ({"environment": {**QUICK, "LIGHT_ENGINE_FAULT": "crash"}}, "crashed", "asked to crash"),
        ({"parameters": {"schedule_policy": "impossible"}}, "bad_flag", "impossible"),
        ({"environment": {"HF_TOKEN": "hf_x"}}, "invalid", "gets no token"),
        ({"image": "no/such:image"}, "image_missing", "no/such:image"),
        ({"revision": "other"}, "model_missing", "other"),
        ({"command": ["no-such-program"]}, "crashed", "no such command"),
        (
            {"environment": {**QUICK, "LIGHT_ENGINE_FAULT": "hang"}, "stall_timeout_seconds": 1},
            "timeout",
            "stall_timeout_seconds (1)",
        ),
        (
            {"environment": {"LIGHT_ENGINE_START_SECONDS": "60"}, "ready_timeout_seconds": 1},
            "timeout",
            "ready_timeout_seconds (1)",
        ),
    ],
)
def test_what_keeps_a_server_from_being_ready(engine, module, given, error_class, said):
    result = module.started(**given)
    assert result["error"]["class"] == error_class
    assert said in result["error"]["message"] + result["error"]["log_tail"]
    assert result["error"]["remedy"]
    assert not result["ready"]
    assert engine.containers_by_id == {}, "what failed is removed"


def test_a_container_that_failed_can_be_kept(engine, module):
    crash = {**QUICK, "LIGHT_ENGINE_FAULT": "crash"}
    result = module.started(environment=crash, keep_failed=True)
    assert result["error"]["exit_code"] == 1
    assert len(engine.containers_by_id) == 1


def test_a_free_port_that_was_taken_meanwhile_is_left_for_another(engine, module):
    engine.refuse_starts = ["Bind for 127.0.0.1:1 failed: port is already allocated"] * 2
    assert module.started()["ready"]
    assert len(engine.containers_by_id) == 1
    module.absent()
    engine.refuse_starts = ["Bind for 127.0.0.1:1 failed: port is already allocated"] * 3
    assert module.started()["error"]["class"] == "port_in_use"


def test_a_port_that_was_asked_for_and_is_taken(engine, module):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        engine.refuse_starts = ["Bind failed: port is already allocated"]
        result = module.started(port=listener.getsockname()[1])
    assert (result["error"]["class"], result["error"]["phase"]) == ("port_in_use", "container_create")


def test_a_container_that_is_removed_from_outside(engine, module):
    def remove():
        while not (running := [one.id for one in engine.containers_by_id.values() if one.process]):
            time.sleep(0.01)
        (container_id,) = running
        engine.remove_container(container_id, force=True, v=True)

    other = threading.Thread(target=remove)
    other.start()
    error = module.started(environment={"LIGHT_ENGINE_START_SECONDS": "30"})["error"]
    other.join()
    assert (error["class"], "removed from outside" in error["message"]) == ("crashed", True)


def test_a_stranger_s_container_is_left_alone(engine, module):
    engine.create_container(
        IMAGE["Id"], command=["sleep", "60"], name=NAME, environment={}, labels={}, ports=None, host_config={}
    )
    for result in (module.started(), module.absent()):
        assert (result["error"]["class"], NAME in result["error"]["message"]) == ("invalid", True)
    assert len(engine.containers_by_id) == 1


def test_absent_by_labels_with_the_logs_of_all(engine, module):
    for name in ("one", "two"):
        assert module.started(name=name, labels={"preheat.sweep": "s"})["ready"]
    assert module.absent(match_labels={"preheat.sweep": "other"})["removed"] == []
    gone = module.absent(match_labels={"preheat.sweep": "s"}, return_log=True)
    assert gone["removed"] == ["one", "two"]
    assert [line for line in gone["log"].splitlines() if line.startswith("==>")] == ["==> one <==", "==> two <=="]


def test_check_mode_foresees_a_launch_of_what_is_not_here_yet(module):
    foreseen = module.started(check_mode=True, revision="other", image="no/such:image", pull="missing")
    assert "error" in foreseen or foreseen["changed"]
    assert any("as if it had been fetched" in text for text in module.warnings)


def test_a_secret_of_the_server_s_environment_shows_nowhere(module):
    result = module.started(environment={**QUICK, "STORE_SECRET": "s3cr3t-of-a-store"}, return_log=True)
    assert "s3cr3t-of-a-store" not in json.dumps(result)
    assert "STORE_SECRET" in result["container"]["environment"]
    assert Path(module.params["facts_file"]).read_text().count("s3cr3t") == 0
