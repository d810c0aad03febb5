"""A search that learns, on the lab: its controller is killed, the rerun goes on with the same points and numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import yaml
from lab_fleet import HOSTS, ROOT

LAB_SWEEP = yaml.safe_load((ROOT / "tests/lab/sweep.yml").read_text())
TRIALS = 9


def test_a_tpe_sweep_whose_controller_is_killed(fleet, tmp_path):
    space = {
        "max_running_requests": {"low": 1, "high": 64, "log": True},
        "schedule_policy": ["fcfs", "lpm"],
        "schedule_conservativeness": {"low": 0.3, "high": 1.3, "when": "schedule_policy == 'lpm'"},
    }
    # The preset's flags, but for one that is given by another engine's name for it.
    base = {**LAB_SWEEP["sweep_server"]["base"], "preset": "latency", "max_num_batched_tokens": 512}
    sweep = {
        **LAB_SWEEP,
        "sweep_name": "searched",
        "sweep_image": "preheat-lab/light-engine:latest",
        "sweep_results_dir": str(tmp_path),
        "sweep_server": LAB_SWEEP["sweep_server"]
        | {"base": base, "space": space, "where": ["max_running_requests > 2"]},
        "sweep_workloads": [{"name": "w", "input_tokens": 8, "output_tokens": 4, "concurrency": [2], "num_prompts": 4}],
        "sweep_search": {"sampler": "tpe", "trials": TRIALS, "startup_trials": 4, "control_every": 20, "repeats": 2,
                         "enqueue": [{"max_running_requests": 8, "schedule_policy": "fcfs"}]},
    }  # fmt: skip
    file = tmp_path / "sweep.yml"
    file.write_text(yaml.safe_dump(sweep, sort_keys=False))  # a condition names what stands before it
    trials = tmp_path / "searched" / "trials"

    with open(tmp_path / "killed.log", "w") as log:
        killed = subprocess.Popen(
            ["ansible-playbook", "tune.yml", "-i", "tests/lab/inventory", "-e", f"@{file}"],
            cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while len(list(trials.glob("*/trial.json"))) < 4:
            assert killed.poll() is None, (tmp_path / "killed.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "killed.log").read_text()
            time.sleep(0.2)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    finished = {path: path.read_text() for path in trials.glob("*/trial.json")}
    begun = {path.parent.name: json.loads(path.read_text()) for path in trials.glob("*/point.json")}
    assert 4 <= len(finished) < TRIALS

    output = fleet.playbook("tune.yml", "-e", f"@{file}")
    records = {path.parent.name: json.loads(path.read_text()) for path in sorted(trials.glob("*/trial.json"))}
    assert [path for path, text in finished.items() if path.read_text() != text] == [], output
    for number, point in begun.items():
        if point["kind"] != "control":
            assert records[number]["params"] == point["params"], "what was under way ran again by its number"
    launched = [r for r in records.values() if r["status"] == "complete" and r["kind"] != "control"]
    assert len(launched) == TRIALS, output
    assert len({json.dumps(r["server_parameters"], sort_keys=True) for r in launched}) == TRIALS
    given = {"chunked_prefill_size": 512, "enable_mixed_chunk": True}
    assert all(given.items() <= r["server_parameters"].items() for r in records.values())
    assert "preset latency: chunked_prefill_size = 2048, enable_mixed_chunk = True" in output
    best = yaml.safe_load((tmp_path / "searched" / "best.yml").read_text())
    assert given.items() <= best["sglang_server_parameters"].items()
    assert "preset" not in best["sglang_server_parameters"]
    assert [r["kind"] for r in launched[:2]] == ["baseline", "enqueued"]
    assert {r["slot"]["members"][0]["host"] for r in records.values() if r["kind"] in ("baseline", "control")} == set(
        HOSTS
    )
    infeasible = [r["error"]["message"] for r in records.values() if r["status"] == "infeasible"]
    assert set(infeasible) <= {"where: max_running_requests > 2"}
    assert all(len(r["objective"]["samples"]) == 2 for r in launched)
    assert all(
        ("schedule_conservativeness" in r["params"]) == (r["params"].get("schedule_policy") == "lpm") for r in launched
    )
    for host in HOSTS:
        assert fleet.containers(host) == []
    assert "launching" not in fleet.playbook("tune.yml", "-e", f"@{file}")
