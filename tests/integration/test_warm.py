"""warm.yml and verify.yml on the lab: a cold fleet, a warm one, and one with damaged files."""

from __future__ import annotations

import json
import re

import pytest
from lab_fleet import HOSTS, ROOT

REPO = "preheat-lab/small-qwen2"
CACHE = "/root/.cache/preheat-test-warm/hub"
ARGS = ["-e", json.dumps({"model_cache_models": [{"repo_id": REPO}], "model_cache_dir": CACHE})]
BLOBS = f"{CACHE}/models--{REPO.replace('/', '--')}/blobs"
BIGGEST = f"{BLOBS}/$(ls -S {BLOBS} | head -1)"


@pytest.fixture(scope="module", autouse=True)
def cold(fleet, hub):
    def forget():
        for host in HOSTS:
            fleet.run(host, "rm -rf /root/.cache/preheat-test-warm")

    forget()
    hub.post("reset")
    yield
    forget()


def changes(output):
    """{host: how many tasks changed something}."""
    return {host: int(count) for host, count in re.findall(r"^(gpu\d) +: ok=\d+ +changed=(\d+)", output, re.M)}


def weights_bytes():
    return sum(path.stat().st_size for path in (ROOT / ".lab/models" / REPO).glob("*.safetensors"))


def test_check_mode_says_what_would_be_fetched_and_touches_nothing(fleet, hub):
    output = fleet.playbook("warm.yml", *ARGS, "--check")
    assert "would fetch 0.048 GB" in output
    assert hub.stats()["sides"]["cdn"]["bytes"] == 0
    for host in HOSTS:
        assert fleet.run(host, f"ls {CACHE} 2>/dev/null || true") == ""


def test_a_cold_fleet_reads_the_model_once_per_host(fleet, hub):
    output = fleet.playbook("warm.yml", *ARGS)
    assert output.count("fetched 0.048 GB") == len(HOSTS)
    assert hub.stats()["sides"]["cdn"]["bytes"] == len(HOSTS) * weights_bytes()


def test_a_warm_fleet_reads_nothing(fleet, hub):
    hub.post("reset")
    output = fleet.playbook("warm.yml", *ARGS)
    assert changes(output) == dict.fromkeys(HOSTS, 0)
    assert hub.stats()["sides"]["cdn"]["bytes"] == 0


def test_weights_are_brought_into_ram_once(fleet, hub):
    for host in HOSTS:
        fleet.run(host, f"for blob in {BLOBS}/*; do dd if=$blob iflag=nocache count=0 status=none; done")
    preload = [*ARGS, "-e", "model_cache_preload=true"]
    assert fleet.playbook("warm.yml", *preload, "--check").count("would read 0.048 GB") == len(HOSTS)
    output = fleet.playbook("warm.yml", *preload)
    assert output.count("100 % of 0.048 GB of weights are in RAM (0 % before), read 0.048 GB") == len(HOSTS)
    output = fleet.playbook("warm.yml", *preload)
    assert output.count("(100 % before), read 0.000 GB") == len(HOSTS)
    assert changes(output) == dict.fromkeys(HOSTS, 0)


def test_warm_finds_a_truncated_blob(fleet, hub):
    fleet.run("gpu1", f"truncate -s 1000 {BIGGEST}")
    output = fleet.playbook("warm.yml", *ARGS)
    assert changes(output) == {"gpu1": 1, "gpu2": 0}
    assert "damaged: " in output


def test_verify_finds_and_repairs_wrong_bytes(fleet, hub):
    fleet.run("gpu2", f"printf damage | dd of={BIGGEST} bs=1 seek=5000 conv=notrunc 2>/dev/null")
    assert changes(fleet.playbook("warm.yml", *ARGS)) == dict.fromkeys(HOSTS, 0)  # by size nothing is seen
    output = fleet.playbook("verify.yml", *ARGS)
    assert changes(output) == {"gpu1": 0, "gpu2": 1}
    assert changes(fleet.playbook("verify.yml", *ARGS)) == dict.fromkeys(HOSTS, 0)
    hashed = f"cd {BLOBS} && ls | grep -E '^[0-9a-f]{{64}}$' | sed 's/.*/&  &/' | sha256sum --quiet -c 2>&1"
    for host in HOSTS:
        assert fleet.run(host, hashed) == ""
