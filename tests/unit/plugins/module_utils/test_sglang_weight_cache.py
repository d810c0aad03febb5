from __future__ import annotations

import pytest
from server_params import CONTAINER

from ansible_collections.preheat.fleet.plugins.module_utils import (
    sglang_container,
    sglang_flags,
    sglang_model,
    sglang_weight_cache,
)
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = sglang_model.from_cache("/cache/hub", sglang_container.CONTAINER_CACHE_DIR, "org/name", COMMIT)
PARAMS = {
    "name": "server",
    "weight_cache": "weights",
    "image": "lmsysorg/sglang:v0.5.23",
    "environment": {"NCCL_DEBUG": "INFO"},
    "gpus": ["GPU-a", "GPU-b"],
    "gpu_access": "auto",
    "shm_size_bytes": 1024,
    **CONTAINER,
    "labels": {"preheat.slot": "s"},
    "command": ["python3", "-m", "sglang.launch_server"],
    "jit_cache_dir": "/cache/jit",
    "parameters": {"tp_size": 2, "mem_fraction_static": 0.85, "attention_backend": "fa3"},
    "ready_timeout_seconds": 5,
}
SOCKETS = "/dev/shm/sglang_weight_cache_{device_uuid}"


def client_spec(**changes):
    params = {**PARAMS, **changes}
    flags = sglang_flags.flag_arguments(params["parameters"])
    return sglang_weight_cache.client_spec(
        params, MODEL, flags, "sha256:1", "device_request", jit_folder="/cache/jit/k"
    )


def daemon_spec(**changes):
    return sglang_weight_cache.DaemonSpec(
        {**PARAMS, **changes}, MODEL, "sha256:1", "device_request", jit_folder="/cache/jit/k"
    )


def test_the_daemon_loads_what_the_server_would():
    spec = daemon_spec()
    assert spec.command(0) == [
        *("python3", "-m", "sglang.srt.weight_cache.daemon", "--model-path", "org/name", "--revision", COMMIT),
        *("--attention-backend", "fa3", "--tp-size", "2"),
    ]
    host = spec.host_config(0, lambda access, gpus: (access, gpus))
    assert (host["ipc_mode"], host["network_mode"], host["shm_size"]) == ("shareable", "none", 1024)
    assert host["device_requests"] == [("device_request", ["GPU-a", "GPU-b"])]
    assert "port_bindings" not in host
    assert "pid_mode" not in host
    assert host["binds"][0] == "/cache/hub:/root/.cache/huggingface/hub:ro"
    assert spec.environment["SGLANG_WEIGHT_CACHE_SOCKET_TEMPLATE"] == f"{SOCKETS}.sock"
    # The labels of a slot end with its trial.
    assert "preheat.slot" not in spec.all_labels(0)


def test_the_server_joins_the_daemon():
    spec = client_spec()
    assert spec.command(31000)[-6:] == ["--weight-cache-mode", "client", "--host", "0.0.0.0", "--port", "30000"]
    host = spec.host_config(31000, lambda access, gpus: None)
    assert (host["ipc_mode"], host["pid_mode"]) == ("container:weights", "container:weights")
    assert "shm_size" not in host
    assert host["port_bindings"] == {30000: ("127.0.0.1", 31000)}
    assert spec.environment["SGLANG_WEIGHT_CACHE_READY_TEMPLATE"] == f"{SOCKETS}.ready"
    command = spec.docker_command(31000)
    assert command[command.index("--pid") + 1] == command[command.index("--ipc") + 1] == "container:weights"
    assert "--shm-size" not in command


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"parameters": {"tp_size": 2, "attention_backend": "fa3", "chunked_prefill_size": 512}}, True),
        ({"parameters": {"tp_size": 2, "attention_backend": "triton"}}, False),
        ({"parameters": {"tp_size": 1, "attention_backend": "fa3"}}, False),
        ({"gpus": ["GPU-a", "GPU-c"]}, False),
        ({"name": "another", "labels": {"preheat.trial": "7"}}, True),
    ],
)
def test_which_servers_share_a_daemon(changes, same):
    assert (daemon_spec(**changes).config_hash() == daemon_spec().config_hash()) is same


class Engine:
    """Containers by name. A daemon serves after some questions, or ends; the image says its version."""

    def __init__(self, version="0.5.23", serves_after=2, ends=None):
        self.version, self.serves_after, self.ends = version, serves_after, ends
        self.containers, self.asked, self.did = {}, 0, []

    def container(self, name):
        return next((c for c in self.containers.values() if name in (c["Id"], c["Name"])), None)

    def create(self, *, name, image, labels, **unused):
        self.did.append(f"create {name}")
        state = {"Running": False, "ExitCode": 0}
        config = {"Labels": labels, "Image": image}
        self.containers[name] = {"Id": f"id-{name}", "Name": name, "Image": image, "State": state, "Config": config}
        self.containers[name]["HostConfig"] = {}
        return f"id-{name}"

    def start(self, container_id, name):
        self.containers[name]["State"] = {"Running": self.ends is None, "ExitCode": self.ends or 0}

    def remove(self, container_id):
        self.did.append(f"remove {container_id}")
        self.containers = {name: c for name, c in self.containers.items() if c["Id"] != container_id}

    def output_of(self, container_id, command):
        self.asked += 1
        ready = "\n".join(f"sglang_weight_cache_GPU-{gpu}.ready" for gpu in "ab")
        return f"sem.x\n{ready}\n" if self.asked > self.serves_after else "sem.x\nsglang_weight_cache_GPU-a.ready\n"

    def output_of_image(self, image_id, command):
        self.did.append("ask the image")
        return self.version

    def logs(self, container_id):
        return "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"

    def device_request(self, access, gpus):
        return None


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(sglang_weight_cache, "_POLL_SECONDS", 0)


def cache(engine, **changes):
    return sglang_weight_cache.WeightCache(engine, {**PARAMS, **changes})


def launch(engine, tmp_path, **changes):
    weights = cache(engine, **changes)
    weights.accepts(str(tmp_path), "sha256:1")
    weights.prepare(MODEL, client_spec(**changes))
    return weights


def test_the_daemon_is_started_once_for_servers_that_fit(tmp_path):
    engine = Engine()
    first = launch(engine, tmp_path)
    assert (first.refusal, engine.did) == (None, ["ask the image", "create weights"])
    assert first.started_at
    engine.did.clear()
    second = launch(engine, tmp_path, parameters={"tp_size": 2, "attention_backend": "fa3", "chunked_prefill_size": 9})
    assert (second.refusal, second.started_at, engine.did) == (None, None, [])


def test_other_weights_replace_it_and_a_refused_server_takes_its_memory_back(tmp_path):
    engine = Engine()
    launch(engine, tmp_path)
    engine.did.clear()
    launch(engine, tmp_path, parameters={"tp_size": 2, "attention_backend": "triton"})
    assert engine.did == ["remove id-weights", "create weights"]
    engine.did.clear()
    refused = launch(engine, tmp_path, parameters={"tp_size": 2, "speculative_algorithm": "EAGLE"})
    assert "speculative_algorithm" in refused.refusal
    assert (engine.did, engine.containers) == (["remove id-weights"], {})


def test_an_image_without_a_daemon_is_refused(tmp_path):
    engine = Engine(version="0.5.15.post1")
    weights = launch(engine, tmp_path)
    assert "SGLang 0.5.15.post1" in weights.refusal
    assert engine.containers == {}
    assert weights.outcome("Loaded model via IPC") == {"weight_cache": {"used": False, "reason": weights.refusal}}


@pytest.mark.parametrize(("pid_mode", "refused"), [("container:abc", False), ("", True)])
def test_a_server_that_runs_was_decided_about_when_it_was_launched(tmp_path, pid_mode, refused):
    engine = Engine()
    engine.create(name="server", image="sha256:1", labels={"preheat.managed": "true"})
    engine.start("id-server", "server")
    engine.containers["server"]["HostConfig"]["PidMode"] = pid_mode
    engine.did.clear()
    assert cache(engine).accepts(str(tmp_path), "sha256:1") is not refused
    assert engine.did == []


def test_a_daemon_that_ends(tmp_path):
    engine = Engine(serves_after=99, ends=1)
    with pytest.raises(LaunchError) as caught:
        launch(engine, tmp_path)
    error = caught.value
    assert (error.error_class, error.phase, error.exit_code) == ("out_of_memory", "weights_preload", 1)
    assert "the weight-cache daemon 'weights'" in error.message
    assert engine.containers == {}


def test_a_daemon_that_never_serves(tmp_path):
    engine = Engine(serves_after=10**9)
    with pytest.raises(LaunchError, match="ready_timeout_seconds") as caught:
        launch(engine, tmp_path, ready_timeout_seconds=0)
    assert (caught.value.error_class, engine.containers) == ("timeout", {})


def test_only_the_servers_own_word_counts(tmp_path):
    weights = cache(Engine())
    taken = "[IpcModelLoader] Loaded model via IPC (mode=client), total=0.42s\n"
    assert weights.outcome(taken * 2)["weights_rung"] == "gpu"
    for log in ("Load weight end. elapsed=40 s", taken):  # of two ranks both have to take them
        silent = weights.outcome(log)
        assert silent["weight_cache"]["used"] is False
        assert "weights_rung" not in silent
