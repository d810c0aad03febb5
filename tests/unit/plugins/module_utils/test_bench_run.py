from __future__ import annotations

import itertools
import json
import tarfile
from unittest import mock

import docker.errors
import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import bench_run

PARAMS = {
    "container_port": 30000, "tokenizer_path": "/snapshot", "backend": "sglang", "dataset": "random-ids",
    "dataset_file": None, "shared_prefix": None,
    "input_tokens": 64, "output_tokens": 16, "range_ratio": 1.0, "num_prompts": 2, "concurrency": 8,
    "request_rate": None, "seed": 7, "warmup_requests": 1, "flush_cache": True, "timeout_seconds": 600,
    "extra_args": [], "bench_module": "sglang.bench_serving",
}  # fmt: skip
RESULT = json.dumps({"completed": 2, "duration": 1.0, "output_throughput": 32.0, "output_lens": [16, 16]})
FLUSHED = json.dumps({"succeeded": True, "status": 200, "attempts": 1, "message": "Cache flushed."})


class Api:
    """An engine whose container's commands have scripted outcomes: what -> (exit code, output, errors)."""

    def __init__(self, dies=None, dies_in="bench", **outcomes):
        self.outcomes = {"flush": (0, FLUSHED, ""), "bench": (0, "", ""), "cat": (0, RESULT, ""), "rm": (0, "", "")}
        self.outcomes.update(outcomes)
        self.dies, self.dies_in, self.running, self.ran = dies, dies_in, True, []

    def exec_create(self, name, argv, environment):
        assert environment["HF_HUB_OFFLINE"] == "1"
        kinds = {"timeout": "bench", "cat": "cat", "rm": "rm", "stat": "stat"}
        return {"Id": kinds.get(argv[0]) or ("flush" if argv[-1].endswith("/flush_cache") else "tokenizer")}

    def exec_start(self, what, demux):
        assert demux
        self.ran.append(what)
        if isinstance(self.outcomes[what], Exception):
            raise self.outcomes[what]
        return tuple(text.encode() or None for text in self.outcomes[what][1:])

    def put_archive(self, name, folder, archive):
        with tarfile.open(fileobj=archive) as tar:
            self.put = {f"{folder}/{entry.name}": tar.extractfile(entry).read() for entry in tar}

    def exec_inspect(self, what):
        return {"ExitCode": self.outcomes[what][0]}

    def state(self):
        """C(dies) counts the looks at the container until the engine says that it is gone."""
        if self.dies is not None and self.dies_in in self.ran:
            self.dies -= 1
            self.running = self.dies >= 0
        return {"Running": self.running, "Status": "running", "ExitCode": 0 if self.running else 137}


class Client:
    def __init__(self, api, found=None):  # found: what the engine says instead, {} for no container
        self.api, self._found = api, found

    def container(self, name):
        return self._found if self._found is not None else {"State": self.api.state()}


def container(**outcomes):
    return bench_run.ServerContainer(Client(Api(**outcomes)), "server")


def measure(server, **params):
    return bench_run.run(server, PARAMS | params, "/tmp/out.jsonl")


def test_a_run():
    server = container()
    result = measure(server)
    assert server._client.api.ran == ["flush", "bench", "cat", "rm"]
    assert result["requests"] == {"total": 2, "completed": 2, "failed": 0}
    assert result["metrics"]["output_tokens_per_second"] == 32.0
    assert result["flush_cache"] == {"requested": True, **json.loads(FLUSHED)}
    assert result["command"][-1] == "/tmp/out.jsonl"
    assert result["seed"] == 7
    assert result["start"] > 1_700_000_000
    assert result["seconds"] >= 0


def test_without_flush():
    server = container()
    assert measure(server, flush_cache=False)["flush_cache"] == {"requested": False, "succeeded": False}
    assert server._client.api.ran == ["bench", "cat", "rm"]


@pytest.mark.parametrize(
    ("inside", "copied"), [((1, "", "No such file"), True), ((0, "2\n", ""), True), ((0, "3\n", ""), False)]
)
def test_a_dataset_is_copied_unless_it_is_there_whole(tmp_path, inside, copied):
    file = tmp_path / "data.json"
    file.write_text("[1]")
    server = container(stat=inside)
    api = server._client.api
    command = measure(server, dataset="random", dataset_file=str(file))["command"]
    path = command[command.index("--dataset-path") + 1]
    assert getattr(api, "put", {}) == ({path: b"[1]"} if copied else {})


@pytest.mark.parametrize(("output_tokens", "failed"), [(16, 1), (None, 0)])
def test_answers_as_long_as_in_the_file_are_no_failure(output_tokens, failed):
    short = json.dumps({"completed": 2, "duration": 1.0, "output_lens": [16, 9]})
    result = measure(container(cat=(0, short, "")), dataset="sharegpt", output_tokens=output_tokens)
    assert result["requests"]["failed"] == failed


def test_the_server_is_asked_for_its_tokenizer():
    server = container(tokenizer=(0, "a warning\n/cache/snapshot\n", ""))
    command = measure(server, tokenizer_path=None)["command"]
    assert command[command.index("--tokenizer") + 1] == "/cache/snapshot"


GONE = docker.errors.APIError("409 Client Error", response=mock.Mock(status_code=409), explanation="is not running")


@pytest.mark.parametrize(
    ("outcomes", "error_class", "message"),
    [
        ({"flush": (0, '{"succeeded": false, "message": "busy"}', "")}, "flush_cache_failed", "cache: busy"),
        ({"flush": (1, "", "Traceback\nConnectionRefusedError: [111]\n")}, "flush_cache_failed", "Refused"),
        ({"flush": (127, "", "")}, "flush_cache_failed", "no output"),
        ({"flush": GONE, "dies": 0, "dies_in": "flush"}, "crashed", "ended during the benchmark"),
        ({"flush": GONE}, "flush_cache_failed", "is not running"),
        ({"tokenizer": (1, "", "Traceback\nKeyError: 'x'")}, "benchmark_failed", "KeyError"),
        ({"tokenizer": GONE, "dies": 0, "dies_in": "tokenizer"}, "crashed", "ended during the benchmark"),
        ({"bench": (1, "Warmup", "ValueError: Warmup failed\n")}, "benchmark_failed", "with 1: ValueError"),
        ({"bench": (2, "", "x.py: error: unrecognized arguments: --y\n")}, "bad_flag", "arguments: unrecognized"),
        ({"bench": (2, "", "no idea\n")}, "benchmark_failed", "with 2: no idea"),
        ({"bench": (127, "", "")}, "benchmark_failed", "exited with 127: no output"),
        ({"bench": (137, "Starting", ""), "dies": 0}, "crashed", "ended during the benchmark"),
        ({"bench": (137, "Starting", ""), "dies": 2}, "crashed", "ended during the benchmark"),
        ({"bench": (None, "Starting", ""), "dies": 1}, "crashed", "ended during the benchmark"),
        ({"bench": (1, "Starting", ""), "dies": 0}, "crashed", "ended during the benchmark"),
        ({"bench": (137, "Starting", "")}, "benchmark_failed", "exited with 137"),
        ({"cat": (1, "", "No such file")}, "unreadable_result", "is empty"),
        ({"cat": (0, "half {", "")}, "unreadable_result", "not JSON"),
    ],
)
def test_what_can_go_wrong(outcomes, error_class, message, monkeypatch):
    monkeypatch.setattr(bench_run, "DEATH_SECONDS", 0.7)
    server = container(**outcomes)
    with pytest.raises(bench_run.BenchmarkError) as caught:
        measure(server, tokenizer_path=None if "tokenizer" in outcomes else "/snapshot")
    error = caught.value.error
    assert error["class"] == error_class
    assert message in error["message"]
    assert error["remedy"]
    assert set(error) == {"class", "message", "remedy", "exit_code", "log_tail"}
    assert error["exit_code"] == 137 if error_class == "crashed" else True
    # What was written in the container is removed, unless the container is gone.
    api = server._client.api
    assert not api.running or "bench" not in api.ran or api.ran[-1] == "rm"


def test_trouble_of_the_engine_is_not_the_containers():
    broken = docker.errors.APIError("500 Server Error", response=mock.Mock(status_code=500))
    with pytest.raises(docker.errors.APIError):
        measure(container(bench=broken))


@pytest.mark.parametrize("exit_code", [124, 137])
@pytest.mark.parametrize(("took", "error_class"), [(600, "timeout"), (599, "benchmark_failed")])
def test_a_timeout_is_one_only_when_the_time_is_up(exit_code, took, error_class, monkeypatch):
    moments = itertools.chain([0, 0, took], itertools.count(1000))
    server = container(bench=(exit_code, "Starting", ""))
    monkeypatch.setattr(bench_run.time, "monotonic", lambda: next(moments))
    with pytest.raises(bench_run.BenchmarkError) as caught:
        measure(server)
    assert caught.value.error["class"] == error_class


def test_the_tail_of_the_output_is_kept():
    with pytest.raises(bench_run.BenchmarkError) as caught:
        measure(container(bench=(1, "x" * 9000, "the end")))
    assert caught.value.error["log_tail"].endswith("xthe end")
    assert len(caught.value.error["log_tail"]) == bench_run.TAIL_CHARACTERS


@pytest.mark.parametrize(
    ("params", "failed"), [({}, 1), ({"range_ratio": 0.5}, 0), ({"extra_args": ["--disable-ignore-eos"]}, 0)]
)
def test_a_short_answer_fails_only_where_the_length_is_exact(params, failed):
    short = json.dumps({"completed": 2, "duration": 1.0, "output_lens": [16, 9]})
    assert measure(container(cat=(0, short, "")), **params)["requests"]["failed"] == failed


def test_a_container_that_cannot_be_measured():
    stopped = {"State": {"Running": False, "Status": "exited", "ExitCode": 1}}
    with pytest.raises(bench_run.BenchmarkError, match="'server' is exited, not running") as caught:
        bench_run.ServerContainer(Client(Api(), stopped), "server")
    assert (caught.value.error["class"], caught.value.error["exit_code"]) == ("crashed", 1)
    with pytest.raises(bench_run.BenchmarkError, match="there is no container 'server'") as caught:
        bench_run.ServerContainer(Client(Api(), {}), "server")
    assert caught.value.error["class"] == "container_missing"
