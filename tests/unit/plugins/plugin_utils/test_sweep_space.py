"""The search space: what is refused, and what it expands to."""

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_space


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ([1, 2], [1, 2]),
        ([2, 1, 2], [2, 1]),
        ([True, False], [True, False]),
        ([1, True], [1, True]),
        ([["a", "b"], ["a"]], [["a", "b"], ["a"]]),
        ({"low": 0.80, "high": 0.92, "step": 0.02}, [0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.92]),
        ({"low": 1, "high": 8, "step": 3}, [1, 4, 7]),
        ({"low": 1, "high": 2, "step": 0.5}, [1.0, 1.5, 2.0]),
        ({"low": 5, "high": 5, "step": 1}, [5]),
    ],
)
def test_values(choice, expected):
    found = sweep_space.values(choice)
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ([], "no values"),
        (8, "neither"),
        ({"low": 1, "high": 2}, "needs the keys"),
        ({"low": 1, "high": 2, "step": 1, "log": True}, "needs the keys"),
        ({"low": 1, "high": 2, "step": 0}, "no values"),
        ({"low": 2, "high": 1, "step": 1}, "no values"),
        ({"low": "a", "high": 1, "step": 1}, "not a number"),
        ({"low": 0, "high": 1, "step": 1e-9}, "more than"),
    ],
)
def test_values_refuses(choice, message):
    with pytest.raises(ValueError, match=message):
        sweep_space.values(choice)


@pytest.mark.parametrize(
    ("server", "variable", "message"),
    [
        ({"base": {"tp-size": 2}}, "sweep_server.base.tp-size", "not an SGLang flag"),
        ({"base": {"model_path": "x"}}, "sweep_server.base.model_path", "not given here"),
        ({"space": {"port": [1]}}, "sweep_server.space.port", "not given here"),
        ({"space": {"port": {"low": 1, "high": 2, "step": 1}}}, "sweep_server.space.port", "not given here"),
        ({"base": {"api_key": "k3y"}}, "sweep_server.base.api_key", "visible in 'docker inspect'"),
        ({"space": {"a": [["x", ["y"]]]}}, "sweep_server.space.a", "its items must be"),
        ({"environment": {"HF_TOKEN": "k3y"}}, "sweep_server.environment", "gets no token"),
        ({"environment": {"HF_HUB_CACHE": "/x"}}, "sweep_server.environment", "cache_dir"),
        ({"base": {"tp_size": 1}, "space": {"tp_size": [1]}}, "sweep_server.base.tp_size", "in base and in space"),
        ({"space": {"tp_size": 2}}, "sweep_server.space.tp_size", "neither"),
        ({"space": {"tp_size": [1, "two"]}}, "sweep_server.space.tp_size", "not a number of GPUs"),
        ({"base": {"pp_size": 0}}, "sweep_server.base.pp_size", "not a number of GPUs"),
        ({"space": {c: {"low": 1, "high": 30, "step": 1} for c in "abc"}}, "sweep_server.space", "too large"),
        ({"space": {"tp_size": [1]}, "where": ["tp_sise < 2"]}, "sweep_server.where[0]", "cannot be evaluated"),
        ({"space": {"tp_size": [1]}, "where": ["tp_size <"]}, "sweep_server.where[0]", "cannot be evaluated"),
        ({"space": {"a": ["x"]}, "where": ["a < 2"]}, "sweep_server.where[0]", "not supported"),
    ],
)
def test_check_space_refuses(server, variable, message):
    found = sweep_space.check_space(server)
    assert [item["variable"] for item in found] == [variable]
    assert message in found[0]["message"]
    assert found[0]["remedy"]
    assert "k3y" not in str(found)


def test_check_space_names_the_likely_variable():
    found = sweep_space.check_space({"space": {"tp_size": [1]}, "where": ["tp_sise < 2"]})
    assert "tp_size" in found[0]["remedy"]


def test_all_problems_at_once():
    server = {"base": {"port": 1, "x-y": 2}, "space": {"a": [], "tp_size": 7}}
    assert len(sweep_space.check_space(server)) == 4


def test_a_sandboxed_expression_reaches_nothing():
    found = sweep_space.check_space({"where": ["''.__class__.__mro__"]})
    assert found


def test_grid_varies_the_last_parameter_fastest_and_drops_doubles():
    points = sweep_space.grid({"base": {"c": 1}, "space": {"a": [1, 2], "b": ["x", "y", "x"]}})
    assert [point["params"] for point in points] == [
        {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}
    ]  # fmt: skip
    assert [point["number"] for point in points] == [0, 1, 2, 3]
    assert points[0]["server_parameters"] == {"a": 1, "b": "x", "c": 1}


def test_no_space_is_one_point():
    assert [point["params"] for point in sweep_space.grid({"base": {"tp_size": 2}})] == [{}]


def test_key_ignores_order_but_not_values():
    assert sweep_space.point_key({"a": 1, "b": 2}) == sweep_space.point_key({"b": 2, "a": 1})
    assert sweep_space.point_key({"a": 1}) != sweep_space.point_key({"a": True})


@pytest.mark.parametrize(
    ("parameters", "gpus"),
    [
        ({}, 1),
        ({"device": "cpu", "tp_size": 2}, 0),
        ({"tp_size": 4}, 4),
        ({"tensor_parallel_size": 2, "dp_size": 2, "pp_size": 2}, 8),
        ({"tp_size": 8, "dp_size": 8, "enable_dp_attention": True}, 8),
    ],
)
def test_gpus_needed(parameters, gpus):
    assert sweep_space.gpus_needed(parameters) == gpus


def test_admit_gives_every_infeasible_point_its_reason():
    server = {"space": {"tp_size": [1, 2, 4], "x": [1, 2]}, "where": ["x == 1 or tp_size == 1"]}
    feasible, infeasible = sweep_space.admit(server, slot_gpus=2)
    assert [(p["params"]["tp_size"], p["params"]["x"]) for p in feasible] == [(1, 1), (1, 2), (2, 1)]
    assert [p["reason"] for p in infeasible] == [
        "where: x == 1 or tp_size == 1", "needs 4 GPUs, a slot has 2", "needs 4 GPUs, a slot has 2"
    ]  # fmt: skip
