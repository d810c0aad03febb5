"""The timeline of a real run of ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PLAY = """
- name: First play
  hosts: all
  gather_facts: false
  strategy: {strategy}
  tasks:
    - name: Take a moment
      ansible.builtin.command: sleep {{{{ moment }}}}
      changed_when: true
    - name: Say a secret
      ansible.builtin.debug: {{msg: "{{{{ secret }}}}"}}
    - name: Not here
      ansible.builtin.debug: {{msg: never}}
      when: false
    - name: Break
      ansible.builtin.fail: {{msg: broken}}
      when: inventory_hostname == 'two'
      ignore_errors: "{{{{ tolerant }}}}"
"""
INVENTORY = f"""
one ansible_connection=local moment=0.1
two ansible_connection=local moment=0.4
gone ansible_host=127.0.0.1 ansible_port=1 moment=0
[all:vars]
ansible_python_interpreter={sys.executable}
"""


def play(folder, file, strategy="linear", tolerant=False):
    (folder / "play.yml").write_text(PLAY.format(strategy=strategy))
    (folder / "hosts").write_text(INVENTORY)
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", folder / "hosts", folder / "play.yml"]
    command += ["-e", json.dumps({"secret": "hf_very_secret", "tolerant": tolerant})]
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACKS_ENABLED": "preheat.fleet.timeline",
        "PREHEAT_TIMELINE_FILE": str(file),
    }
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("strategy", ["linear", "free"])
def test_every_task_of_every_host_with_its_outcome(tmp_path, strategy):
    file = tmp_path / "not" / "there" / "timeline.json"
    done = play(tmp_path, file, strategy)
    assert done.returncode, "a host is unreachable and one fails"
    text = file.read_text()
    trace = json.loads(text)

    rows = {event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"}
    assert set(rows.values()) == {"one", "two", "gone"}
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    outcomes = {(rows[event["tid"]], event["name"]): event["args"]["outcome"] for event in events}
    assert outcomes == {
        ("one", "Take a moment"): "changed",
        ("one", "Say a secret"): "ok",
        ("one", "Not here"): "skipped",
        ("one", "Break"): "skipped",
        ("two", "Take a moment"): "changed",
        ("two", "Say a secret"): "ok",
        ("two", "Not here"): "skipped",
        ("two", "Break"): "failed",
        ("gone", "Take a moment"): "unreachable",
    }
    assert "hf_very_secret" not in text

    moments = {rows[event["tid"]]: event["dur"] / 1e6 for event in events if event["name"] == "Take a moment"}
    assert moments["one"] >= 0.1
    assert moments["two"] >= 0.4
    summary = trace["summary"]
    assert summary["playbook"] == "play.yml"
    assert summary["seconds"] >= max(event["ts"] + event["dur"] for event in events) / 1e6 - 0.001
    assert summary["tasks"]["Take a moment"]["tasks"] == 3
    assert summary["hosts"]["two"]["tasks"] == 4
    assert summary["hosts"]["two"]["seconds"] >= moments["two"]


def test_a_failure_that_is_ignored_is_said_so(tmp_path):
    play(tmp_path, tmp_path / "timeline.json", tolerant=True)
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    assert [event["args"]["outcome"] for event in events if event["name"] == "Break"].count("ignored") == 1


def test_a_timeline_that_cannot_be_written_harms_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    done = play(tmp_path, tmp_path / "file" / "timeline.json")
    assert "the timeline was not written" in done.stdout + done.stderr
    assert "PLAY RECAP" in done.stdout
