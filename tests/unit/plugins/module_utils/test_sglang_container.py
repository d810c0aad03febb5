from __future__ import annotations

import json

import pytest
from server_params import CONTAINER

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_container, sglang_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = sglang_model.from_cache("/cache/hub", sglang_container.CONTAINER_CACHE_DIR, "org/name", COMMIT)
PARAMS = {
    "name": "server",
    "image": "lmsysorg/sglang:v0.5.23",
    "environment": {"NCCL_DEBUG": "INFO", "STORE_SECRET": "s3cret"},
    "gpus": ["0", "GPU-1"],
    "shm_size_bytes": 1024,
    **CONTAINER,
    "labels": {"team": "x"},
    "command": ["python3", "-m", "sglang.launch_server"],
    "jit_cache_dir": "/cache/jit",
}


def spec(flags=("--tp-size", "2"), image_id="sha256:1", gpu_access="device_request", **changes):
    return sglang_container.ServerSpec({**PARAMS, **changes}, MODEL, list(flags), image_id, gpu_access)


def container(made_from, running=True):
    state = {"Running": running, "Status": "running" if running else "exited"}
    return {"Config": {"Labels": made_from.all_labels(31000)}, "State": state}


def test_command():
    assert spec().command(31000) == [
        *("python3", "-m", "sglang.launch_server"),
        *("--model-path", "org/name", "--revision", COMMIT, "--tp-size", "2"),
        *("--host", "0.0.0.0", "--port", "30000"),
    ]
    assert spec(network_mode="host").command(31000)[-4:] == ["--host", "127.0.0.1", "--port", "31000"]


def test_offline_read_only_and_no_token():
    made = spec()
    assert made.mounts == [
        ("/cache/hub", "/root/.cache/huggingface/hub", "ro"),
        ("/cache/jit", "/root/.cache/preheat/jit", "rw"),
    ]
    assert made.environment["HF_HUB_OFFLINE"] == made.environment["TRANSFORMERS_OFFLINE"] == "1"
    assert made.environment["HF_HUB_CACHE"] == "/root/.cache/huggingface/hub"
    assert made.environment["TRITON_CACHE_DIR"].startswith("/root/.cache/preheat/jit/")
    assert not [name for name in spec(jit_cache_dir=None).environment if "CACHE_DIR" in name]


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({}, []),
        ({"flags": ["--tp-size", "1"]}, ["command"]),
        ({"image_id": "sha256:2"}, ["image"]),
        ({"image": "another:name"}, []),  # the same image under another name
        ({"environment": {"NCCL_DEBUG": "INFO", "STORE_SECRET": "other"}}, ["environment"]),
        ({"gpus": ["1"]}, ["gpus"]),
        ({"gpu_access": "cdi"}, ["gpu_access"]),
        ({"labels": {}}, ["labels"]),
        ({"shm_size_bytes": 2048}, ["shm_size_bytes"]),
        ({"port": 31000}, ["port"]),
        ({"publish_host": "0.0.0.0"}, ["publish_host"]),
        ({"restart_policy": "always"}, ["restart_policy"]),
        ({"jit_cache_dir": "/elsewhere"}, ["mounts"]),
    ],
)
def test_differences(changes, changed):
    differences = sglang_container.Differences(container(spec()), spec(**changes))
    assert differences.config_changed == bool(changed)
    diff = differences.diff()
    assert sorted(diff["before"]) == sorted(diff["after"]) == changed
    assert "s3cret" not in json.dumps(diff)


def test_difference_of_what_is_not_there():
    differences = sglang_container.Differences(None, spec())
    assert differences.config_changed
    assert differences.diff()["before"] == {"state": "absent"}
    assert differences.diff()["after"]["state"] == "started"


def test_difference_of_what_stopped():
    differences = sglang_container.Differences(container(spec(), running=False), spec())
    assert not differences.config_changed
    assert differences.diff() == {"before": {"state": "exited"}, "after": {"state": "started"}}


def test_labels_that_another_version_wrote():
    old = container(spec())
    old["Config"]["Labels"].update({"preheat.config": "0", "preheat.spec": "no JSON"})
    differences = sglang_container.Differences(old, spec())
    assert differences.config_changed
    assert differences.diff()["before"] == {}


def test_no_gpus_no_access():
    assert spec(gpu_access="none").gpus == []
    assert "device_requests" not in spec(gpu_access="none").host_config(1, None)
    assert spec(gpus=[]).gpu_access == "none"


def test_host_config():
    arguments = spec().host_config(31000, lambda access, gpus: (access, gpus))
    assert arguments["device_requests"] == [("device_request", ["0", "GPU-1"])]
    assert arguments["port_bindings"] == {30000: ("127.0.0.1", 31000)}
    assert arguments["binds"][0] == "/cache/hub:/root/.cache/huggingface/hub:ro"
    assert "port_bindings" not in spec(network_mode="host").host_config(31000, lambda access, gpus: None)
    assert "shm_size" not in spec(ipc_mode="host").host_config(31000, lambda access, gpus: None)


def test_docker_command_is_complete_and_keeps_secrets():
    command = spec(restart_policy="always").docker_command(31000)
    text = " ".join(command)
    assert "s3cret" not in text
    assert command[command.index("STORE_SECRET") - 1] == "--env"
    for part in (
        "docker run --detach --name server --init",
        "--volume /cache/hub:/root/.cache/huggingface/hub:ro",
        "--env HF_HUB_OFFLINE=1",
        '--gpus "device=0,GPU-1"',
        "--publish 127.0.0.1:31000:30000",
        "--restart always",
        "lmsysorg/sglang:v0.5.23 python3 -m sglang.launch_server --model-path org/name",
    ):
        assert part in text
    assert "--device nvidia.com/gpu=0" in " ".join(spec(gpu_access="cdi").docker_command(1))
    of_amd = spec(gpu_access="cdi")
    of_amd.cdi_devices = ["amd.com/gpu=0"]
    assert "--device amd.com/gpu=0" in " ".join(of_amd.docker_command(1))


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "hf_token", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"]
)
def test_refused_environment(name):
    with pytest.raises(ValueError, match=f"environment.{name}") as caught:
        sglang_container.check_environment({"A": "b", name: "hf_secret"})
    assert "hf_secret" not in str(caught.value)
