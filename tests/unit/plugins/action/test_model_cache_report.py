"""The table of all hosts: from their variables, also of those that were lost; the file, but not in check mode."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.preheat.fleet.plugins.action import model_cache_report

HELD = {"repo_id": "o/m", "revision": "main", "commit": "c" * 40, "changed": False, "seconds": 0.1, "verified": "size"}
FAILED = {"repo_id": "o/m", "failed": True, "reason": "gated_repo", "msg": "It is gated.", "remedy": "Ask."}


@pytest.fixture
def report(make_action, monkeypatch):
    said: list[str] = []
    display = type("Display", (), {"display": lambda self, text: said.append(text)})
    monkeypatch.setattr(model_cache_report, "Display", display)

    def run(hostvars, alive, check_mode=False, **args):
        action = make_action(model_cache_report.ActionModule, check_mode=check_mode, way="hub", **args)
        variables = {
            "hostvars": hostvars, "ansible_play_hosts": alive, "ansible_play_hosts_all": list(hostvars),
        }  # fmt: skip
        return action.run(task_vars=variables), "\n".join(said)

    return run


FLEET = {
    "a": {"_model_cache_held": {"results": [HELD], "failure": ""}},
    "b": {"_model_cache_held": {"results": [FAILED], "failure": "It is gated."}},
    "c": {"_model_cache_held": {"results": [], "failure": "Too small a budget."}},
    "d": {},  # lost
    "e": {},  # of a later batch
}


def test_all_hosts_that_had_their_turn(report, tmp_path):
    file = tmp_path / "results" / "warm.json"
    result, said = report(FLEET, ["a", "b", "c", "e"], report_file=str(file))
    assert [(row["host"], row["state"]) for row in result["rows"]] == [
        ("a", "complete"), ("b", "failed"), ("c", "failed"), ("d", "failed"),
    ]  # fmt: skip
    assert "--limit b,c,d" in said
    assert "c: Too small a budget." in said
    assert json.loads(file.read_text())["rows"] == result["rows"]
    assert result["report_file"] == str(file)
    assert result["failed_hosts"] == ["b", "c", "d"]


def test_without_a_failure_there_is_nothing_to_repeat(report):
    result, said = report({"a": FLEET["a"]}, ["a"])
    assert "--limit" not in said
    assert result["report_file"] is None


def test_check_mode_writes_no_file(report, tmp_path):
    report({"a": FLEET["a"]}, ["a"], check_mode=True, report_file=str(tmp_path / "x.json"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnsibleActionFail, match="model_cache_report_file"):
        report({"a": FLEET["a"]}, ["a"], report_file=str(tmp_path / "file" / "warm.json"))
