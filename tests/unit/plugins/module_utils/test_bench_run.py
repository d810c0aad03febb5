from __future__ import annotations

import itertools
import json

import docker.errors
import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import bench_run

PARAMS = {
    "container_port": 30000, "tokenizer_path": "/snapshot", "backend": "sglang", "dataset": "random-ids",
    "input_tokens": 64, "output_tokens": 16, "range_ratio": 1.0, "num_prompts": 2, "concurrency": 8,
    "request_rate": None, "seed": 7, "warmup_requests": 1, "flush_cache": True, "timeout_seconds": 600,
    "extra_args": [], "bench_module": "sglang.bench_serving",
}  # fmt: skip
RESULT = json.dumps({"completed": 2, "duration": 1.0, "output_throughput": 32.0, "output_lens": [16, 16]})
FLUSHED = json.dumps({"succeeded": True, "status": 200, "attempts": 1, "message": "Cache flushed."})


class Container:
    """A container whose commands have scripted outcomes: what -> (exit code, output, errors)."""

    def __init__(self, dies=None, **outcomes):
        self.attrs = {"State": {"ExitCode": 137}}
        self.outcomes = {"flush": (0, FLUSHED, ""), "bench": (0, "", ""), "cat": (0, RESULT, ""), "rm": (0, "", "")}
        self.outcomes.update(outcomes)
        self.status, self.dies, self.ran = "running", dies, []

    def reload(self):
        """C(dies) counts the looks at the container until the engine says that it is gone."""
        if self.dies is not None and "bench" in self.ran:
            self.dies -= 1
            self.status = "running" if self.dies >= 0 else "exited"

    def exec_run(self, argv, environment, demux):
        assert demux
        assert environment["HF_HUB_OFFLINE"] == "1"
        kinds = {"timeout": "bench", "cat": "cat", "rm": "rm"}
        what = kinds.get(argv[0]) or ("flush" if argv[-1].endswith("/flush_cache") else "tokenizer")
        self.ran.append(what)
        exit_code, output, errors = self.outcomes[what]
        return exit_code, (output.encode() or None, errors.encode() or None)


def measure(container, **params):
    return bench_run.run(container, PARAMS | params, "/tmp/out.jsonl")


def test_a_run():
    container = Container()
    result = measure(container)
    assert container.ran == ["flush", "bench", "cat", "rm"]
    assert result["requests"] == {"total": 2, "completed": 2, "failed": 0}
    assert result["metrics"]["output_tokens_per_second"] == 32.0
    assert result["flush_cache"] == {"requested": True, **json.loads(FLUSHED)}
    assert result["command"][-1] == "/tmp/out.jsonl"
    assert result["seed"] == 7
    assert result["start"] > 1_700_000_000
    assert result["seconds"] >= 0


def test_without_flush():
    container = Container()
    assert measure(container, flush_cache=False)["flush_cache"] == {"requested": False, "succeeded": False}
    assert container.ran == ["bench", "cat", "rm"]


def test_the_server_is_asked_for_its_tokenizer():
    container = Container(tokenizer=(0, "a warning\n/cache/snapshot\n", ""))
    command = measure(container, tokenizer_path=None)["command"]
    assert command[command.index("--tokenizer") + 1] == "/cache/snapshot"


@pytest.mark.parametrize(
    ("container", "error_class", "message"),
    [
        (Container(flush=(0, '{"succeeded": false, "message": "busy"}', "")), "flush_cache_failed", "cache: busy"),
        (Container(flush=(1, "", "Traceback\nConnectionRefusedError: [111]\n")), "flush_cache_failed", "Refused"),
        (Container(flush=(127, "", "")), "flush_cache_failed", "no output"),
        (Container(tokenizer=(1, "", "Traceback\nKeyError: 'x'")), "benchmark_failed", "KeyError"),
        (Container(bench=(1, "Warmup", "ValueError: Warmup failed\n")), "benchmark_failed", "with 1: ValueError"),
        (Container(bench=(127, "", "")), "benchmark_failed", "exited with 127: no output"),
        (Container(bench=(137, "Starting", ""), dies=0), "crashed", "ended during the benchmark"),
        (Container(bench=(137, "Starting", ""), dies=2), "crashed", "ended during the benchmark"),
        (Container(bench=(1, "Starting", ""), dies=0), "crashed", "ended during the benchmark"),
        (Container(bench=(137, "Starting", "")), "benchmark_failed", "exited with 137"),
        (Container(cat=(1, "", "No such file")), "unreadable_result", "is empty"),
        (Container(cat=(0, "half {", "")), "unreadable_result", "not JSON"),
    ],
)
def test_what_can_go_wrong(container, error_class, message, monkeypatch):
    monkeypatch.setattr(bench_run, "DEATH_SECONDS", 0.7)
    with pytest.raises(bench_run.BenchmarkError) as caught:
        measure(container, tokenizer_path=None if "tokenizer" in container.outcomes else "/snapshot")
    error = caught.value.error
    assert error["class"] == error_class
    assert message in error["message"]
    assert error["remedy"]
    assert set(error) == {"class", "message", "remedy", "exit_code", "log_tail"}
    # What was written in the container is removed, unless the container is gone.
    assert container.status != "running" or "bench" not in container.ran or container.ran[-1] == "rm"


@pytest.mark.parametrize("exit_code", [124, 137])
@pytest.mark.parametrize(("took", "error_class"), [(600, "timeout"), (599, "benchmark_failed")])
def test_a_timeout_is_one_only_when_the_time_is_up(exit_code, took, error_class, monkeypatch):
    moments = itertools.chain([0, 0, took], itertools.count(1000))
    monkeypatch.setattr(bench_run.time, "monotonic", lambda: next(moments))
    with pytest.raises(bench_run.BenchmarkError) as caught:
        measure(Container(bench=(exit_code, "Starting", "")))
    assert caught.value.error["class"] == error_class


def test_the_tail_of_the_output_is_kept():
    with pytest.raises(bench_run.BenchmarkError) as caught:
        measure(Container(bench=(1, "x" * 9000, "the end")))
    assert caught.value.error["log_tail"].endswith("xthe end")
    assert len(caught.value.error["log_tail"]) == bench_run.TAIL_CHARACTERS


@pytest.mark.parametrize(
    ("params", "failed"), [({}, 1), ({"range_ratio": 0.5}, 0), ({"extra_args": ["--disable-ignore-eos"]}, 0)]
)
def test_a_short_answer_fails_only_where_the_length_is_exact(params, failed):
    short = json.dumps({"completed": 2, "duration": 1.0, "output_lens": [16, 9]})
    assert measure(Container(cat=(0, short, "")), **params)["requests"]["failed"] == failed


class Client:
    def __init__(self, found):
        self.containers, self.found = self, found

    def get(self, name):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_find_container():
    running, stopped = Container(), Container()
    stopped.status = "exited"
    assert bench_run.find_container(Client(running), "a", docker.errors) is running
    with pytest.raises(bench_run.BenchmarkError, match="is exited, not running") as caught:
        bench_run.find_container(Client(stopped), "a", docker.errors)
    assert caught.value.error["exit_code"] == 137
    with pytest.raises(bench_run.BenchmarkError, match="there is no container 'a'"):
        bench_run.find_container(Client(docker.errors.NotFound("x")), "a", docker.errors)
