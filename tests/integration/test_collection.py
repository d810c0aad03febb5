"""The collection as users install it: built, installed elsewhere, and used without the checkout. Needs no lab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("[a-z]*.py"))
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def tarball(tmp_path_factory):
    out = tmp_path_factory.mktemp("built")
    command = [BIN / "ansible-galaxy", "collection", "build", "--output-path", out]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (built,) = out.glob("preheat-fleet-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def ansible(tarball, tmp_path_factory):
    """Run a program of Ansible where only the installed collection can be found."""
    home = tmp_path_factory.mktemp("home")
    path = home / "collections"
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    env |= {"ANSIBLE_HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": str(path), "ANSIBLE_NOCOLOR": "1"}

    def run(program, *args, expect=0):
        done = subprocess.run([BIN / program, *args], cwd=home, env=env, check=False, capture_output=True, text=True)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout

    run("ansible-galaxy", "collection", "install", "--offline", "--collections-path", path, tarball)
    return run


@pytest.fixture
def preflight(ansible, tmp_path):
    """Run the installed preflight.yml on this machine."""

    def run(expect=0, **variables):
        # A host that lacks an engine is fine where preheat may install one.
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable} | variables
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"gpu_hosts": {"hosts": {"here": host}}}))
        return ansible("ansible-playbook", "preheat.fleet.preflight", "-i", inventory, expect=expect)

    return run


def test_it_holds_what_runs_and_nothing_else(tarball):
    with tarfile.open(tarball) as archive:
        names = {member.name for member in archive if member.isfile()}
    assert tarball.stat().st_size < 1_000_000
    playbooks = {path.name for path in ROOT.glob("*.yml")} - {"galaxy.yml"}
    assert {name.split("/")[0] for name in names} == playbooks | {
        "CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md",
        "changelogs", "docs", "meta", "playbooks", "plugins", "requirements", "roles", "sweeps",
    }  # fmt: skip
    assert {name for name in names if name.startswith("requirements/")} == {
        "requirements/controller.in", "requirements/controller.txt", "requirements/host.in", "requirements/host.txt"
    }  # fmt: skip


def test_every_module_can_be_looked_up(ansible):
    documents = json.loads(ansible("ansible-doc", "--json", *(f"preheat.fleet.{module}" for module in MODULES)))
    assert len(documents) == len(MODULES)
    assert all(document["doc"]["short_description"] for document in documents.values())


def test_preflight_passes(preflight):
    assert "failed=0" in preflight(gpu_host_install_docker=True)


def test_preflight_finds_what_is_wrong(preflight):
    output = preflight(expect=2, gpu_host_docker_host="unix:///run/no-engine.sock", model_cache_dri="/x")
    for text in ("[here] gpu_host_docker_host", "[here] model_cache_dri", "Did you mean 'model_cache_dir'?"):
        assert text in output
