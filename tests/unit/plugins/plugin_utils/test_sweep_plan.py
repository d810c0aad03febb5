"""The plan: variables, workloads, slots."""

from pathlib import Path

import pytest
import yaml

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_plan
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import format_problems, problem

WORKLOAD = {"name": "chat", "input_tokens": 8, "output_tokens": 4, "concurrency": [1, 8]}


def sweep(**changed):
    options = sweep_plan.role_options("sweep")
    given = {
        "sweep_name": "s",
        "sweep_model": {"repo_id": "o/m"},
        "sweep_image": "i:1",
        "sweep_workloads": [WORKLOAD],
        "sweep_objective": {"metric": "output_tokens_per_second", "direction": "maximize"},
        "sweep_server": {},
        "sweep_slo": {},
    } | changed
    coerced, found = sweep_plan.check_types(options, given)
    if not found:
        found = sweep_plan.check_sweep({key.removeprefix("sweep_"): value for key, value in coerced.items()})
    return coerced, found


def test_a_minimal_sweep_is_accepted_and_completed():
    coerced, found = sweep()
    assert found == []
    assert coerced["sweep_model"]["revision"] == "main"
    assert coerced["sweep_workloads"][0]["flush_cache"] is True


def test_a_library_that_the_controller_lacks_is_a_problem(monkeypatch):
    assert sweep_plan.missing_libraries() == []
    monkeypatch.setattr(sweep_plan.libraries, "SWEEP", ("json", "no_such_library"))
    (found,) = sweep_plan.missing_libraries()
    assert "lacks no_such_library" in found["message"]
    assert "requirements/controller.txt" in found["remedy"]


@pytest.mark.parametrize(
    ("changed", "variable", "message"),
    [
        ({"sweep_name": None}, "sweep_name", "is missing"),
        ({"sweep_name": "a/b"}, "sweep_name", "folder"),
        ({"sweep_host_failures_max": -1}, "sweep_host_failures_max", "below 0"),
        ({"sweep_model": {"revision": "main"}}, "sweep_model", "repo_id"),
        ({"sweep_model": {"repo_id": "o/m", "revisoin": "x"}}, "sweep_model", "revisoin"),
        ({"sweep_server": {"bsae": {}}}, "sweep_server", "bsae"),
        ({"sweep_workloads": []}, "sweep_workloads", "is empty"),
        ({"sweep_workloads": [WORKLOAD, {**WORKLOAD, "input_tokens": "many"}]}, "sweep_workloads[1]", "input_tokens"),
        ({"sweep_workloads": [WORKLOAD, WORKLOAD]}, "sweep_workloads[1].name", "twice"),
        ({"sweep_workloads": [{**WORKLOAD, "name": "a b"}]}, "sweep_workloads[0].name", "file"),
        ({"sweep_workloads": [{**WORKLOAD, "request_rate": [1]}]}, "sweep_workloads[0]", "either"),
        ({"sweep_workloads": [{**WORKLOAD, "concurrency": []}]}, "sweep_workloads[0]", "either"),
        ({"sweep_workloads": [{**WORKLOAD, "concurrency": [0]}]}, "sweep_workloads[0].concurrency", "above 0"),
        ({"sweep_workloads": [{**WORKLOAD, "output_tokens": 0}]}, "sweep_workloads[0].output_tokens", "below 1"),
        ({"sweep_search": {"sampler": "magic"}}, "sweep_search", "magic"),
        ({"sweep_objective": {"metric": "speed"}}, "sweep_objective.metric", "names no metric"),
        ({"sweep_slo": {"ttft_p99_seconds": {"max": -1}}}, "sweep_slo.ttft_p99_seconds.max", "not a limit"),
    ],
)
def test_one_mistake_is_one_problem(changed, variable, message):
    _coerced, found = sweep(**changed)
    assert [item["variable"] for item in found] == [variable]
    assert message in found[0]["message"]
    assert found[0]["remedy"]


def test_unknown_variables_are_named_with_a_suggestion():
    given = {"": ["sweep_name", "sweep_modle"], "gpu1": ["model_cache_dirr", "ansible_host", "my_own"]}
    found = sweep_plan.unknown_variables(given)
    assert [(item["host"], item["variable"]) for item in found] == [("", "sweep_modle"), ("gpu1", "model_cache_dirr")]
    assert "sweep_model" in found[0]["remedy"]
    assert "model_cache_dir" in found[1]["remedy"]


def test_an_earlier_sweep_of_the_name_forbids_another_workload_but_not_more_points():
    plan = {"name": "s", "model": 1, "image": 2, "environment": {}, "workloads": [1], "server": {"space": 1}}
    assert sweep_plan.same_sweep(plan, {**plan, "server": {"space": 2}}) == []
    found = sweep_plan.same_sweep(plan, {**plan, "workloads": [2]})
    assert [item["variable"] for item in found] == ["sweep_workloads"]


def test_problems_of_several_hosts_are_said_once():
    text = format_problems([problem("disk", 1, "is too small.", "Free some.", host) for host in ("a", "b")])
    assert text.count("is too small") == 1
    assert "[a, b] disk = 1" in text
    assert text.startswith("1 problem found; nothing was downloaded or launched.")


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[4] / "sweeps").glob("*.yml")), ids=lambda file: file.stem
)
def test_the_sweeps_to_copy_have_no_problems(file):
    _coerced, found = sweep(**yaml.safe_load(file.read_text()))
    assert found == []


def test_repeats_are_rounds_of_all_workload_points():
    points = [{"point": "chat/c1", "seed": 1}, {"point": "chat/c8", "seed": 1}]
    assert sweep_plan.repeated(points, 1) == points
    assert [(point["point"], point["seed"]) for point in sweep_plan.repeated(points, 2)] == [
        ("chat/c1", 1), ("chat/c8", 1), ("chat/c1~2", 2), ("chat/c8~2", 2)
    ]  # fmt: skip
