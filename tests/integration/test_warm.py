"""warm.yml, verify.yml and prune.yml on the lab: a cold fleet, a warm one, damaged files, a budget, who uses what."""

from __future__ import annotations

import json
import re

import pytest
from lab_fleet import HOSTS, ROOT

REPO, OTHER = "preheat-lab/small-qwen2", "preheat-lab/tiny-llama"
CACHE = "/root/.cache/preheat-test-warm/hub"
JIT = "/root/.cache/preheat-test-warm/jit"
ARGS = ["-e", json.dumps({"model_cache_models": [{"repo_id": REPO}], "model_cache_dir": CACHE})]
BLOBS = f"{CACHE}/models--{REPO.replace('/', '--')}/blobs"
BIGGEST = f"{BLOBS}/$(ls -S {BLOBS} | head -1)"


@pytest.fixture(scope="module", autouse=True)
def cold(fleet, hub):
    def forget():
        for host in HOSTS:
            fleet.run(host, "docker rm -f test-server test-stranger 2>/dev/null; rm -rf /root/.cache/preheat-test-warm")

    forget()
    hub.post("reset")
    yield
    forget()


@pytest.fixture
def play(fleet, tmp_path):
    """Runs a playbook; returns what it printed and its report by host (None if there is none)."""

    def run(name, *args, expect=0):
        file = tmp_path / "report.json"
        output = fleet.playbook(name, *ARGS, "-e", f"model_cache_report_file={file}", *args, expect=expect)
        if not file.exists():
            return output, None
        rows = json.loads(file.read_text())["rows"]
        file.unlink()
        return output, {row["host"]: row for row in rows}

    return run


def changes(output):
    """{host: how many tasks changed something}."""
    return {host: int(count) for host, count in re.findall(r"^(gpu\d) +: ok=\d+ +changed=(\d+)", output, re.M)}


def flat(output):
    """Without the lines into which long texts are broken."""
    return " ".join(output.split())


def states(report):
    return {host: row["state"] for host, row in report.items()}


def weights_bytes():
    return sum(path.stat().st_size for path in (ROOT / ".lab/models" / REPO).glob("*.safetensors"))


def facts(fleet, host):
    return json.loads(fleet.run(host, "cat /etc/ansible/facts.d/preheat.fact"))


def test_check_mode_says_what_would_be_fetched_and_touches_nothing(fleet, hub, play):
    output, report = play("warm.yml", "--check")
    assert output.count("to fetch 47.8 MB") == len(HOSTS)
    assert report is None
    assert hub.stats()["sides"]["cdn"]["bytes"] == 0
    for host in HOSTS:
        assert fleet.run(host, f"ls {CACHE} 2>/dev/null || true") == ""


def test_one_host_that_fails_harms_no_other_and_is_named(fleet, hub, play):
    full = {"model_cache_min_free_bytes": "{{ 10 ** 15 if inventory_hostname == 'gpu2' else 0 }}"}
    output, report = play("warm.yml", "-e", json.dumps(full), expect=2)
    assert states(report) == {"gpu1": "fetched", "gpu2": "failed"}
    assert report["gpu2"]["error"]["reason"] == "no_space"
    assert "model_cache_dir" in report["gpu2"]["error"]["remedy"]
    assert "--limit gpu2" in output
    assert "failed (no_space)" in output
    assert hub.stats()["sides"]["cdn"]["bytes"] == weights_bytes()

    _output, report = play("warm.yml", "--limit", "gpu2")
    assert states(report) == {"gpu2": "fetched"}
    assert hub.stats()["sides"]["cdn"]["bytes"] == len(HOSTS) * weights_bytes()
    assert report["gpu2"]["bytes_from_hub"] == report["gpu2"]["bytes_total"]
    assert report["gpu2"]["verified"] == "hash"


@pytest.mark.parametrize("batches", [(), ("-e", "preheat_serial=1")], ids=["together", "one after the other"])
def test_a_warm_fleet_reads_nothing_and_says_so_in_its_facts(fleet, hub, play, batches):
    hub.post("reset")
    output, report = play("warm.yml", *batches)
    assert changes(output) == dict.fromkeys(HOSTS, 0)
    assert states(report) == dict.fromkeys(HOSTS, "complete")
    assert hub.stats()["sides"]["cdn"]["bytes"] == 0
    for host in HOSTS:
        noted = facts(fleet, host)
        (model,) = noted["warm"]["models"]
        assert (model["repo_id"], model["commit"], model["source"]) == (REPO, report[host]["commit"], "cache")
        assert [repo["repo_id"] for repo in noted["cache"]["repos"]] == [REPO]


def test_warm_finds_a_truncated_blob(fleet, play):
    fleet.run("gpu1", f"truncate -s 1000 {BIGGEST}")
    _output, report = play("warm.yml")
    assert states(report) == {"gpu1": "repaired", "gpu2": "complete"}


@pytest.mark.parametrize("source", ["hub", "swarm"])
def test_verify_finds_and_repairs_wrong_bytes_and_lost_links(fleet, hub, play, source):
    fleet.run("gpu2", f"printf damage | dd of={BIGGEST} bs=1 seek=5000 conv=notrunc 2>/dev/null")
    fleet.run("gpu1", f"rm {CACHE}/models--*/snapshots/*/config.json")
    args = ["-e", f"model_cache_source={source}"]
    output, report = play("verify.yml", *args, "--check")
    assert "damaged" in output
    _output, report = play("verify.yml", *args)
    assert states(report) == {"gpu1": "linked", "gpu2": "repaired"}
    assert len(report["gpu2"]["repaired"]) == 1
    hashed = f"cd {BLOBS} && ls | grep -E '^[0-9a-f]{{64}}$' | sed 's/.*/&  &/' | sha256sum --quiet -c 2>&1"
    for host in HOSTS:
        assert fleet.run(host, hashed) == ""
    if source == "hub":
        assert changes(play("verify.yml", *args)[0]) == dict.fromkeys(HOSTS, 0)
    else:  # by size nothing was to be seen, and the other host had the file
        assert report["gpu2"]["bytes_from_hub"] == 0


OLD = "find {} -type f -exec touch -d '{} days ago' {{}} +"
ROOM = ["-e", json.dumps({"model_cache_keep_used_within_seconds": 7200, "model_cache_min_free_bytes": 0})]


def models(fleet, host):
    return sorted(
        name.removeprefix("models--").replace("--", "/")
        for name in fleet.run(host, f"ls {CACHE}").split()
        if name.startswith("models--")
    )


def test_a_budget_that_cannot_hold_stops_the_download_and_frees_nothing(fleet, play):
    other = ["-e", json.dumps({"model_cache_models": [{"repo_id": OTHER}]})]
    output, report = play("warm.yml", *other, *ROOM, "-e", "model_cache_budget_bytes=46MB", expect=2)
    assert states(report) == dict.fromkeys(HOSTS, "failed")
    assert f"{REPO}@" in report["gpu1"]["error"]["message"]
    assert "used lately" in output
    assert "Raise the budget" in output
    assert models(fleet, "gpu1") == [REPO]


def test_a_server_and_a_stranger_keep_what_they_use(fleet, play):
    """gpu1 serves the other model, gpu2 has a container of somebody else that mounts the cache."""
    for host in HOSTS:
        fleet.run(host, OLD.format(CACHE, 30))
    serve = {
        "preheat_hosts": "gpu1",
        "model_cache_dir": CACHE,
        "model_cache_report_file": "",
        "sglang_server_image": "preheat-lab/light-engine:latest",
        "sglang_server_shm_size": "64m",
        "sglang_server_repo_id": OTHER,
        "sglang_server_name": "test-server",
        "sglang_server_port": 0,
        "sglang_server_jit_cache_dir": JIT,
        "sglang_server_environment": {"LIGHT_ENGINE_START_SECONDS": "0.4"},
    }
    fleet.playbook("serve.yml", "-e", json.dumps(serve))
    (launch, *_rest) = facts(fleet, "gpu1")["launches"]
    assert (launch["container"], launch["repo_id"], launch["ready"]) == ("test-server", OTHER, True)
    assert launch["phases"]["engine_start"] > 0
    image = "preheat-lab/light-engine:latest"
    fleet.run("gpu2", f"docker run -d --name test-stranger --entrypoint sleep -v {CACHE}:/models {image} 600")

    # The playbook must need neither of the models.
    tiny = ["-e", json.dumps({"model_cache_models": []}), "-e", "model_cache_budget_bytes=100KB", *ROOM]
    for host in HOSTS:
        fleet.run(host, OLD.format(CACHE, 30))
    output, _report = play("prune.yml", *tiny, "--check")
    assert f"would free revision {REPO}@" in output
    assert re.search(rf"keeps revision {OTHER}@[^']*used by container test-server", flat(output))
    assert "test-stranger" in output
    assert (models(fleet, "gpu1"), models(fleet, "gpu2")) == ([REPO, OTHER], [REPO])

    output, _report = play("prune.yml", *tiny)
    assert changes(output) == {"gpu1": 1, "gpu2": 0}
    assert (models(fleet, "gpu1"), models(fleet, "gpu2")) == ([OTHER], [REPO])
    assert [repo["repo_id"] for repo in facts(fleet, "gpu1")["cache"]["repos"]] == [OTHER]

    # Its removal is a use: what was old is new, and stays.
    fleet.playbook("teardown.yml", "-e", json.dumps({"preheat_hosts": "gpu1"}))
    assert "used lately" in flat(play("prune.yml", *tiny, "--limit", "gpu1")[0])


def test_warm_evicts_what_the_budget_has_no_room_for(fleet, play):
    fleet.run("gpu2", "docker rm -f test-stranger")
    for host in HOSTS:
        fleet.run(host, OLD.format(CACHE, 30))
    other = ["-e", json.dumps({"model_cache_models": [{"repo_id": OTHER}]})]
    output, report = play("warm.yml", *other, *ROOM, "-e", "model_cache_budget_bytes=46MB")
    assert report["gpu2"]["state"] == "fetched"
    assert f"freed revision {REPO}@" in output
    assert (models(fleet, "gpu1"), models(fleet, "gpu2")) == ([OTHER], [OTHER])
