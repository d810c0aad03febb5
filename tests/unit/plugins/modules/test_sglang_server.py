from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.preheat.fleet.plugins.doc_fragments.docker import ModuleDocFragment
from ansible_collections.preheat.fleet.plugins.module_utils import docker_module
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError
from ansible_collections.preheat.fleet.plugins.modules import sglang_server

DOCUMENTED = {
    **yaml.safe_load(sglang_server.DOCUMENTATION)["options"],
    **yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"],
}


class FakeModule:
    """What main() needs of an AnsibleModule."""

    check_mode = False

    def __init__(self, **params):
        spec = sglang_server.argument_spec()
        self.params = {name: option.get("default") for name, option in spec.items()} | params
        self.no_log_values = {str(value) for value in self.params["environment"].values()} | {"from elsewhere"}

    def warn(self, text):
        pass


@pytest.mark.parametrize("name", sorted(set(DOCUMENTED) | set(sglang_server.argument_spec())))
def test_documentation_and_arguments_agree(name):
    documented, option = DOCUMENTED[name], sglang_server.argument_spec()[name]
    for key in ("type", "default", "choices", "elements"):
        assert documented.get(key) == option.get(key), key


def test_examples_use_documented_options():
    for task in yaml.safe_load(sglang_server.EXAMPLES):
        assert set(task.get("preheat.fleet.sglang_server", {})) <= set(DOCUMENTED)


def test_only_secrets_are_masked():
    module = FakeModule(environment={"OMP_NUM_THREADS": "1", "STORE_SECRET": "s3cret", "A_TOKEN": "t0ken"})
    invocation = sglang_server.mask_only_secrets(module)
    assert module.no_log_values == {"s3cret", "t0ken", "from elsewhere"}
    assert invocation["module_args"]["environment"] == ["A_TOKEN", "OMP_NUM_THREADS", "STORE_SECRET"]
    assert "s3cret" not in json.dumps(invocation)


@pytest.mark.parametrize(
    ("state", "failure", "phase"),
    [
        ("started", LaunchError("crashed", "it broke", "Mend it.", phase="kv_cache", exit_code=1), "kv_cache"),
        ("started", LaunchError("model_missing", "it broke", "Mend it."), "container_create"),
        ("absent", LaunchError("engine_unreachable", "it broke", "Mend it."), "teardown"),
    ],
)
def test_a_failure_is_a_result(monkeypatch, state, failure, phase):
    def fail(*unused):
        raise failure

    monkeypatch.setattr(docker_module, "DockerClient", fail)
    error = sglang_server.run(FakeModule(state=state), 0.0)["error"]
    assert error == {
        "class": failure.error_class,
        "message": "it broke",
        "remedy": "Mend it.",
        "phase": phase,
        "exit_code": failure.exit_code,
        "log_tail": "",
    }


def test_parameters_by_intent_become_flags():
    parameters = {"preset": ["throughput", "fp8"], "max_model_len": 8192, "num_continuous_decode_steps": None}
    params = FakeModule(parameters=parameters, shm_size="1g", cache_dir="/hub").params
    assert sglang_server.prepared(params)["parameters"] == {
        "chunked_prefill_size": 8192,
        "num_continuous_decode_steps": None,
        "schedule_conservativeness": 0.3,
        "quantization": "fp8",
        "kv_cache_dtype": "fp8_e4m3",
        "context_length": 8192,
    }


def test_an_unknown_preset_is_refused():
    params = FakeModule(parameters={"preset": "fast"}, shm_size="1g", cache_dir="/hub").params
    with pytest.raises(LaunchError, match="'fast' is no preset") as caught:
        sglang_server.prepared(params)
    assert caught.value.error_class == "invalid"


@pytest.mark.parametrize(("shm_size", "size"), [("32g", 32 << 30), ("512m", 512 << 20), ("1024", 1024)])
def test_sizes(shm_size, size):
    params = FakeModule(shm_size=shm_size, cache_dir="/cache/../hub", jit_cache_dir=None).params
    prepared = sglang_server.prepared(params)
    assert prepared["shm_size_bytes"] == size
    assert prepared["cache_dir"] == "/hub"


def test_a_size_that_is_none():
    with pytest.raises(LaunchError, match="shm_size") as caught:
        sglang_server.prepared(FakeModule(shm_size="plenty", cache_dir="/hub").params)
    assert caught.value.error_class == "invalid"
