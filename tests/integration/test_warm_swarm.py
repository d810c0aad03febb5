"""warm.yml with model_cache_source: swarm on the lab: one read of the Hub, a host without libtorrent, no Hub at all."""

from __future__ import annotations

import json

import pytest
from lab_fleet import HOSTS, ROOT

REPO = "preheat-lab/small-qwen2"
CACHE = "/root/.cache/preheat-test-swarm/hub"
FOLDER = f"{CACHE}/models--{REPO.replace('/', '--')}"
ARGS = {"model_cache_models": [{"repo_id": REPO}], "model_cache_dir": CACHE, "model_cache_source": "swarm"}
# A Python that cannot import libtorrent.
PYTHON = "/root/.cache/preheat-test-swarm-python"


@pytest.fixture(scope="module", autouse=True)
def cold(fleet):
    def forget():
        for host in HOSTS:
            fleet.run(host, f"rm -rf {CACHE} {PYTHON}*")

    forget()
    yield
    forget()


@pytest.fixture
def warm(fleet, hub):
    def run(**more):
        hub.post("reset")
        return fleet.playbook("warm.yml", "-e", json.dumps({**ARGS, **more}))

    return run


def weights_bytes():
    return sum(path.stat().st_size for path in (ROOT / ".lab/models" / REPO).glob("*.safetensors"))


def wrong_blobs(fleet, host):
    names = f"cd {FOLDER}/blobs && ls | grep -E '^[0-9a-f]{{64}}$'"
    return fleet.run(host, f"{names} | sed 's/.*/&  &/' | sha256sum -c --quiet")


def forget_on(fleet, host):
    fleet.run(host, f"rm -rf {CACHE}")


def test_two_cold_hosts_read_the_hub_once(fleet, hub, warm):
    warm()
    assert hub.stats()["sides"]["cdn"]["bytes"] == weights_bytes()
    assert not any(wrong_blobs(fleet, host) for host in HOSTS)


def test_a_host_without_libtorrent_takes_whole_files(fleet, hub, warm):
    forget_on(fleet, "gpu2")
    fleet.run("gpu2", f"mkdir -p {PYTHON}.d && echo 'raise ImportError(\"hidden\")' > {PYTHON}.d/libtorrent.py")
    script = f'#!/bin/sh\nPYTHONPATH={PYTHON}.d exec /opt/preheat/venv/bin/python "$@"\n'
    fleet.run("gpu2", f"printf '%s' '{script}' > {PYTHON} && chmod +x {PYTHON}")
    python = f"{{{{ '{PYTHON}' if inventory_hostname == 'gpu2' else '/opt/preheat/venv/bin/python' }}}}"
    output = " ".join(warm(model_cache_python=python).split())
    assert f"gpu2 {REPO}: whole files over HTTPS: no libtorrent here (hidden)" in output
    assert hub.stats()["sides"]["cdn"]["bytes"] == 0
    assert wrong_blobs(fleet, "gpu2") == ""


def test_without_the_hub_hosts_warm_each_other(fleet, hub, warm):
    forget_on(fleet, "gpu1")
    output = warm(model_cache_endpoint="http://127.0.0.1:9", model_cache_retries=0, model_cache_source="https")
    assert "was recorded on gpu2 earlier" in " ".join(output.split())
    assert hub.stats()["sides"]["cdn"]["bytes"] == 0
    assert wrong_blobs(fleet, "gpu1") == ""
