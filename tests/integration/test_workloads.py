"""Workloads on a running server: the light engine bears so much, so the largest load is known."""

from __future__ import annotations

import json

import pytest
import yaml
from lab_fleet import ROOT

LAB_SWEEP = yaml.safe_load((ROOT / "tests/lab/sweep.yml").read_text())
# The light engine's TPOT at a concurrency c is a multiple of 1 + 0.03 (c - 1), within a few percent of this.
TPOT_OF_ONE = 0.01125


@pytest.fixture(scope="module")
def sweep(fleet, tmp_path_factory):
    """Two launches that look for the largest concurrency, with a dataset file of the controller."""
    folder = tmp_path_factory.mktemp("workloads")
    dataset = folder / "conversations.json"
    dataset.write_text(json.dumps([{"conversations": [{"value": "a b"}, {"value": "c d"}]}] * 40))
    sweep = {
        **LAB_SWEEP,
        "sweep_name": "largest",
        "sweep_image": "preheat-lab/light-engine:latest",
        "sweep_results_dir": str(folder),
        "sweep_server": {
            "base": {"device": "cpu", "chunked_prefill_size": 8192},
            "space": {"disable_overlap_schedule": [False, True]},
            "environment": {"LIGHT_ENGINE_BENCH_SECONDS": "0.01"},
        },
        "sweep_workloads": [
            {
                "name": "chat",
                "input_tokens": 64,
                "output_tokens": 32,
                "dataset": "random",
                "dataset_file": str(dataset),
                "find_max": {"over": "concurrency", "low": 16, "high": 64, "tolerance": 0.5},
            }
        ],
        "sweep_objective": {"metric": "max_concurrency"},
        "sweep_slo": {"tpot_mean_seconds": {"max": 2 * TPOT_OF_ONE, "hard": True}},
    }
    file = folder / "sweep.yml"
    file.write_text(yaml.safe_dump(sweep))
    output = fleet.playbook("tune.yml", "-e", f"@{file}")
    records = [json.loads(path.read_text()) for path in sorted((folder / "largest/trials").glob("*/trial.json"))]
    return folder / "largest", records, output


def test_the_largest_load_is_found_on_the_running_server(sweep):
    _folder, records, output = sweep
    assert {record["status"] for record in records} == {"complete"}, output
    for record in records:
        (workload,) = record["workloads"]
        found = workload["found"]
        tpot = TPOT_OF_ONE * (1.1 if record["params"].get("disable_overlap_schedule") else 1)
        largest = (2 * TPOT_OF_ONE / tpot - 1) / 0.03 + 1
        assert 0.6 * largest <= found["value"] <= 1.1 * largest
        assert (found["limit"], found["confirmed"]) == ("slo", True)
        assert workload["metrics"]["max_concurrency"] == record["objective"]["value"] == found["value"]


def test_every_probe_is_a_phase_and_has_its_requests(sweep):
    folder, records, output = sweep
    for record in records:
        probes = record["workloads"][0]["found"]["probes"]
        labels = [phase["label"] for phase in record["phases"] if phase["name"] == "benchmark"]
        assert labels == [probe["point"] for probe in probes]
        starts = [phase["start"] for phase in record["phases"] if phase["name"] == "benchmark"]
        assert starts == sorted(starts)
        for probe in probes:
            raw = json.loads((folder / f"trials/{record['number']:04d}" / probe["raw_file"]).read_text())
            assert len(raw["ttfts"]) == len(raw["itl_sums"]) == probe["num_prompts"]
    assert "chat/max:c32 misses tpot_mean_seconds" in output


def test_the_dataset_reached_the_hosts(sweep, fleet):
    folder, records, _output = sweep
    (sha,) = {workload["dataset_sha256"] for workload in json.loads((folder / "sweep.json").read_text())["workloads"]}
    for host in {record["slot"]["members"][0]["host"] for record in records}:
        assert sha in fleet.run(host, f"sha256sum /opt/preheat/datasets/{sha}")
