"""The execution environment, as far as ansible-builder goes without an image registry."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUILDER = Path(sys.executable).with_name("ansible-builder")

pytestmark = pytest.mark.skipif(not BUILDER.exists(), reason="ansible-builder is not installed")


def test_a_build_context_has_the_collection_and_the_pinned_requirements(tmp_path):
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    collection = f"{galaxy['namespace']}-{galaxy['name']}-{galaxy['version']}.tar.gz"
    folder = tmp_path / "extensions" / "execution-environment"
    shutil.copytree(ROOT / "extensions" / "execution-environment", folder)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / collection).write_bytes(b"what 'ansible-galaxy collection build' makes")
    file = folder / "execution-environment.yml"
    command = [BUILDER, "create", "--file", file, "--context", tmp_path / "ee"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    context = tmp_path / "ee" / "_build"
    wanted = yaml.safe_load((context / "requirements.yml").read_text())["collections"]
    assert [(entry["name"], entry["type"]) for entry in wanted] == [(f"collections/{collection}", "file")]
    assert (context / "collections" / collection).exists()
    assert (context / "requirements.txt").read_text() == (ROOT / "requirements/controller.txt").read_text()


def test_in_another_s_environment_the_collection_says_what_it_needs(tmp_path):
    out = tmp_path / "python.txt"
    command = [BUILDER, "introspect", ROOT / ".collections", "--write-pip", out]
    subprocess.run(command, check=True, capture_output=True)
    told = {line.split("#")[0].strip() for line in out.read_text().splitlines() if "preheat.fleet" in line}
    asked = {line for line in (ROOT / "requirements/controller.in").read_text().splitlines() if line[:1] not in "#"}
    # Ansible itself is the environment's affair.
    assert told == {line for line in asked if line and not line.startswith("ansible-core")}
