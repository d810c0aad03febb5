"""One trial: the order of its steps, its record, and what a failure at each step leaves."""

import json

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import trial

METRICS = {"output_tokens_per_second": 100.0, "ttft_p99_seconds": 0.2}
POINT = {
    "name": "chat", "point": "chat/c2", "input_tokens": 8, "output_tokens": 4, "concurrency": 2, "request_rate": None,
    "num_prompts": 4, "seed": 1, "warmup_requests": 1, "flush_cache": True, "timeout_seconds": 9, "extra_args": [],
}  # fmt: skip
SETTINGS = {
    "docker_host": "unix:///d.sock", "cache_dir": "/c", "endpoint": None, "token": "hf_secret", "jit_cache_dir": None,
    "gpu_access": "auto", "ready_timeout_seconds": 60,
}  # fmt: skip
SLOT = {"name": "h/0", "members": [{"host": "h", "gpus": [{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]}]}
CLAIM = {
    "number": 3, "attempt": 1, "params": {"a": 1}, "server_parameters": {"a": 1, "b": 2}, "gpus": 1, "study_number": 3
}  # fmt: skip


class Host:
    """Answers module calls; every call takes ten seconds of its own clock."""

    def __init__(self, **broken):
        self.now, self.calls, self.broken = 1000.0, [], broken

    def clock(self):
        return self.now

    def call(self, module, args):
        self.calls.append((module, args))
        began, self.now = self.now, self.now + 10
        key = f"{module}_{args['state']}" if module == "sglang_server" else module
        if key in self.broken:
            return self.broken[key]
        skew = 500.0
        return {
            "hf_model": {"snapshot_path": "/c/s", "bytes_fetched": 0},
            "sglang_server_started": {
                "container": {"name": "n", "image_digest": "sha256:1"},
                "command": ["python3"],
                "ready": True,
                "phases": [
                    {"name": "container_create", "start": began + skew + 1, "seconds": 2.0},
                    {"name": "engine_start", "start": began + skew + 3, "seconds": 6.0},
                ],
                "cache": {"weights_rung": "disk", "resident_fraction_before": 0.5, "jit": "cold"},
            },
            "page_cache": {"bytes_read": 5, "resident_fraction_after": 1.0},
            "sglang_benchmark": {
                "requests": {"total": 4, "completed": 4, "failed": 0}, "metrics": METRICS, "raw": ['{"x": 1}']
            },
            "sglang_server_absent": {"removed": ["n"], "log": "the log"},
        }[key]  # fmt: skip


def run(tmp_path, host, **settings):
    plan = {
        "name": "s", "sweep_dir": str(tmp_path), "image": "i:1", "commit": "c" * 40, "environment": {}, "slo": {},
        "model": {"repo_id": "o/m", "revision": "main", "allow_patterns": None, "ignore_patterns": None,
                  "allow_pickle": False},
        "objective": {"metric": "output_tokens_per_second", "direction": "maximize"}, "workload_points": [POINT],
    }  # fmt: skip
    lines = []
    one = trial.Trial(
        plan=plan, claim=CLAIM, slot=SLOT, settings=SETTINGS | settings, versions={"preheat": "0"},
        call=host.call, say=lines.append, clock=host.clock,
    )  # fmt: skip
    return one.run(), lines


def test_a_complete_trial(tmp_path):
    host = Host()
    record, lines = run(tmp_path, host)
    called = [module for module, _args in host.calls]
    assert called == ["hf_model", "sglang_server", "sglang_benchmark", "sglang_server"]
    assert record["status"] == "complete"
    assert record["eligible"] is True
    assert record["objective"]["value"] == pytest.approx(100.0)
    assert record["slot"]["members"][0]["gpus"] == [{"uuid": "GPU-a"}]
    assert [phase["name"] for phase in record["phases"]] == [
        "model_fetch", "launching", "launching", "container_create", "engine_start", "benchmark", "teardown",
        "unattributed",
    ]  # fmt: skip
    around = [(phase["start"], phase["seconds"]) for phase in record["phases"] if phase["name"] == "launching"]
    assert around == [(pytest.approx(10), pytest.approx(1)), (pytest.approx(19), pytest.approx(1))]
    assert record["phases"][-1]["seconds"] == pytest.approx(0)
    assert sum(phase["seconds"] for phase in record["phases"]) == pytest.approx(record["wall_seconds"])
    assert record["host_clock_offset_seconds"] == pytest.approx(500, abs=2)
    assert json.loads((tmp_path / "trials/0003/trial.json").read_text()) == record
    assert (tmp_path / "trials/0003/server.log").read_text() == "the log"
    assert (tmp_path / "trials/0003/bench-chat-c2.jsonl").read_text() == '{"x": 1}\n'
    assert any("chat/c2: 100 tokens/s out" in line for line in lines)


def test_the_record_is_on_disk_before_the_container_is_stopped(tmp_path):
    host = Host()
    seen = {}
    answer = host.call

    def call(module, args):
        if args.get("state") == "absent":
            seen.update(json.loads((tmp_path / "trials/0003/trial.json").read_text()))
        return answer(module, args)

    host.call = call
    run(tmp_path, host)
    assert seen["status"] == "complete"
    assert seen["objective"]["value"] == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("broken", "error_class", "phase", "calls"),
    [
        ({"hf_model": {"failed": True, "msg": "no space"}}, "module_failed", "model_fetch", 2),
        (
            {"sglang_server_started": {
                "failed": True, "msg": "m", "log": "why",
                "error": {"class": "bad_flag", "message": "unrecognized", "phase": "engine_start", "exit_code": 2}}},
            "bad_flag", "engine_start", 3,
        ),
        ({"sglang_benchmark": {"failed": True, "msg": "timed out"}}, "module_failed", "benchmark", 4),
    ],
)  # fmt: skip
def test_a_failure_is_recorded_and_the_container_is_stopped(tmp_path, broken, error_class, phase, calls):
    host = Host(**broken)
    record, _lines = run(tmp_path, host)
    assert record["status"] == "failed"
    assert (record["error"]["class"], record["error"]["phase"]) == (error_class, phase)
    assert record["eligible"] is False
    assert len(host.calls) == calls
    assert host.calls[-1][1]["state"] == "absent"
    assert trial.verdict(record).startswith(f"failed in {phase}: {error_class}: ")


def test_a_launch_is_watched_in_slices_and_every_phase_is_said_once(tmp_path):
    host = Host()
    answers = [["engine_start"], ["engine_start"], ["engine_start", "weights_load"]]
    answer = host.call

    def call(module, args):
        result = answer(module, args)
        if args.get("state") == "started" and answers:
            names = answers.pop(0)
            first = [{"name": "image_pull", "start": host.now - 10, "seconds": 1.0}] if len(answers) == 2 else []
            phases = [{"name": name, "start": host.now - 5, "seconds": 1.0} for name in names]
            cache = {"resident_fraction_before": 0.1, "weights_rung": "disk"} if first else {}
            return {**result, "ready": False, "phases": first + phases, "cache": cache}
        if args.get("state") == "started":
            return {**result, "cache": {"jit": {"state": "warm"}, "disk_read_bytes": 3}}
        return result

    host.call = call
    record, lines = run(tmp_path, host)
    assert [line for line in lines if line in ("engine_start", "weights_load")] == ["engine_start", "weights_load"]
    cache = record["cache"]
    assert (cache["resident_fraction_before"], cache["weights_rung"]) == (0.1, "disk")
    assert (cache["jit"], cache["disk_read_bytes"]) == ({"state": "warm"}, 3)
    assert record["phases"][1]["name"] == "image_pull"


def test_weights_are_brought_into_ram_before_the_launch(tmp_path):
    host = Host()
    record, _lines = run(tmp_path, host, preload=True, preload_budget_bytes=9)
    assert host.calls[1] == ("page_cache", {"path": "/c/s", "budget_bytes": 9})
    assert record["phases"][1] == {"name": "weights_preload", "start": 10.0, "seconds": 10.0, "bytes": 5}
    host = Host(page_cache={"failed": True, "msg": "disk on fire"})
    record, _lines = run(tmp_path, host, preload=True)
    assert (record["error"]["phase"], record["error"]["message"]) == ("weights_preload", "page_cache: disk on fire")


def test_a_fetch_makes_the_hub_the_rung(tmp_path):
    record, _lines = run(tmp_path, Host(hf_model={"snapshot_path": "/c/s", "bytes_fetched": 7}))
    assert record["cache"]["weights_rung"] == "hub"
    assert record["cache"]["hub_bytes"] == 7


def test_the_token_goes_to_the_download_only(tmp_path):
    host = Host()
    run(tmp_path, host)
    assert [module for module, args in host.calls if "hf_secret" in json.dumps(args)] == ["hf_model"]
    assert not any(b"hf_secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
