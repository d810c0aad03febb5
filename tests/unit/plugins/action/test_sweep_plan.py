"""The plan: which variables are refused, where the endpoint and the token come from, and what a rerun keeps."""

from __future__ import annotations

import json
import os

import pytest
from core_compat import trust_as_template

from ansible_collections.preheat.fleet.plugins.action import sweep_plan
from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_owner

COMMIT = "c" * 40
MANIFEST = {
    "commit": COMMIT,
    "files": [
        {"path": "model.safetensors", "size": 900, "sha256": "f" * 64},
        {"path": "config.json", "size": 100, "git_sha1": "e" * 40},
    ],
    "bytes_total": 1000,
}
SWEEP = {
    "sweep_name": "s",
    "sweep_model": {"repo_id": "o/m"},
    "sweep_image": "i:1",
    "sweep_server": {"space": {"tp_size": [1, 2], "a": [1, 2]}},
    "sweep_workloads": [{"name": "chat", "input_tokens": 8, "output_tokens": 4, "concurrency": [1, 8]}],
    "sweep_objective": {"metric": "output_tokens_per_second"},
    "sweep_slo": {},
}


@pytest.fixture
def hub(monkeypatch):
    """The Hub's answer, and in ``asked`` what it was asked."""
    asked = []

    def resolve(**question):
        asked.append(question)
        return MANIFEST

    monkeypatch.setattr(sweep_plan.hf_tree, "resolve", resolve)
    config = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "dtype": "bfloat16"}
    monkeypatch.setattr(sweep_plan.hf_tree, "config", lambda *args, **kwargs: config)
    return asked


@pytest.fixture
def unreachable_hub(monkeypatch):
    def resolve(**question):
        raise sweep_plan.hf_tree.HubError("unreachable", "The Hub does not answer.", "Check model_cache_endpoint.")

    monkeypatch.setattr(sweep_plan.hf_tree, "resolve", resolve)


@pytest.fixture
def plan(make_action, tmp_path):
    """Plan with these variables; ``hosts`` maps a host to its own."""

    def run(hosts=None, sweep=True, **variables):
        hosts = {"gpu1": {}} if hosts is None else hosts
        everywhere = {"sweep_results_dir": str(tmp_path), **(SWEEP if sweep else {}), **variables}
        task_vars = {**everywhere, "hostvars": {host: {**everywhere, **own} for host, own in hosts.items()}}
        action = make_action(sweep_plan.ActionModule, task_vars, hosts=list(hosts), sweep=sweep)
        result = action.run(task_vars=task_vars)
        assert result["changed"] is False
        return result["plan"], result["problems"]

    return run


def said(problems):
    return [(item["host"], item["variable"]) for item in problems]


def test_a_plan(plan, hub, tmp_path):
    made, problems = plan()
    assert problems == []
    assert made["commit"] == COMMIT
    assert (made["points"], made["gpus_least"], made["gpus_most"]) == (5, 1, 2), "the grid and the baseline"
    assert made["sweep_dir"] == str(tmp_path / "s")
    assert [point["point"] for point in made["workload_points"]] == ["chat/c1", "chat/c8"]
    assert [file["etag"] for file in made["files"]] == ["f" * 64, "e" * 40]
    assert made["gpu_memory_bytes"] == 500, "the weights, spread over the most GPUs that a point uses"
    assert made["model_shape"]["kv_values_per_token"] == 2 * 2 * 4 * 16
    json.dumps(made)


def test_presets_are_spelled_out_in_the_plan(plan, hub):
    own = {"mine": {"tensor_parallel_size": 4}}
    made, problems = plan(sweep_server={"base": {"a": 1}, "space": {"preset": [None, "mine", "fp8"]}, "presets": own})
    assert problems == []
    assert made["server"]["presets"] == {
        "mine": {"tp_size": 4}, "fp8": {"quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"}
    }  # fmt: skip
    assert (made["gpus_least"], made["gpus_most"], made["points"]) == (1, 4, 3)


def test_the_space_of_a_preset_stands_in_the_plan(plan, hub):
    made, problems = plan(sweep_server={"space": {"preset": "fp8", "tp_size": [1, 2]}})
    assert problems == []
    assert list(made["server"]["space"]) == ["quantization", "kv_cache_dtype", "tp_size"]
    assert made["points"] == 2 * 3 * 2 + 1, "and the baseline, for tp_size has no value that leaves it out"


def test_all_that_is_wrong_with_presets_and_the_rest_is_said_at_once(plan, hub):
    made, problems = plan(sweep_server={"base": {"preset": "fst", "port": 1}, "space": {"preset": ["fp8"]}})
    assert made == {}
    assert said(problems) == [("", "sweep_server.base.preset"), ("", "sweep_server.base.port")]


@pytest.mark.parametrize(
    ("hosts", "variables", "expected"),
    [
        ({"gpu1": {}}, {"sweep_modle": 1}, [("", "sweep_modle")]),
        ({"gpu1": {}, "gpu2": {"model_cache_dri": "/x"}}, {}, [("gpu2", "model_cache_dri")]),
        ({"gpu1": {"gpu_host_x": 1}, "gpu2": {"gpu_host_x": 1}}, {}, [("gpu1", "gpu_host_x"), ("gpu2", "gpu_host_x")]),
        # given for everything: once, not for each host again
        ({"gpu1": {}, "gpu2": {}}, {"sweep_report_foo": 1}, [("", "sweep_report_foo")]),
        ({"gpu1": {"somebody_elses": 1}}, {"my_sweep": 1}, []),
    ],
)
def test_variables_that_no_role_documents(plan, hub, hosts, variables, expected):
    _plan, problems = plan(hosts, **variables)
    assert said(problems) == expected
    assert all(item["remedy"] for item in problems)


def test_they_are_problems_without_a_sweep_too(plan):
    made, problems = plan(sweep=False, sglang_server_prot=1)
    assert made == {}
    assert said(problems) == [("", "sglang_server_prot")]
    assert "sglang_server_port" in problems[0]["remedy"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"sweep_workloads": "chat"}, {"sweep_workloads"}),
        ({"sweep_server": {"bsae": {}}, "sweep_image": None}, {"sweep_server", "sweep_image"}),
        ({"sweep_name": "a/b", "sweep_slo": {"ttft": {"max": 1}}}, {"sweep_name", "sweep_slo.ttft"}),
        ({"sweep_name": "a/b", "sweep_imgae": 1}, {"sweep_name", "sweep_imgae"}),
    ],
)  # fmt: skip
def test_all_problems_come_at_once_and_without_a_look_at_the_hub(plan, hub, variables, expected):
    made, problems = plan(**variables)
    assert {variable for _host, variable in said(problems)} == expected
    assert (made, hub) == ({}, [])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:s3cret@db/sweeps", "holds a password"),
        ("sqlite:///s3cret:s3cret@x", "no URL of a PostgreSQL database"),
        ("postgresql://me@127.0.0.1:1/sweeps", "refused"),
    ],
)
def test_a_storage_that_cannot_be_used_is_a_problem_and_its_password_is_not_shown(plan, hub, url, message):
    made, problems = plan(sweep_storage=url)
    assert said(problems) == [("", "sweep_storage")]
    assert message in problems[0]["message"]
    assert "s3cret" not in str(problems)
    assert (made, hub) == ({}, [])


def test_a_sweep_that_others_began_stays_on_their_commit(plan, hub, monkeypatch):
    begun, _problems = plan()
    theirs = begun | {"commit": "d" * 40, "storage": "postgresql://me@db/sweeps"}
    monkeypatch.setattr(sweep_plan.study_sharing, "earlier_plan", lambda url, name: theirs)
    made, problems = plan(sweep_storage="postgresql://me@db/sweeps")
    assert (problems, made["commit"], len(hub)) == ([], "d" * 40, 1)
    _made, problems = plan(sweep_storage="postgresql://me@db/sweeps", sweep_image="another:1")
    assert said(problems) == [("", "sweep_image")]


def test_no_hosts(plan, hub):
    made, problems = plan(hosts={})
    assert said(problems) == [("", "gpu_hosts")]
    assert (made, hub) == ({}, [])


@pytest.mark.parametrize(("metric", "direction"), [("ttft_p99_seconds", None), ("ttft_p99_seconds", "minimize")])
def test_the_direction_of_an_objective_may_be_left_out(plan, hub, metric, direction):
    _plan, problems = plan(sweep_objective={"metric": metric} | ({"direction": direction} if direction else {}))
    assert problems == []


def test_variables_are_templated(plan, hub):
    made, problems = plan(sweep_name=trust_as_template("{{ kind }}-1"), kind="chat")
    assert (problems, made["name"]) == ([], "chat-1")


def test_the_hub_is_asked_as_the_hosts_ask_it(plan, hub):
    plan(hosts={"gpu1": {"model_cache_endpoint": "http://mirror", "model_cache_token": "hf_x"}, "gpu2": {}})
    assert (hub[0]["endpoint"], hub[0]["token"]) == ("http://mirror", "hf_x")
    assert (hub[0]["repo_id"], hub[0]["revision"]) == ("o/m", "main")


@pytest.mark.parametrize("given", [{}, {"model_cache_endpoint": "", "model_cache_token": ""}])
def test_empty_means_the_default(plan, hub, given):
    plan(hosts={"gpu1": given})
    assert (hub[0]["endpoint"], hub[0]["token"]) == (None, None)


def test_the_token_is_not_in_the_plan(plan, hub):
    made, _problems = plan(hosts={"gpu1": {"model_cache_token": "hf_x"}})
    assert "hf_x" not in json.dumps(made)


def test_a_hub_that_does_not_answer_is_a_problem(plan, unreachable_hub):
    _plan, problems = plan()
    assert said(problems) == [("", "sweep_model")]
    assert problems[0]["remedy"] == "Check model_cache_endpoint."


def test_but_not_if_the_commit_is_named(plan, unreachable_hub):
    made, problems = plan(sweep_model={"repo_id": "o/m", "revision": COMMIT})
    assert (problems, made["commit"]) == ([], COMMIT)


def test_a_sweep_that_was_begun_keeps_its_commit_and_asks_no_hub(plan, hub, tmp_path):
    begun, _problems = plan()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text(json.dumps({**begun, "commit": "d" * 40}))
    hub.clear()
    made, problems = plan()
    assert (problems, made["commit"], made["files"]) == ([], "d" * 40, begun["files"])
    assert hub == []


def test_a_sweep_that_was_begun_with_another_model(plan, hub, tmp_path):
    begun, _problems = plan()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text(json.dumps(begun))
    made, problems = plan(sweep_model={"repo_id": "o/other"})
    assert made == {}, "half a plan would only break what comes after"
    assert said(problems) == [("", "sweep_model")]
    assert "sweep_name" in problems[0]["remedy"]


def test_a_sweep_that_another_controller_runs(plan, hub, tmp_path, monkeypatch):
    (tmp_path / "s").mkdir()
    owner = os.getppid()
    sweep_owner.own(tmp_path / "s")
    assert plan()[1] == [], "a run of its own is no other"
    monkeypatch.setattr(sweep_owner.os, "getppid", lambda: 1)  # another process that is alive
    made, problems = plan()
    assert (made, said(problems)) == ({}, [("", "sweep_name")])
    assert problems[0]["message"] == f"another controller (process {owner}) runs this sweep."
    assert len(hub) == 1, "the Hub was not asked"
