"""The module sglang_server against a real Docker engine, with the light engine. Needs the lab (make lab)."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import pytest

docker = pytest.importorskip("docker")

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".lab/models/preheat-lab/tiny-llama"
IMAGE = "preheat-lab/light-engine:latest"
REPO = "preheat-lab/tiny-llama"
COMMIT = hashlib.sha1(REPO.encode()).hexdigest()
SECRET = "s3cr3t-value-of-a-test"


@pytest.fixture(scope="module")
def engine():
    client = docker.from_env()
    client.images.get(IMAGE)
    return client


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    """The Hub's layout with one snapshot, of the lab's model."""
    cache = tmp_path_factory.mktemp("hub")
    repo = cache / f"models--{REPO.replace('/', '--')}"
    snapshot = repo / "snapshots" / COMMIT
    for folder in (repo / "blobs", repo / "refs", snapshot):
        folder.mkdir(parents=True)
    for source in MODEL.iterdir():
        shutil.copy(source, repo / "blobs" / source.name)
        (snapshot / source.name).symlink_to(Path("../../blobs") / source.name)
    (repo / "refs" / "main").write_text(COMMIT)
    return cache


class Module:
    """Runs the module as Ansible would on a host, for one container that is gone afterwards."""

    def __init__(self, cache_dir, tmp_path):
        self.name = f"preheat-test-{uuid.uuid4().hex[:12]}"
        self.tmp_path = tmp_path
        self.defaults = {
            "name": self.name,
            "image": IMAGE,
            "pull": "never",
            "repo_id": REPO,
            "cache_dir": str(cache_dir),
            "jit_cache_dir": str(tmp_path / "jit"),
            "shm_size": "64m",
            "stop_timeout_seconds": 5,
            "ready_timeout_seconds": 300,
            "environment": {"LIGHT_ENGINE_START_SECONDS": "0.4"},
            "facts_file": str(tmp_path / "preheat.fact"),
        }

    def start(self, **changes):
        return self.run({**self.defaults, **changes})

    def absent(self, **changes):
        return self.run({"state": "absent", "name": self.name, "stop_timeout_seconds": 5, **changes})

    def info(self, **changes):
        facts_file = self.defaults["facts_file"]
        return self.run({"name": self.name, "facts_file": facts_file, **changes}, "sglang_server_info")["servers"]

    def run(self, args, name="sglang_server"):
        check = args.pop("check_mode", False)
        file = self.tmp_path / "args.json"
        args = {key: value for key, value in args.items() if value is not None}
        file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check}}))
        module = f"ansible_collections.preheat.fleet.plugins.modules.{name}"
        done = subprocess.run(
            [sys.executable, "-m", module, str(file)],
            env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout, done.stderr
        result = json.loads(done.stdout)
        assert done.returncode == (1 if result.get("failed") else 0), done.stderr
        assert SECRET not in done.stdout + done.stderr
        return result


@pytest.fixture
def module(engine, cache_dir, tmp_path):
    module = Module(cache_dir, tmp_path)
    yield module
    for container in engine.containers.list(all=True, filters={"name": module.name}):
        container.remove(force=True)


def status(url, path="/health"):
    with urllib.request.urlopen(url + path, timeout=10) as answer:
        return answer.status


def names(result):
    return [phase["name"] for phase in result["phases"]]


def told_as_launched(module, created):
    """sglang_server_info says of a server with tp_size 1 what its launch returned."""
    (told,) = module.info()
    assert (told["state"], told["ready"], told["notes"]) == ("running", True, [])
    assert (told["url"], told["engine_version"]) == (created["url"], created["engine_version"])
    assert (told["id"], told["image_digest"]) == (created["container"]["id"], created["container"]["image_digest"])
    assert (told["image"], told["model"], told["parameters"]) == (IMAGE, created["model"], {"tp_size": 1})
    assert told["server_info"]["tp_size"] == 1
    assert set(told["launch"]["phases"]) == set(names(created))
    assert told["launch"]["cache"]["weights_rung"] == "page_cache"
    assert told in module.info(name=None, check_mode=True)
    assert module.info(name=None, port=created["port"]) == [told]


def test_create_again_change_absent_again(engine, module, cache_dir):
    predicted = module.start(check_mode=True)
    assert predicted["changed"]
    assert not engine.containers.list(all=True, filters={"name": module.name})

    before = time.time()
    created = module.start(parameters={"tp_size": 1})
    after = time.time()
    assert created["changed"]
    assert status(created["url"]) == 200
    assert created["engine_version"] == "0.5.15+light"
    assert created["host"] == "127.0.0.1"
    assert created["model"]["commit"] == COMMIT
    assert created["command"][:2] == ["docker", "run"]
    assert (created["cache"]["resident_fraction_before"], created["cache"]["weights_rung"]) == (1.0, "page_cache")
    assert "fired up" in created["log_tail"]

    assert names(created) == ["container_create", "engine_start", "weights_load", "kv_cache", "server_warmup", "ready"]
    for phase, following in itertools.pairwise(created["phases"]):
        assert following["start"] == pytest.approx(phase["start"] + phase["seconds"], abs=1e-6)
    first, last = created["phases"][0], created["phases"][-1]
    assert before <= first["start"] <= last["start"] + last["seconds"] <= after

    container = engine.containers.get(module.name)
    mounts = {mount["Destination"]: mount for mount in container.attrs["Mounts"]}
    hub = mounts["/root/.cache/huggingface/hub"]
    assert (hub["Source"], hub["RW"]) == (str(cache_dir), False)
    environment = container.attrs["Config"]["Env"]
    assert {"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "HF_HUB_CACHE=/root/.cache/huggingface/hub"} <= set(
        environment
    )
    assert not [entry for entry in environment if "TOKEN" in entry]
    assert container.attrs["HostConfig"]["PortBindings"]["30000/tcp"][0]["HostIp"] == "127.0.0.1"

    told_as_launched(module, created)

    again = module.start(parameters={"tp_size": 1})
    assert not again["changed"]
    assert again["container"]["id"] == created["container"]["id"]
    assert (again["url"], again["phases"]) == (created["url"], [])
    assert not module.start(parameters={"tp_size": 1}, check_mode=True)["changed"]

    predicted = module.start(parameters={"tp_size": 1, "chunked_prefill_size": 4096}, check_mode=True)
    assert predicted["changed"]
    assert list(predicted["diff"]["after"]) == ["command"]
    assert "--chunked-prefill-size 4096" in predicted["diff"]["after"]["command"]
    assert "--chunked-prefill-size" not in predicted["diff"]["before"]["command"]
    assert engine.containers.get(module.name).id == created["container"]["id"]

    changed = module.start(parameters={"tp_size": 1, "chunked_prefill_size": 4096})
    assert changed["changed"]
    assert changed["container"]["id"] != created["container"]["id"]

    assert module.absent(check_mode=True)["removed"] == [module.name]
    gone = module.absent(return_log=True)
    assert (gone["changed"], gone["removed"], gone["exit_codes"]) == (True, [module.name], {module.name: 0})
    assert "Load weight end" in gone["log"]
    assert not engine.containers.list(all=True, filters={"name": module.name})
    assert not module.absent()["changed"]


def test_compiled_kernels_are_kept_for_each_image_and_kind_of_gpu(engine, module):
    cold = module.start()["cache"]
    assert (cold["jit"]["state"], cold["resident_fraction_after"]) == ("cold", 1.0)
    assert cold["disk_read_bytes"] >= 0

    container = engine.containers.get(module.name)
    kernels = module.tmp_path / "jit" / f"{container.attrs['Image'].removeprefix('sha256:')[:12]}-cpu"
    (jit,) = (mount for mount in container.attrs["Mounts"] if mount["Destination"] == "/root/.cache/preheat/jit")
    assert (jit["Source"], jit["RW"]) == (str(kernels), True)

    (kernels / "triton").mkdir()
    (kernels / "triton/kernel.cubin").write_text("compiled")
    (kernels / "flashinfer.log").write_text("no kernel")
    warm = module.start(parameters={"chunked_prefill_size": 4096})["cache"]["jit"]
    assert (warm["state"], warm["files_before"], warm["files_added"]) == ("warm", 1, 0)
    # What is written while the server starts was compiled by it, as far as anybody can tell.
    (kernels / "triton/other.so").write_bytes(bytes(2 << 20))
    later = time.time() + 60
    os.utime(kernels / "triton/other.so", (later, later))
    partial = module.start(parameters={"chunked_prefill_size": 2048})["cache"]["jit"]
    assert (partial["state"], partial["bytes_added"], partial["added_in"]) == ("partial", 2 << 20, ["triton"])


def test_a_launch_waited_for_in_slices(module):
    slow = {"environment": {"LIGHT_ENGINE_START_SECONDS": "4"}, "wait_seconds": 1}
    calls = [module.start(**slow)]
    assert (calls[0]["changed"], calls[0]["ready"]) == (True, False)
    while not calls[-1]["ready"]:
        calls.append(module.start(**slow))
        assert len(calls) < 60
    assert not any(call["changed"] for call in calls[1:])
    assert {call["container"]["id"] for call in calls} == {calls[0]["container"]["id"]}
    assert names(calls[-1])[:3] == ["container_create", "engine_start", "weights_load"]
    assert names(calls[-1])[-1] == "ready"
    # It is ready, and still the whole launch is told: it may have become so between two calls.
    assert names(module.start(**slow)) == names(calls[-1])


def test_weights_that_no_daemon_can_hold_are_loaded_by_the_server(engine, module):
    """No GPU here: refused with the reason, and what is there of a daemon gives its memory back."""
    name = f"{module.name}-weights"
    engine.containers.create(IMAGE, ["sleep", "9"], name=name, labels={"preheat.managed": "true"})
    launched = module.start(weight_cache=name)
    assert launched["ready"]
    assert launched["cache"]["weights_rung"] in ("disk", "page_cache")
    assert launched["cache"]["weight_cache"]["used"] is False
    assert "no GPU" in launched["cache"]["weight_cache"]["reason"]
    assert "no GPU" in str(launched["warnings"])
    assert not engine.containers.list(all=True, filters={"name": name})
    assert not module.start(weight_cache=name)["changed"]


def test_what_no_longer_serves_is_replaced(engine, module):
    created = module.start()
    engine.containers.get(module.name).kill()
    (told,) = module.info()
    assert (told["state"], told["exit_code"], told["health"], told["notes"]) == ("exited", 137, None, [])
    replaced = module.start()
    assert replaced["changed"]
    assert replaced["diff"]["before"] == {"state": "exited"}
    assert replaced["container"]["id"] != created["container"]["id"]

    # It runs, but nobody answers.
    engine.containers.get(module.name).pause()
    engine.containers.get(module.name).unpause()
    assert not module.start()["changed"]


@pytest.mark.parametrize(
    ("changes", "expected", "says"),
    [
        (
            {"parameters": {"no_such_flag": True}},
            ("bad_flag", "engine_start"),
            "unrecognized arguments: --no-such-flag",
        ),
        ({"parameters": {"attention_backend": "none"}}, ("bad_flag", "engine_start"), "invalid choice"),
        ({"parameters": {"mem_fraction_static": 0.1}}, ("out_of_memory", None), "increase --mem-fraction-static"),
        (
            {"environment": {"LIGHT_ENGINE_FAULT": "out_of_memory"}},
            ("out_of_memory", "weights_load"),
            "CUDA out of memory",
        ),
        ({"environment": {"LIGHT_ENGINE_FAULT": "crash"}}, ("crashed", "weights_load"), "asked to crash"),
        (
            {"environment": {"LIGHT_ENGINE_FAULT": "hang"}, "ready_timeout_seconds": 4},
            ("timeout", "weights_load"),
            "ready_timeout_seconds (4)",
        ),
        (
            {"environment": {"LIGHT_ENGINE_FAULT": "hang"}, "stall_timeout_seconds": 3},
            ("timeout", "weights_load"),
            "stall_timeout_seconds (3)",
        ),
        ({"command": ["no-such-program"]}, ("crashed", "engine_start"), "no-such-program"),
        ({"command": ["no-such-program"], "init": False}, ("crashed", "container_create"), "no-such-program"),
    ],
)
def test_a_failing_start(engine, module, changes, expected, says):
    error_class, phase = expected
    begin = time.time()
    result = module.start(**changes)
    assert result["failed"]
    error = result["error"]
    assert (error["class"], error["phase"]) == (error_class, phase or error["phase"])
    assert says in error["message"]
    assert error["remedy"] in result["msg"]
    assert names(result)[-1] == error["phase"]
    assert result["container"]["image_digest"].startswith("sha256:")
    if error_class != "timeout":
        # A crash is noticed at once, not when a limit is reached.
        assert time.time() - begin < 60
    if error["exit_code"] is not None:
        assert error["exit_code"] > 0
        assert error["log_tail"] == result["log_tail"]
        assert says in result["log"]
    assert not engine.containers.list(all=True, filters={"name": module.name})


def test_keep_failed(engine, module):
    result = module.start(environment={"LIGHT_ENGINE_FAULT": "crash"}, keep_failed=True)
    assert result["failed"]
    assert engine.containers.get(module.name).status == "exited"
    assert module.start()["changed"]


@pytest.mark.parametrize(
    ("changes", "error_class", "says"),
    [
        ({"image": "preheat-lab/no-such-image:1"}, "image_missing", "preheat-lab/no-such-image:1"),
        ({"repo_id": "preheat-lab/no-such-model"}, "model_missing", "preheat-lab/no-such-model"),
        ({"revision": "no-such-branch"}, "model_missing", "no-such-branch"),
        ({"revision": "0" * 40}, "model_missing", "config.json"),
        ({"docker_host": "unix:///nowhere.sock"}, "engine_unreachable", "unix:///nowhere.sock"),
        ({"docker_host": "tcp://127.0.0.1:1"}, "engine_unreachable", "tcp://127.0.0.1:1"),
        ({"environment": {"HF_TOKEN": SECRET}}, "invalid", "environment.HF_TOKEN"),
        ({"environment": {"HF_HUB_OFFLINE": "0"}}, "invalid", "environment.HF_HUB_OFFLINE"),
        ({"parameters": {"model_path": "x"}}, "invalid", "parameters.model_path"),
    ],
)
def test_refused_before_anything_is_done(engine, module, changes, error_class, says):
    result = module.start(**changes)
    assert result["failed"]
    assert result["error"]["class"] == error_class
    assert says in result["msg"]
    assert not result.get("changed")
    assert not engine.containers.list(all=True, filters={"name": module.name})


def test_an_incomplete_snapshot_is_missing(engine, module, cache_dir):
    blob = cache_dir / f"models--{REPO.replace('/', '--')}" / "blobs" / "model-00001-of-00004.safetensors"
    aside = blob.rename(blob.with_suffix(".aside"))
    try:
        error = module.start()["error"]
    finally:
        aside.rename(blob)
    assert error["class"] == "model_missing"
    assert "model-00001-of-00004.safetensors" in error["message"]


def test_a_port_that_is_taken(module):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        result = module.start(port=listener.getsockname()[1])
    assert result["error"]["class"] == "port_in_use"
    assert result["error"]["phase"] == "container_create"


def test_a_strangers_container_is_left_alone(engine, module):
    stranger = engine.containers.create(IMAGE, ["true"], name=module.name)
    for result in (module.start(), module.absent()):
        assert result["error"]["class"] == "invalid"
        assert module.name in result["msg"]
    stranger.reload()
    assert stranger.status == "created"


def test_secrets_stay_in_the_container(engine, module):
    environment = {"LIGHT_ENGINE_START_SECONDS": "0.4", "STORE_SECRET_KEY": SECRET, "PLAIN": "1"}
    # run() itself asserts that the secret is nowhere in what the module prints.
    result = module.start(environment=environment, return_log=True)
    assert f"STORE_SECRET_KEY={SECRET}" in engine.containers.get(module.name).attrs["Config"]["Env"]
    assert "STORE_SECRET_KEY" in result["container"]["environment"]
    assert "STORE_SECRET_KEY" in module.info()[0]["environment"]
    # The other values must not be masked either: "1" is in every other text.
    assert "********" not in json.dumps(result)
    labels = engine.containers.get(module.name).labels
    assert SECRET not in json.dumps(labels)
    assert module.start(environment={**environment, "STORE_SECRET_KEY": "other"}, check_mode=True)["changed"]


def test_absent_by_labels(engine, module):
    run = uuid.uuid4().hex
    module.start(labels={"preheat.sweep": run})
    nothing = module.run({"state": "absent", "match_labels": {"preheat.sweep": "other-" + run}})
    assert (nothing["changed"], nothing["removed"]) == (False, [])
    removed = module.run({"state": "absent", "match_labels": {"preheat.sweep": run}, "return_log": True})
    assert removed["removed"] == [module.name]
    assert "fired up" in removed["log"]


def test_on_the_network_of_the_host_and_restarting(engine, module):
    result = module.start(network_mode="host", restart_policy="unless-stopped")
    assert status(result["url"]) == 200
    assert result["container"]["port"] == result["port"]
    host_config = engine.containers.get(module.name).attrs["HostConfig"]
    assert host_config["RestartPolicy"]["Name"] == "unless-stopped"
    assert not module.start(network_mode="host", restart_policy="unless-stopped")["changed"]


def test_a_failing_start_does_not_restart(engine, module):
    result = module.start(
        environment={"LIGHT_ENGINE_FAULT": "crash"}, restart_policy="always", keep_failed=True, parameters={}
    )
    assert result["error"]["class"] == "crashed"
    assert engine.containers.get(module.name).attrs["RestartCount"] == 0


def test_a_model_in_a_directory_of_its_own(module):
    result = module.start(repo_id=None, cache_dir=None, model_path=str(MODEL))
    assert status(result["url"]) == 200
    assert result["model"] == {"repo_id": None, "commit": None, "path": str(MODEL), "container_path": str(MODEL)}
