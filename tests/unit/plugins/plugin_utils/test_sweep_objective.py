"""What is refused as an objective or an SLO."""

from __future__ import annotations

import math

import pytest
import synthetic_trials as synthetic

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_objective

TOKENS = {"metric": "output_tokens_per_second"}


@pytest.mark.parametrize(
    ("objective", "variable", "says"),
    [
        (None, "sweep_objective", "is not a mapping"),
        ("ttft_p99_seconds", "sweep_objective", "is not a mapping"),
        ({}, "sweep_objective.metric", "is missing"),
        ({"metric": "output_tokens_per_sec"}, "sweep_objective.metric", "Did you mean 'output_tokens_per_second'?"),
        ({"metric": "ttft_p99"}, "sweep_objective.metric", "Did you mean 'ttft_p99_seconds'?"),
        ({"metric": "ttft_p99_seconds_per_gpu"}, "sweep_objective.metric", "names no metric"),
        ({"metric": ["a"]}, "sweep_objective.metric", "names no metric"),
        (TOKENS | {"direction": "up"}, "sweep_objective.direction", "maximize, minimize"),
        (TOKENS | {"direction": "minimize"}, "sweep_objective.direction", "Use maximize"),
        ({"metric": "ttft_p99_seconds", "direction": "maximize"}, "sweep_objective.direction", "Use minimize"),
        (TOKENS | {"weihgt": 2}, "sweep_objective.weihgt", "Allowed: metric, direction"),
        (TOKENS | {"weight": 0}, "sweep_objective.weight", "above 0"),
        (TOKENS | {"also": {"metric": "ttft_p99_seconds"}}, "sweep_objective.also", "is not a list"),
        (TOKENS | {"also": ["ttft_p99_seconds"]}, "sweep_objective.also[0]", "is not a mapping"),
        (TOKENS | {"also": [{"metric": "ttft"}]}, "sweep_objective.also[0].metric", "names no metric"),
        (TOKENS | {"also": [TOKENS]}, "sweep_objective.also[0].metric", "is an objective already"),
    ],
)
def test_wrong_objective(objective, variable, says):
    (problem,) = sweep_objective.check_objective(objective)
    assert problem["variable"] == variable
    assert says in f"{problem['message']} {problem['remedy']}"


@pytest.mark.parametrize(
    "objective",
    [
        TOKENS,
        {"metric": "output_tokens_per_second_per_gpu", "direction": "maximize"},
        {"metric": "e2e_p95_seconds", "direction": "minimize"},
        {"metric": "concurrency_mean", "direction": "minimize"},
        TOKENS | {"weight": 2, "also": [{"metric": "ttft_p99_seconds", "weight": 0.5}]},
        {"metric": "goodput_requests_per_second_per_gpu"},
    ],
)
def test_right_objective(objective):
    assert sweep_objective.check_objective(objective) == []


@pytest.mark.parametrize(
    ("slo", "variables"),
    [
        (None, []),
        ({}, []),
        (synthetic.SLO, []),
        ({"output_tokens_per_second": {"min": 10, "max": 20}}, []),
        ([], ["sweep_slo"]),
        ({"ttft_p99": {"max": 1}}, ["sweep_slo.ttft_p99"]),
        ({"ttft_p99_seconds": 1}, ["sweep_slo.ttft_p99_seconds"]),
        ({"ttft_p99_seconds": {}}, ["sweep_slo.ttft_p99_seconds"]),
        ({"ttft_p99_seconds": {"max": "1s"}}, ["sweep_slo.ttft_p99_seconds.max"]),
        ({"ttft_p99_seconds": {"max": math.nan}}, ["sweep_slo.ttft_p99_seconds.max"]),
        ({"ttft_p99_seconds": {"max": True}}, ["sweep_slo.ttft_p99_seconds.max"]),
        ({"ttft_p99_seconds": {"max": -1}}, ["sweep_slo.ttft_p99_seconds.max"]),
        ({"ttft_p99_seconds": {"max": 1, "hard": "yes"}}, ["sweep_slo.ttft_p99_seconds.hard"]),
        ({"ttft_p99_seconds": {"max": 1, "weight": 2}}, []),
        ({"ttft_p99_seconds": {"max": 1, "weight": -1}}, ["sweep_slo.ttft_p99_seconds.weight"]),
        ({"ttft_p99_seconds": {"max": 1, "weight": 1, "hard": True}}, ["sweep_slo.ttft_p99_seconds.weight"]),
        ({"ttft_p99_seconds": {"max": 1, "min": 2}}, ["sweep_slo.ttft_p99_seconds"]),
        (
            {"ttft_p99_seconds": {"maximum": 1}, "nonsense": {"max": 1}},
            ["sweep_slo.ttft_p99_seconds.maximum", "sweep_slo.ttft_p99_seconds", "sweep_slo.nonsense"],
        ),
    ],
)
def test_check_slo(slo, variables):
    assert [problem["variable"] for problem in sweep_objective.check_slo(slo)] == variables


@pytest.mark.parametrize(
    ("slo", "wrong"),
    [({}, True), ({"itl_p99_seconds": {"max": 1}}, True), ({"ttft_p99_seconds": {"max": 1}}, False)],
)
def test_goodput_wants_a_limit_to_count_by(slo, wrong):
    assert bool(sweep_objective.check_goodput({"metric": "goodput_requests_per_second"}, slo)) is wrong
    assert sweep_objective.check_goodput(TOKENS, slo) == []
