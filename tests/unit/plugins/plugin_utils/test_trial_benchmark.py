"""The workloads of a trial, on a server that bears so much and no more."""

import json

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import scoring, sweep_workloads, trial_benchmark
from ansible_collections.preheat.fleet.plugins.plugin_utils.trial_benchmark import Benchmarks, TrialFailed

LIMITS = {"ttft_p99_seconds": {"max": 1.0, "hard": True}}
WORKLOAD = {
    "name": "chat", "input_tokens": 64, "output_tokens": 16, "seed": 5, "flush_cache": True, "timeout_seconds": 60,
    "extra_args": [], "range_ratio": 1.0, "dataset": "random-ids",
}  # fmt: skip
FIND = {"over": "concurrency", "low": 1, "high": 64, "tolerance": 0.2, "max_probes": 20, "slo": LIMITS}


class Server:
    """TTFT p99 is a twentieth of a second for each request in flight; ``broken`` maps loads to error classes."""

    def __init__(self, broken=None):
        self.broken, self.calls, self.said = broken or {}, [], []
        self.record = {"slot": {"members": [{"gpus": []}]}, "status": "complete", "workloads": []}
        self.files = {}
        self.benchmarks = Benchmarks(
            record=self.record, files=self.files, slo=LIMITS, server={"container": "c"}, dataset_dir="/data",
            call=self.call, say=self.said.append,
        )  # fmt: skip

    def call(self, args, label):
        self.calls.append((label, args))
        load = args["concurrency"] or args["request_rate"]
        least = min((bad for bad in self.broken if load >= bad), default=None)
        if least is not None:
            raise TrialFailed({"class": self.broken[least], "message": "it did"})
        count = args["num_prompts"]
        return {
            "requests": {"total": count, "completed": count, "failed": 0},
            "metrics": {"ttft_p99_seconds": load / 20, "output_tokens_per_second": 100.0 * load},
            "raw": [json.dumps({"completed": count, "duration": 1.0, "load": load})],
        }, 2.0

    def run(self, workload):
        for point in sweep_workloads.workload_points([workload]):
            self.benchmarks.run(point)
        return self.record["workloads"]


def test_fixed_points():
    server = Server()
    entries = server.run({**WORKLOAD, "concurrency": [1, 8]})
    assert [entry["point"] for entry in entries] == ["chat/c1", "chat/c8"]
    assert set(server.files) == {"bench-chat-c1.jsonl", "bench-chat-c8.jsonl"}
    assert server.said[2:] == ["chat/c8: sends 32 requests", "chat/c8: 800 tokens/s out, TTFT p99 0.400 s (2.0 s)"]
    assert "found" not in entries[0]


def test_the_largest_load_within_the_limits():
    server = Server()
    (entry,) = server.run({**WORKLOAD, "find_max": FIND})
    found = entry["found"]
    assert (found["value"], found["limit"], found["confirmed"]) == (20, "slo", True)
    assert entry["point"] == "chat/max"
    assert entry["concurrency"] == 20
    assert entry["metrics"]["max_concurrency"] == 20
    assert entry["metrics"]["ttft_p99_seconds"] == 1.0
    labels = [label for label, _args in server.calls]
    assert labels[:7] == [f"chat/max:c{load}" for load in (1, 2, 4, 8, 16, 32)] + ["chat/max:c32:2"]
    assert [probe["point"] for probe in found["probes"]] == labels
    assert len(set(labels)) == len(labels) == len(server.files), "every probe has its own raw file"
    assert all(probe["raw_file"] in server.files for probe in found["probes"])
    assert [args["seed"] for label, args in server.calls if label.startswith("chat/max:c32")] == [5, 6]
    assert found["probes"][5]["missed"] == ["ttft_p99_seconds"]
    assert "chat/max:c32 misses ttft_p99_seconds" in server.said


@pytest.mark.parametrize("metric", ["max_concurrency", "max_concurrency_per_gpu", "output_tokens_per_second"])
def test_what_is_found_is_an_objective(metric):
    server = Server()
    server.run({**WORKLOAD, "find_max": FIND})
    scored = scoring.score_trial(server.record, {"metric": metric}, LIMITS)
    assert scored["eligible"], scored["ineligible_reasons"]
    assert scored["objective"]["value"] == pytest.approx(2000 if metric.startswith("output") else 20)


def test_nothing_found_cannot_win():
    server = Server()
    (entry,) = server.run({**WORKLOAD, "find_max": {**FIND, "low": 32}})
    assert entry["found"]["value"] is None
    assert "max_concurrency" not in entry["metrics"]
    scored = scoring.score_trial(server.record, {"metric": "max_concurrency"}, LIMITS)
    assert not scored["eligible"]
    assert any("max_concurrency was not measured" in reason for reason in scored["ineligible_reasons"])


@pytest.mark.parametrize("error_class", ["timeout", "benchmark_failed"])
def test_an_overload_is_an_answer(error_class):
    server = Server(broken={12: error_class})
    (entry,) = server.run({**WORKLOAD, "find_max": FIND})
    assert 10 <= entry["found"]["value"] <= 11
    failed = [probe for probe in entry["found"]["probes"] if "error" in probe]
    assert failed[0]["error"]["class"] == error_class
    assert failed[0]["missed"] == ["requests"]
    assert "error" not in entry


@pytest.mark.parametrize(("broken", "kept"), [({12: "crashed"}, 4), ({1: "timeout"}, 0)])
def test_what_is_no_overload_ends_the_trial_and_keeps_the_probes(broken, kept):
    server = Server(broken=broken)
    with pytest.raises(TrialFailed):
        server.run({**WORKLOAD, "find_max": FIND})
    probes = [probe["point"] for entry in server.record["workloads"] for probe in entry["found"]["probes"]]
    assert probes == [f"chat/max:c{load}" for load in (1, 2, 4, 8)][:kept]


def test_prompts_reach_the_module():
    server = Server()
    prefix = {"tokens": 32, "groups": 2}
    server.run({**WORKLOAD, "concurrency": [2], "shared_prefix": prefix, "range_ratio": 1.0})
    file = {"dataset": "sharegpt", "dataset_file": "/home/me/x.json", "dataset_sha256": "ab", "input_tokens": None}
    server.run({**WORKLOAD, **file, "concurrency": [2]})
    (_l, first), (_l2, second) = server.calls
    assert first["shared_prefix"] == prefix
    assert (second["dataset"], second["dataset_file"]) == ("sharegpt", "/data/ab")
    assert trial_benchmark.ASKED[0] in first
