"""A sweep whose weights are brought into RAM before each launch, and that asks for a daemon where there is no GPU."""

from __future__ import annotations

import json

import yaml
from lab_fleet import HOSTS, ROOT

LAB_SWEEP = yaml.safe_load((ROOT / "tests/lab/sweep.yml").read_text())
FOLDER = "/root/.cache/preheat-test-rungs"


def test_every_launch_says_what_it_found_and_took(fleet, tmp_path):
    sweep = {
        **LAB_SWEEP,
        "sweep_name": "rungs",
        "sweep_image": "preheat-lab/light-engine:latest",
        "sweep_results_dir": str(tmp_path),
        "sweep_server": {**LAB_SWEEP["sweep_server"], "space": {"max_running_requests": [4, 8, 16]}},
        "sweep_workloads": [{"name": "w", "input_tokens": 8, "output_tokens": 4, "concurrency": [2], "num_prompts": 4}],
        "sweep_search": {"baseline": False},
        "model_cache_dir": f"{FOLDER}/hub",
        "model_cache_preload": True,
        "sglang_server_jit_cache_dir": f"{FOLDER}/jit",
        "sglang_server_weight_cache": True,
    }
    file = tmp_path / "sweep.yml"
    file.write_text(yaml.safe_dump(sweep))
    try:
        output = fleet.playbook("tune.yml", "-e", f"@{file}")
    finally:
        for host in HOSTS:
            fleet.run(host, f"rm -rf {FOLDER}")
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("rungs/trials/*/trial.json"))]
    assert [record["status"] for record in records] == ["complete"] * 3, output
    for record in records:
        assert "weights_preload" in [phase["name"] for phase in record["phases"]]
        cache = record["cache"]
        assert cache["weights_rung"] == "page_cache"
        # What was read just before the launch is there; later the kernel may take back as much as it likes.
        assert cache["resident_fraction_before"] > 0.99
        assert 0.0 < cache["resident_fraction_after"] <= 1.0
        assert cache["disk_read_bytes"] >= 0
        # Nothing is compiled on a CPU.
        assert (cache["jit"]["state"], cache["jit"]["files_added"]) == ("cold", 0)
        assert cache["weight_cache"]["used"] is False
        assert "no GPU" in cache["weight_cache"]["reason"]
    assert [name for host in HOSTS for name in fleet.containers(host) if "rungs" in name] == []
