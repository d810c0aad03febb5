from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils import basic
from core_compat import patch_module_args

from ansible_collections.preheat.fleet.plugins.module_utils import (
    bench_run,
    docker_client,
    docker_failure,
    docker_module,
)
from ansible_collections.preheat.fleet.plugins.modules import sglang_benchmark

ARGS = {"container": "server", "input_tokens": 64, "output_tokens": 16, "num_prompts": 8, "concurrency": 4}


@pytest.fixture
def run(monkeypatch, capsys):
    """The module's result for its arguments; C(outcome) is what the benchmark returns or raises."""

    def run(args, outcome=None, check_mode=False):
        def benchmark(container, params, path):
            if isinstance(outcome, Exception):
                raise outcome
            return dict(outcome or {}, command=["timeout"], path=path)

        monkeypatch.setattr(docker_module, "DockerClient", lambda host, timeout: None)
        monkeypatch.setattr(bench_run, "ServerContainer", lambda client, name: name)
        monkeypatch.setattr(bench_run, "run", benchmark)
        with patch_module_args(args | {"_ansible_check_mode": check_mode}), pytest.raises(SystemExit) as ended:
            sglang_benchmark.main()
        result = json.loads(capsys.readouterr().out)
        assert bool(result.get("failed")) == bool(ended.value.code)
        return result

    return run


def test_a_measurement_changes_nothing(run):
    result = run(ARGS, {"requests": {"total": 8, "completed": 8, "failed": 0}})
    assert result["changed"] is False
    assert result["requests"]["completed"] == 8


def test_check_mode_tells_the_command_and_runs_nothing(run):
    result = run(ARGS, AssertionError("ran"), check_mode=True)
    assert result["skipped"]
    assert result["command"][:6] == ["timeout", "--kill-after=10", "1800", "python3", "-m", "sglang.bench_serving"]


def test_an_error_says_what_and_what_to_do(run):
    error = bench_run.BenchmarkError("timeout", "it did not end", "Give more time.", exit_code=124, output="Starting")
    result = run(ARGS, error)
    assert result["msg"] == "it did not end. Give more time."
    assert result["error"]["class"] == "timeout"
    assert result["error"]["log_tail"] == "Starting"
    assert "sglang.bench_serving" in result["command"]


@pytest.mark.parametrize(
    "trouble",
    [
        docker_client.docker_errors.DockerException("no socket"),
        docker_client.RequestException("no answer"),
        docker_failure.engine_unreachable("unix:///x", Exception("no socket")),
    ],
)
def test_the_engine_does_not_answer(run, trouble):
    result = run(ARGS, trouble)
    assert result["error"]["class"] == "engine_unreachable"
    assert "docker_host" in result["msg"]


def test_what_nobody_expected_is_a_message_with_its_traceback(run):
    assert run(ARGS, KeyError("x"))["msg"] == "unexpected error: 'x'"


def test_a_missing_library_is_named(run, monkeypatch):
    monkeypatch.setattr(docker_module, "DOCKER_IMPORT_ERROR", "Traceback")
    assert "docker >= 7.1" in run(ARGS)["msg"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"concurrency": None}, "one of the following is required: concurrency, request_rate"),
        ({"request_rate": 2}, "mutually exclusive"),
        ({"num_prompts": None}, "num_prompts"),
        ({"num_prompts": 0}, "num_prompts is 0"),
        ({"concurrency": -1}, "concurrency is -1"),
        ({"timeout_seconds": 0}, "timeout_seconds is 0"),
        ({"input_tokens": None}, "input_tokens is missing"),
        ({"output_tokens": None, "dataset": "random"}, "output_tokens is missing"),
        ({"shared_prefix": {"tokens": 64}}, "tokens below input_tokens=64"),
        ({"shared_prefix": {"tokens": 8, "groups": 0}}, "groups above 0"),
        ({"dataset": "random", "dataset_file": "/no/such"}, "no file on this host"),
        ({"backend": "vllm"}, "backend must be one of"),
    ],
)
def test_wrong_arguments(run, change, says):
    args = {key: value for key, value in (ARGS | change).items() if value is not None}
    assert says in run(args)["msg"]


def test_a_dataset_with_lengths_of_its_own(run):
    args = {key: value for key, value in ARGS.items() if not key.endswith("put_tokens")}
    assert run(args | {"dataset": "sharegpt", "dataset_file": __file__})["changed"] is False


def test_every_argument_is_documented_with_its_default():
    options = yaml.safe_load(sglang_benchmark.DOCUMENTATION)["options"]
    shared = {"docker_host", "docker_timeout_seconds"}  # of the documentation fragment
    assert set(options) | shared == set(sglang_benchmark.ARGUMENTS)
    for name, option in options.items():
        argument = sglang_benchmark.ARGUMENTS[name]
        for key in ("type", "default", "required", "choices", "elements"):
            assert option.get(key) == argument.get(key), (name, key)


def test_no_argument_looks_like_a_secret(monkeypatch):
    """Ansible warns of names such as input_tokens unless no_log is said out loud."""
    for name, argument in sglang_benchmark.ARGUMENTS.items():
        if basic.PASSWORD_MATCH.search(name):
            assert argument["no_log"] is False
