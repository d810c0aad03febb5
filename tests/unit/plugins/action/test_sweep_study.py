"""Queueing trials: what waits, what is finished, and when the action refuses."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleActionFail, AnsibleActionSkip

from ansible_collections.preheat.fleet.plugins.action import sweep_study
from ansible_collections.preheat.fleet.plugins.plugin_utils import records, sweep_space


@pytest.fixture
def plan(tmp_path):
    points = sweep_space.grid({"space": {"a": [1, 2, 3]}})
    return {
        "name": "s",
        "sweep_dir": str(tmp_path / "s"),
        "objective": {"metric": "output_tokens_per_second"},
        "feasible": points[:2],
        "infeasible": [{**points[2], "reason": "where: a < 3"}],
    }


def queue(make_action, plan, **args):
    return make_action(sweep_study.ActionModule, plan=json.loads(json.dumps(plan)), **args).run(task_vars={})


def test_what_is_queued(make_action, plan):
    result = queue(make_action, plan)
    assert result == {"changed": True, "waiting": 2, "recorded": 1, "sweep_dir": plan["sweep_dir"]}
    assert [record["status"] for record in records.load_trials(plan["sweep_dir"])] == ["infeasible"]


@pytest.mark.parametrize(("retry_failed", "waiting"), [(False, 1), (True, 2)])
def test_a_failed_trial_waits_again_only_if_asked_for(make_action, plan, retry_failed, waiting):
    point = plan["feasible"][0]
    failed = {"number": 0, "params": point["params"], "server_parameters": point["server_parameters"]}
    records.write_trial(plan["sweep_dir"], records.new_record(sweep="s", status="failed", **failed))
    assert queue(make_action, plan, retry_failed=retry_failed)["waiting"] == waiting


def test_nothing_left_is_no_change(make_action, plan):
    for point in plan["feasible"]:
        done = {"number": point["number"], "params": point["params"], "server_parameters": point["server_parameters"]}
        records.write_trial(plan["sweep_dir"], records.new_record(sweep="s", status="complete", **done))
    assert queue(make_action, plan)["changed"] is False


def test_check_mode_touches_nothing(make_action, plan, tmp_path):
    with pytest.raises(AnsibleActionSkip):
        queue(make_action, plan, check_mode=True)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments(make_action):
    with pytest.raises(AnsibleActionFail, match="plan"):
        make_action(sweep_study.ActionModule).run(task_vars={})
