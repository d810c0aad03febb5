"""Tokens and passwords show nowhere: in no process of a run, in nothing that it leaves. (A sweep: test_tune.py.)"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import threading
import time

import pytest
import yaml
from lab_fleet import HOSTS
from lab_registry import Registry, tunnels
from secret_scan import Watch, forms, left_here, left_on

REPO = "preheat-lab/small-qwen2"
TOKEN = "hf_AnotherLabTokenThatMustNeverShow"
PASSWORD = "RegistryPasswordThatMustNeverShow"
HTPASSWD = "someone:$2b$04$0JKiyWwYIdyyOjySwXwhzurV.opG.LHQRKuEGBVrrAVLtUGRSTj0y\n"  # PASSWORD
SECRETS = [TOKEN, PASSWORD]
CACHE = "/root/.cache/preheat-test-secrets/hub"
IN_THE_BACKGROUND = """
- hosts: gpu1
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: preheat.fleet.gpu_host}
    - preheat.fleet.hf_model:
        repo_id: "{{ model_cache_models.0.repo_id }}"
        cache_dir: "{{ model_cache_dir }}"
        endpoint: "{{ model_cache_endpoint }}"
        token: "{{ model_cache_token }}"
        progress_bytes: 1
      vars:
        ansible_python_interpreter: "{{ gpu_host_venv }}/bin/python"
"""


@pytest.fixture(autouse=True)
def gated(fleet, hub):
    def forget():
        for host in HOSTS:
            images = "docker images --format '{{.ID}} {{.Repository}}' | awk '/preheat-test.secret/ {print $1}'"
            remove = f"{images} | sort -u | xargs -r docker rmi -f"
            fleet.run(host, f"rm -rf /root/.cache/preheat-test-secrets /opt/preheat/images; {remove}")

    forget()
    hub.post("reset")
    hub.post("access", repo=REPO, tokens=[TOKEN])
    yield
    hub.post("limit", mb_per_second=None)
    hub.post("reset")
    forget()


@pytest.fixture
def given(tmp_path):
    """-e arguments: the variables, and the secrets in a file apart, as in a vault."""

    def write(**variables):
        file = tmp_path / "secrets" / "given.yml"
        file.parent.mkdir(exist_ok=True)
        models = {"model_cache_models": [{"repo_id": REPO}], "model_cache_dir": CACHE, "model_cache_token": TOKEN}
        report = {"model_cache_report_file": str(tmp_path / "left" / "warm.json")}
        file.write_text(yaml.safe_dump({**models, **report, **variables}))
        return ["-e", f"@{file}", "-vvv"]

    (tmp_path / "left").mkdir()
    return write


def shown(fleet, tmp_path, output, watch):
    """All places where a secret shows."""
    on_hosts = [f"{host}: {file}" for host in HOSTS for file in left_on(fleet, host, SECRETS)]
    in_output = [form for secret in SECRETS for form in forms(secret) if form in output]
    return [*watch.seen, *on_hosts, *left_here(SECRETS, tmp_path / "left"), *in_output]


@pytest.mark.parametrize("source", ["hub", "swarm"])
def test_a_model_and_an_image_that_want_a_login(fleet, given, tmp_path, source):
    (tmp_path / "registry").mkdir()
    registry = Registry(tmp_path / "registry", HTPASSWD, ("someone", PASSWORD))
    with contextlib.closing(registry), tunnels(registry.relay.port):
        registry.push("preheat-test/secret", "1")
        arguments = given(
            engine_image_name=f"127.0.0.1:{registry.relay.port}/preheat-test/secret:1",
            engine_image_source="registry" if source == "hub" else source,
            engine_image_registry_username="someone",
            engine_image_registry_password=PASSWORD,
            model_cache_source=source,
        )
        with Watch(SECRETS) as watch:
            output = fleet.playbook("warm.yml", *arguments)
    assert json.loads((tmp_path / "left" / "warm.json").read_text())["rows"][0]["state"] == "fetched"
    assert any("ansible-playbook" in words for words in watch.looked_at)
    assert shown(fleet, tmp_path, output, watch) == []


def test_a_download_in_the_background(fleet, hub, given, tmp_path):
    """While it goes on, its arguments lie on the host's disk; the token is not among them."""
    (tmp_path / "play.yml").write_text(IN_THE_BACKGROUND)
    outputs, play = [], [str(tmp_path / "play.yml"), *given()]
    hub.post("limit", mb_per_second=8)
    with Watch(SECRETS) as watch:
        running = threading.Thread(target=lambda: outputs.append(fleet.playbook(*play)))
        running.start()
        end = time.monotonic() + 120
        while hub.model_bytes("gpu1", REPO) < 1e6 and running.is_alive() and time.monotonic() < end:
            time.sleep(0.1)
        assert "AnsiballZ_hf_model" in fleet.run("gpu1", "ls /root/.ansible/tmp/*")
        assert left_on(fleet, "gpu1", SECRETS) == []
        assert running.is_alive(), "it was to be looked at while the download goes on"
        hub.post("limit", mb_per_second=None)
        running.join()
    assert "failed=0" in outputs[0]
    assert shown(fleet, tmp_path, outputs[0], watch) == []


def test_the_scan_finds_what_is_there(fleet, tmp_path):
    coded = base64.b64encode(b'{"auth": "' + PASSWORD.encode() + b'"}').decode()
    planted = [f"/root/.cache/preheat-test-secrets-{number}" for number in range(2)]
    try:
        for path, content in zip(planted, (f"token {TOKEN}", coded), strict=True):
            fleet.run("gpu1", f"echo '{content}' >{path}")
        assert left_on(fleet, "gpu1", SECRETS) == planted
    finally:
        fleet.run("gpu1", "rm -f " + " ".join(planted))
    (tmp_path / "log").write_text(coded)
    assert left_here(SECRETS, tmp_path) == [tmp_path / "log"]
    sleep = [sys.executable, "-c", "import time; time.sleep(0.5)"]
    with Watch(SECRETS) as watch:
        subprocess.run([*sleep, TOKEN], check=True)
        subprocess.run(sleep, env={"PASSWORD": PASSWORD}, check=True)
    assert sorted(found.split()[0] for found in watch.seen) == ["cmdline", "environ"]
