"""Several servers side by side, and a host that fails. The light engine stands in, as many launches are needed."""

from __future__ import annotations

import json

import pytest
import yaml
from lab_fleet import HOSTS, ROOT

LAB_SWEEP = yaml.safe_load((ROOT / "tests/lab/sweep.yml").read_text())
TRIALS = 8
# No folder can be made below a file.
BROKEN_DIR = "/root/preheat-test-not-a-folder"


@pytest.fixture
def sweep_file(tmp_path):
    sweep = {
        **LAB_SWEEP,
        "sweep_name": "fleet",
        "sweep_image": "preheat-lab/light-engine:latest",
        "sweep_results_dir": str(tmp_path),
        "sweep_server": {**LAB_SWEEP["sweep_server"], "space": {"max_running_requests": list(range(1, TRIALS + 1))}},
        "sweep_search": {"baseline": False},
        "sweep_workloads": [{"name": "w", "input_tokens": 8, "output_tokens": 4, "concurrency": [2], "num_prompts": 4}],
        "sweep_cpu_slots_per_host": 2,
    }
    file = tmp_path / "sweep.yml"
    file.write_text(yaml.safe_dump(sweep))
    return file


@pytest.fixture
def broken_host(fleet, tmp_path):
    """An inventory in which gpu2 passes every check and cannot launch anything."""
    fleet.run("gpu2", f"touch {BROKEN_DIR}")
    extra = tmp_path / "broken.yml"
    variables = {"sglang_server_jit_cache_dir": f"{BROKEN_DIR}/jit"}
    extra.write_text(yaml.safe_dump({"gpu_hosts": {"hosts": {"gpu2": variables}}}))
    yield str(extra)
    fleet.run("gpu2", f"rm -f {BROKEN_DIR}")


def test_too_few_forks_are_an_error_before_anything_is_launched(fleet, sweep_file, tmp_path):
    output = fleet.playbook("tune.yml", "--forks", "3", "-e", f"@{sweep_file}", expect=2)
    assert "forks = 3: are too few for 4 slots. Run with --forks 4" in " ".join(output.split())
    assert not (tmp_path / "fleet").exists()


def test_a_host_that_fails_is_set_aside_and_the_other_runs_its_trials(fleet, sweep_file, broken_host, tmp_path):
    output = fleet.playbook("tune.yml", "-i", broken_host, "-e", f"@{sweep_file}")
    files = sorted(tmp_path.glob("fleet/trials/*/trial.json"))
    found = [json.loads(file.read_text()) for file in files]
    assert [(record["number"], record["status"]) for record in found] == [(n, "complete") for n in range(TRIALS)], (
        output
    )
    assert {record["slot"]["name"] for record in found} == {"gpu1/0", "gpu1/1"}, "both slots of the good host"
    again = [record["number"] for record in found if record["attempt"] > 1]
    assert len(again) >= 3, output
    failed = {
        int(file.parent.name): json.loads(file.read_text()) for file in tmp_path.glob("fleet/trials/*/trial-*.json")
    }
    assert sorted(failed) == again
    assert {record["slot"]["members"][0]["host"] for record in failed.values()} == {"gpu2"}
    assert "host gpu2 was set aside: failures in a row there" in output
    assert [one["host"] for one in json.loads((tmp_path / "fleet/report.json").read_text())["set_aside"]] == ["gpu2"]
    for host in HOSTS:
        assert fleet.containers(host) == []
