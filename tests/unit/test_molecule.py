"""Molecule's scenarios leave no role and no source of models out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted(path.parent for path in ROOT.glob("extensions/molecule/*/molecule.yml"))
ROLES = sorted(path.parent.parent.name for path in ROOT.glob("roles/*/tasks/main.yml"))
COLD = """
- hosts: localhost
  connection: local
  gather_facts: false
  roles:
    - preheat.fleet.gpu_host
  tasks:
    - ansible.builtin.fail: {msg: without an environment this must not be reached}
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: the next play goes on}
"""


def load(path):
    return yaml.safe_load(path.read_text())


def converge_of(scenario):
    playbooks = load(scenario / "molecule.yml").get("ansible", {}).get("playbooks", {})
    return scenario / playbooks.get("converge", "converge.yml")


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_a_scenario(role):
    used = {Path(play["ansible.builtin.import_playbook"]).suffix[1:] for s in SCENARIOS for play in load(converge_of(s))
            if "ansible.builtin.import_playbook" in play}  # fmt: skip
    texts = [converge_of(scenario).read_text() for scenario in SCENARIOS]
    texts += [(ROOT / "playbooks" / f"{name}.yml").read_text() for name in used]
    assert any(f"preheat.fleet.{role}\n" in text for text in texts)


def test_every_source_of_models_has_a_scenario():
    options = load(ROOT / "roles/model_cache/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    sources = {
        load(scenario / "molecule.yml")["provisioner"]["inventory"]["group_vars"]
        .get("gpu_hosts", {})
        .get("model_cache_source")
        for scenario in SCENARIOS
        if scenario.name.startswith("model_cache")
    }
    assert sources == set(options["model_cache_source"]["choices"])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_playbooks_that_a_scenario_names_are_there(scenario):
    config = load(scenario / "molecule.yml")
    named = config.get("ansible", {}).get("playbooks", {})
    for step in ("converge", "verify", "side_effect"):
        assert (scenario / named.get(step, f"{step}.yml")).is_file(), step


def test_check_mode_ends_for_a_host_without_an_environment(tmp_path):
    playbook = tmp_path / "play.yml"
    playbook.write_text(COLD)
    done = subprocess.run(
        ["ansible-playbook", str(playbook), "--check", "-e", f"gpu_host_root={tmp_path}/none"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the next play goes on" in done.stdout
    assert "changed=1" in done.stdout
