"""Containers that share a daemon's namespaces, on a real engine; a shell script stands for SGLang's daemon. No GPU."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

pytest.importorskip("docker")

from server_params import CONTAINER

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_model, sglang_weight_cache
from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import DockerClient
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError

IMAGE = "preheat-lab/light-engine:latest"
MODEL = Path(__file__).parents[2] / ".lab/models/preheat-lab/tiny-llama"
READY = "/dev/shm/sglang_weight_cache_GPU-0.ready"


@pytest.fixture
def engine():
    return DockerClient("unix:///var/run/docker.sock", 60)


@pytest.fixture
def params(engine):
    run = uuid.uuid4().hex[:8]
    yield {
        "name": f"preheat-test-{run}",
        "weight_cache": f"preheat-test-{run}-weights",
        "image": IMAGE,
        "environment": {},
        "gpus": ["GPU-0"],
        "gpu_access": "auto",
        "shm_size_bytes": 64 << 20,
        **CONTAINER,
        "labels": {},
        "command": ["sh", "-c", f"kill -0 $(cat {READY}) && echo joined; exec sleep 300"],
        "jit_cache_dir": None,
        "parameters": {},
        "ready_timeout_seconds": 60,
    }
    for name in (f"preheat-test-{run}", f"preheat-test-{run}-weights"):
        engine.remove(name)


def prepare(engine, params, monkeypatch, script):
    """What sglang_server does before it starts a server, but that no GPU is asked for."""
    monkeypatch.setattr(sglang_weight_cache, "COMMAND", ["sh", "-c", script])
    image_id = engine.image(IMAGE)["Id"]
    model = sglang_model.from_directory(str(MODEL))
    model.arguments = []
    server = sglang_weight_cache.client_spec(params, model, [], image_id, "none")
    weights = sglang_weight_cache.WeightCache(engine, params)
    weights.prepare(model, server)
    return weights, server


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_server_sees_the_daemon_and_ends_with_it(engine, params, monkeypatch):
    script = f"sleep 1; sh -c 'echo $$ > {READY}; exec sleep 300'"
    weights, spec = prepare(engine, params, monkeypatch, script)
    assert weights.started_at
    daemon = engine.container(params["weight_cache"])
    again, spec = prepare(engine, params, monkeypatch, script)
    assert again.started_at is None
    assert engine.container(params["weight_cache"])["Id"] == daemon["Id"]

    server = engine.create(
        name=spec.name, image=spec.image_id, command=params["command"], environment=spec.environment, labels={},
        container_port=30000, **spec.host_config(0, engine.device_request),
    )  # fmt: skip
    engine.start(server, spec.name)
    wait_for(lambda: "joined" in engine.logs(server))
    # The server goes and the daemon stays; but not the other way round.
    engine.stop(server, 1)
    assert engine.container(params["weight_cache"])["State"]["Running"]
    engine.start(server, spec.name)
    engine.remove(params["weight_cache"])
    wait_for(lambda: not engine.container(server)["State"]["Running"])
    assert engine.container(server)["State"]["ExitCode"] == 137


def test_a_daemon_that_cannot_load_is_a_failed_launch(engine, params, monkeypatch):
    with pytest.raises(LaunchError) as caught:
        prepare(engine, params, monkeypatch, "echo 'torch.OutOfMemoryError: CUDA out of memory.'; exit 1")
    assert (caught.value.error_class, caught.value.phase) == ("out_of_memory", "weights_preload")
    assert engine.container(params["weight_cache"]) is None


def test_the_image_is_asked_for_its_version(engine, params):
    image_id = engine.image(IMAGE)["Id"]
    before = engine.api.containers(all=True)
    weights = sglang_weight_cache.WeightCache(engine, params)
    assert weights.accepts(str(MODEL), image_id) is False
    assert "it takes 0.5.19" in weights.refusal
    assert engine.output_of_image(image_id, ["python3", "-c", "print(6 * 7, end='')"]) == "42"
    assert len(engine.api.containers(all=True)) == len(before)
