"""warm.yml where there is no Hub: one host has the model in a tarball, the others get it from that host."""

from __future__ import annotations

import json

import pytest
from lab_fleet import HOSTS

SEEDED = "gpu1"
REPO = "preheat-lab/small-qwen2"
FOLDER = "/root/.cache/preheat-test-seed"
CACHE, TARBALL = f"{FOLDER}/hub", f"{FOLDER}/seed.tar"
NO_HUB = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def clean(fleet, hub):
    def forget():
        for host in HOSTS:
            fleet.run(host, f"rm -rf {FOLDER}")

    forget()
    hub.post("reset")
    yield
    forget()


def test_a_tarball_on_one_host_serves_a_fleet_without_a_hub(fleet, hub, tmp_path):
    models = {"model_cache_models": [{"repo_id": REPO}], "model_cache_dir": CACHE}
    report = tmp_path / "report.json"
    fleet.playbook("warm.yml", "--limit", SEEDED, "-e", json.dumps({**models, "model_cache_report_file": ""}))
    fleet.run(SEEDED, f"tar -C {CACHE} -cf {TARBALL} models--{REPO.replace('/', '--')} && rm -rf {CACHE}")
    hub.post("reset")
    given = {
        **models,
        "model_cache_report_file": str(report),
        "model_cache_source": "swarm",
        "model_cache_endpoint": NO_HUB,
        "model_cache_retries": 0,
        "model_cache_seed": f"{{{{ '{TARBALL}' if inventory_hostname == '{SEEDED}' else '' }}}}",
    }
    output = fleet.playbook("warm.yml", "-e", json.dumps(given))
    assert "which finds damage" in output  # how far the hashes of the seed can be trusted
    assert hub.stats()["bytes"] == 0
    for host in HOSTS:
        listing = f"{CACHE}/models--{REPO.replace('/', '--')}/trees/*.json"
        assert '"origin": "seed"' in fleet.run(host, f"cat {listing}")
    output = fleet.playbook("verify.yml", "-e", json.dumps({**given, "model_cache_source": "hub"}))
    assert "failed=0" in output
    rows = json.loads(report.read_text())["rows"]
    assert {row["host"]: row["state"] for row in rows} == dict.fromkeys(HOSTS, "complete"), rows
