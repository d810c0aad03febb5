"""The search space: what is refused, and what it expands to."""

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_space, sweep_space_check


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
        ({"low": 1, "high": 3}, [1, 2, 3]),
        ({"low": 1, "high": 4, "log": True}, [1, 2, 3, 4]),
        ({"values": [4, 2], "when": "x"}, [4, 2]),
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
        ({"low": 1}, "needs the keys high, low"),
        ({"low": 1, "high": 2, "stpe": 1}, "no others"),
        ({"values": [1], "low": 1}, "no others"),
        ({"values": 1}, "no values"),
        ({"low": 1, "high": 2.5}, "has no step, which a grid needs"),
        ({"low": 1, "high": 2, "step": 1, "log": True}, "has no step"),
        ({"low": 0, "high": 2, "log": True}, "above 0"),
        ({"low": 1, "high": 2, "log": "yes"}, "not a boolean"),
        ({"values": [1], "when": True}, "not an expression"),
        ({"low": float("nan"), "high": 2, "step": 1}, "not a number"),
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
        (
            {"base": {"max_model_len": 1}, "space": {"context_length": [1]}},
            "sweep_server.space.context_length",
            "is the same flag as sweep_server.base.max_model_len",
        ),
        ({"base": {"tensor_parallel_size": "2"}}, "sweep_server.base.tensor_parallel_size", "not a number of GPUs"),
        ({"presets": {"mine": {"port": 1}}}, "sweep_server.presets.mine.port", "not given here"),
        ({"space": {"tp_size": 2}}, "sweep_server.space.tp_size", "neither"),
        ({"space": {"tp_size": [1, "two"]}}, "sweep_server.space.tp_size", "not a number of GPUs"),
        ({"base": {"pp_size": 0}}, "sweep_server.base.pp_size", "not a number of GPUs"),
        ({"space": {c: {"low": 1, "high": 30, "step": 1} for c in "abc"}}, "sweep_server.space", "too large"),
    ],
)
def test_check_space_refuses(server, variable, message):
    found = sweep_space_check.check_space(server)
    assert [item["variable"] for item in found] == [variable]
    assert message in found[0]["message"]
    assert found[0]["remedy"]
    assert "k3y" not in str(found)


def test_all_problems_at_once():
    server = {"base": {"port": 1, "x-y": 2}, "space": {"a": [], "tp_size": 7}}
    assert len(sweep_space_check.check_space(server)) == 4


def test_grid_varies_the_last_parameter_fastest_and_drops_doubles():
    points = sweep_space.grid({"base": {"c": 1}, "space": {"a": [1, 2], "b": ["x", "y", "x"]}})
    assert [point["params"] for point in points] == [
        {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}
    ]  # fmt: skip
    assert [point["number"] for point in points] == [0, 1, 2, 3]
    assert points[0]["server_parameters"] == {"a": 1, "b": "x", "c": 1}


def test_a_point_is_launched_with_the_flags_of_its_preset_less_those_that_are_given():
    server = {
        "base": {"tensor_parallel_size": 2, "schedule_conservativeness": 1.0},
        "space": {"preset": [None, "throughput", ["throughput", "fp8"]], "max_num_batched_tokens": [None, 4096]},
        "presets": {
            "throughput": {"chunked_prefill_size": 8192, "schedule_conservativeness": 0.3},
            "fp8": {"quantization": "fp8"},
        },
    }
    points = sweep_space.grid(server)
    base = {"tp_size": 2, "schedule_conservativeness": 1.0}
    launched = [
        {name: value for name, value in point["server_parameters"].items() if value is not None} for point in points
    ]
    # What a preset gives and the point takes away or sets itself makes no launch of its own.
    assert launched == [
        base,
        base | {"chunked_prefill_size": 4096},
        base | {"quantization": "fp8"},
        base | {"quantization": "fp8", "chunked_prefill_size": 4096},
    ]
    assert [point["params"]["preset"] for point in points] == [None, None, *[["throughput", "fp8"]] * 2]
    assert {point["gpus"] for point in points} == {2}
    assert sweep_space.baseline(server)["params"] == {"preset": None, "max_num_batched_tokens": None}
    assert sweep_space.gpu_counts(server) == [2]


def test_gpus_that_a_preset_decides_are_counted():
    server = {"space": {"preset": [None, "wide"]}, "presets": {"wide": {"tp_size": 4}}}
    assert sweep_space.gpu_counts(server) == [1, 4]


def test_expressions_can_name_what_a_preset_gives_and_what_the_sweep_says():
    server = {
        "space": {"preset": [None, "short"], "max_num_seqs": [8, 64]},
        "presets": {"short": {"context_length": 4096}},
        "where": ["preset is none or max_num_seqs <= 8", "context_length is none or max_running_requests < 64"],
    }
    feasible, infeasible = sweep_space.admit(server, sweep_space.grid(server), 1)
    assert [point["params"] for point in infeasible] == [{"preset": "short", "max_num_seqs": 64}]
    assert len(feasible) == 3


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
        ({"tp_size": 2, "dp_size": 2, "pp_size": 2}, 8),
        ({"tp_size": 8, "dp_size": 8, "enable_dp_attention": True}, 8),
    ],
)
def test_gpus_needed(parameters, gpus):
    assert sweep_space.gpus_needed(parameters) == gpus


@pytest.mark.parametrize(("parameters", "same"), [({"a": None}, True), ({"a": False}, True), ({"a": 0}, False)])
def test_what_gives_no_flag_is_no_other_launch(parameters, same):
    assert (sweep_space.point_key({"b": 1, **parameters}) == sweep_space.point_key({"b": 1})) is same


CONDITIONAL = {
    "base": {"c": 1},
    "space": {
        "algorithm": [None, "EAGLE"],
        "steps": {"low": 1, "high": 2, "when": "algorithm == 'EAGLE'"},
        "topk": {"values": [1, 4], "when": "steps is not none and steps > 1 and c == 1"},
    },
}


def test_a_parameter_whose_condition_does_not_hold_is_no_part_of_the_point():
    assert [point["params"] for point in sweep_space.grid(CONDITIONAL)] == [
        {"algorithm": None},
        {"algorithm": "EAGLE", "steps": 1},
        {"algorithm": "EAGLE", "steps": 2, "topk": 1},
        {"algorithm": "EAGLE", "steps": 2, "topk": 4},
    ]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"algorithm": None}, ""),
        ({"algorithm": "EAGLE", "steps": 2, "topk": 4}, ""),
        ({}, "algorithm is missing"),
        ({"algorithm": "EAGLE"}, "steps is missing"),
        ({"algorithm": None, "steps": 1}, "steps is given although"),
        ({"algorithm": "EAGLE", "steps": 3}, "steps = 3 is not in"),
        ({"algorithm": "EAGLE", "steps": True}, "steps = True is not in"),
        ({"algorithm": "EAGLE", "stesp": 1}, "stesp is not a parameter"),
    ],
)
def test_which_params_are_a_point(params, says):
    found = sweep_space.misfit(CONDITIONAL, params)
    assert found.startswith(says) if says else found == ""


@pytest.mark.parametrize(
    ("choice", "value", "inside"),
    [
        ({"low": 0.8, "high": 0.9, "step": 0.02}, 0.86, True),
        ({"low": 0.8, "high": 0.9, "step": 0.02}, 0.87, False),
        ({"low": 0.8, "high": 0.9}, 0.8123, True),
        ({"low": 0.8, "high": 0.9}, 0.91, False),
        ({"low": 1, "high": 9, "step": 4}, 5, True),
        ({"low": 1, "high": 9, "step": 4}, 4, False),
        ({"low": 1, "high": 9}, 4.5, False),
        ([1, "a"], True, False),
    ],
)
def test_contains(choice, value, inside):
    assert sweep_space.contains(choice, value) is inside


@pytest.mark.parametrize(
    ("choice", "drawn", "launched"),
    [
        ({"low": 0.8, "high": 0.92, "step": 0.02}, 0.8 + 3 * 0.02, 0.86),
        ({"low": 0.1, "high": 0.9}, 0.123456789, 0.123457),
        ({"low": 0.1, "high": 0.1234561}, 0.12345609, 0.123456),
        ({"low": 1, "high": 8}, 3, 3),
    ],
)
def test_a_drawn_value_is_launched_as_it_reads(choice, drawn, launched):
    assert sweep_space.snap(sweep_space.parse(choice), drawn) == launched


@pytest.mark.parametrize(
    ("space", "params"),
    [
        ({"a": [1, 2]}, {}),
        ({"a": [1, None], "b": [False, True]}, {"a": None, "b": False}),
        ({"a": [None], "b": [1]}, {}),
    ],
)
def test_the_baseline_is_the_base_and_a_point_of_the_space_where_that_has_it(space, params):
    point = sweep_space.baseline({"base": {"c": 1}, "space": space})
    assert (point["params"], point["server_parameters"]) == (params, {"c": 1, **params})


@pytest.mark.parametrize(
    ("server", "counts"),
    [
        ({}, [1]),
        ({"base": {"device": "cpu"}, "space": {"tp_size": [1, 2]}}, [0]),
        ({"space": {"tp_size": {"low": 1, "high": 4, "log": True}, "x": {"low": 0.1, "high": 0.2}}}, [1, 2, 3, 4]),
        ({"base": {"pp_size": 2}, "space": {"tp_size": {"values": [1, 4], "when": "x"}}}, [2, 8]),
    ],
)
def test_gpu_counts(server, counts):
    assert sweep_space.gpu_counts(server) == counts


def test_admit_gives_every_infeasible_point_its_reason():
    server = {"space": {"tp_size": [1, 2, 4], "x": [1, 2]}, "where": ["x == 1 or tp_size == 1"]}
    feasible, infeasible = sweep_space.admit(server, sweep_space.grid(server), slot_gpus=2)
    assert [(p["params"]["tp_size"], p["params"]["x"]) for p in feasible] == [(1, 1), (1, 2), (2, 1)]
    assert [p["reason"] for p in infeasible] == [
        "where: x == 1 or tp_size == 1", "needs 4 GPUs, a slot has 2", "needs 4 GPUs, a slot has 2"
    ]  # fmt: skip


def test_where_does_not_forbid_the_baseline():
    server = {"space": {"a": [1, 2]}, "where": ["a > 1"]}
    assert sweep_space.unfit(server, sweep_space.baseline(server), 1) == ""


def test_an_expression_that_cannot_be_evaluated_admits_nothing():
    server = {"space": {"a": [1]}, "where": ["a < b"]}
    assert "cannot be evaluated" in sweep_space.unfit(server, sweep_space.grid(server)[0], 1)
