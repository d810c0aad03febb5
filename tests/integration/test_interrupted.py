"""A controller that is killed loses nothing. The light engine stands in, as many launches are needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import yaml
from lab_fleet import HOSTS, ROOT

LAB_SWEEP = yaml.safe_load((ROOT / "tests/lab/sweep.yml").read_text())
TRIALS = 8


def test_a_killed_controller_and_a_rerun(fleet, tmp_path):
    sweep = {
        **LAB_SWEEP,
        "sweep_name": "interrupted",
        "sweep_image": "preheat-lab/light-engine:latest",
        "sweep_results_dir": str(tmp_path),
        "sweep_server": {**LAB_SWEEP["sweep_server"], "space": {"max_running_requests": list(range(1, TRIALS + 1))}},
        "sweep_search": {"baseline": False},
        "sweep_workloads": [{"name": "w", "input_tokens": 8, "output_tokens": 4, "concurrency": [2], "num_prompts": 4}],
    }
    file = tmp_path / "sweep.yml"
    file.write_text(yaml.safe_dump(sweep))
    args = ["tune.yml", "-i", "tests/lab/inventory", "-e", f"@{file}"]
    records = tmp_path / "interrupted" / "trials"

    with open(tmp_path / "killed.log", "w") as log:
        killed = subprocess.Popen(["ansible-playbook", *args], cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 300
        while len(list(records.glob("*/trial.json"))) < 2:
            assert killed.poll() is None, (tmp_path / "killed.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "killed.log").read_text()
            time.sleep(0.2)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    finished = {path: path.read_text() for path in records.glob("*/trial.json")}
    assert len(finished) < TRIALS

    output = fleet.playbook(*args[:1], *args[3:])
    found = [json.loads(path.read_text()) for path in sorted(records.glob("*/trial.json"))]
    assert [record["number"] for record in found] == list(range(TRIALS))
    assert {record["status"] for record in found} == {"complete"}
    assert [path for path, text in finished.items() if path.read_text() != text] == [], output
    for host in HOSTS:
        assert fleet.containers(host) == []
