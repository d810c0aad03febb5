from __future__ import annotations

import copy
import math

import pytest
import synthetic_trials as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.preheat.fleet.plugins.plugin_utils import scoring
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_objective import DIRECTIONS

TOKENS = {"metric": "output_tokens_per_second"}


def points(*rates, name="chat"):
    return [synthetic.workload(name, 2**index, rate) for index, rate in enumerate(rates)]


@pytest.mark.parametrize(
    ("direction", "value", "point"), [("maximize", 40.0, "chat/c2"), ("minimize", 10.0, "chat/c1")]
)
def test_the_best_point_of_a_workload_counts(direction, value, point):
    score = scoring.score_trial(synthetic.trial(workloads=points(10, 40, 30)), TOKENS | {"direction": direction})
    assert score["objective"]["value"] == value
    assert score["objective"]["points"] == [{"workload": "chat", "point": point, "value": value}]
    assert score["eligible"]


def test_workloads_count_by_their_geometric_mean():
    record = synthetic.trial(workloads=points(10, 20) + points(80, name="read"))
    assert scoring.score_trial(record, TOKENS)["objective"]["value"] == pytest.approx(40.0)


@pytest.mark.parametrize(("gpus", "value"), [(0, 40.0), (1, 40.0), (4, 10.0)])
def test_per_gpu(gpus, value):
    record = synthetic.trial(workloads=points(40), gpus=gpus)
    assert scoring.score_trial(record, {"metric": "output_tokens_per_second_per_gpu"})["objective"]["value"] == value


def test_per_gpu_counts_every_host_of_a_slot():
    members = [{"host": "a", "gpus": [{}, {}]}, {"host": "b", "gpus": [{}, {}]}, {"host": "cpu", "gpus": []}]
    assert scoring.gpu_count({"slot": {"name": "x", "members": members}}) == 5


def test_an_unknown_slot_has_no_value_per_gpu():
    record = synthetic.trial(workloads=points(40), slot={"name": None, "members": []})
    score = scoring.score_trial(record, {"metric": "output_tokens_per_second_per_gpu"})
    assert not score["eligible"]


def test_a_point_over_a_hard_slo_does_not_count():
    slo = {"output_tokens_per_second": {"max": 35, "hard": True}}
    score = scoring.score_trial(synthetic.trial(workloads=points(10, 40, 30)), TOKENS, slo)
    assert score["objective"]["value"] == 30.0
    assert [verdict["met"] for verdict in score["slo"]] == [True, False, True]


def test_a_soft_slo_is_only_reported():
    score = scoring.score_trial(synthetic.trial(workloads=points(10, 40)), TOKENS, {"ttft_p99_seconds": {"max": 0.01}})
    assert score["objective"]["value"] == 40.0
    assert {verdict["met"] for verdict in score["slo"]} == {False}


def test_an_slo_verdict_names_its_bounds():
    (verdict,) = scoring.slo_verdicts(
        synthetic.trial(workloads=points(10)), {"output_tokens_per_second": {"min": 5, "hard": True}}
    )
    assert verdict == {
        "metric": "output_tokens_per_second", "point": "chat/c1", "value": 10.0, "min": 5, "hard": True, "met": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("workloads", "status", "slo", "reason"),
    [
        (points(10), "failed", None, "is failed, not complete"),
        (points(10), "pruned", None, "is pruned, not complete"),
        ([], "complete", None, "no workload was measured"),
        ([synthetic.workload(failed=1)], "complete", None, "1 of 32 requests failed"),
        ([{**synthetic.workload(), "requests": {}}], "complete", None, "is unknown"),
        (
            [{**synthetic.workload(), "requests": {"total": 0, "completed": 0, "failed": 0}}],
            "complete",
            None,
            "unknown",
        ),
        (
            [{**synthetic.workload(), "requests": {"total": 8, "completed": 8, "failed": 0}}],
            "complete",
            None,
            "only 8 of 32",
        ),
        (
            [*points(10)[:1], synthetic.workload("read", output_tokens_per_second=None)],
            "complete",
            None,
            "not measured",
        ),
        ([synthetic.workload(output_tokens_per_second=math.nan)], "complete", None, "not measured"),
        ([synthetic.workload(output_tokens_per_second=math.inf)], "complete", None, "not measured"),
        ([synthetic.workload(output_tokens_per_second=0.0)], "complete", None, "not measured"),
        ([synthetic.workload(output_tokens_per_second="many")], "complete", None, "not measured"),
        (points(10), "complete", {"ttft_p99_seconds": {"max": 0.001, "hard": True}}, "no point meets every hard SLO"),
    ],
)
def test_what_makes_a_trial_lose(workloads, status, slo, reason):
    score = scoring.score_trial(synthetic.trial(workloads=workloads, status=status), TOKENS, slo)
    assert not score["eligible"]
    assert score["objective"]["value"] is None
    assert reason in "; ".join(score["ineligible_reasons"])


def test_a_metric_that_was_not_measured_breaks_a_hard_slo():
    record = synthetic.trial(workloads=[synthetic.workload(ttft_p99_seconds=None)])
    score = scoring.score_trial(record, TOKENS, {"ttft_p99_seconds": {"max": 100, "hard": True}})
    assert not score["eligible"]


def test_equal_trials_go_by_number_and_are_called_tied():
    trials = [synthetic.trial(number, workloads=points(rate)) for number, rate in ((3, 20), (1, 20), (2, 10))]
    ranked = scoring.rank(trials, "maximize")
    assert [(item["rank"], item["number"], item["tied_with"]) for item in ranked] == [
        (1, 1, [3]),
        (2, 3, [1]),
        (3, 2, []),
    ]


def test_a_trial_that_says_it_is_eligible_without_a_value_is_not_ranked():
    record = synthetic.trial(workloads=points(10))
    record["objective"]["value"] = None
    assert scoring.rank([record], "maximize") == []


rates = st.floats(min_value=0.001, max_value=1e6)
objectives = st.sampled_from([TOKENS, {"metric": "ttft_p99_seconds"}, {"metric": "total_tokens_per_second_per_gpu"}])


@settings(deadline=None)
@given(st.lists(rates, min_size=1, max_size=4), objectives, st.data())
def test_a_failed_request_never_improves_a_score(values, objective, data):
    record = synthetic.trial(workloads=points(*values))
    spoiled = copy.deepcopy(record)
    point = data.draw(st.sampled_from(spoiled["workloads"]))
    failures = data.draw(st.integers(1, 32))
    point["requests"] = {"total": 32, "completed": 32 - failures, "failed": failures}
    assert scoring.score_trial(record, objective)["eligible"]
    assert not scoring.score_trial(spoiled, objective)["eligible"]


@settings(deadline=None)
@given(
    st.lists(st.tuples(rates, st.booleans()), min_size=1, max_size=6), st.sampled_from(DIRECTIONS), st.data()
)
def test_order_never_changes_the_winner(values, direction, data):
    trials = [
        synthetic.trial(n, workloads=[synthetic.workload(rate=rate, failed=int(bad))])
        for n, (rate, bad) in enumerate(values)
    ]
    shuffled = data.draw(st.permutations(trials))
    assert [item["number"] for item in scoring.rank(shuffled, direction)] == [
        item["number"] for item in scoring.rank(trials, direction)
    ]


@settings(deadline=None)
@given(st.lists(rates, min_size=1, max_size=4), st.data())
def test_the_order_of_points_never_changes_the_value(values, data):
    workloads = points(*values)
    one = scoring.score_trial(synthetic.trial(workloads=workloads), TOKENS)
    other = scoring.score_trial(synthetic.trial(workloads=data.draw(st.permutations(workloads))), TOKENS)
    assert one["objective"]["value"] == other["objective"]["value"]


@settings(deadline=None)
@given(st.lists(rates, min_size=2, max_size=4), st.floats(min_value=0.001, max_value=1e6))
def test_a_tighter_hard_slo_never_improves_a_score(values, limit):
    record = synthetic.trial(workloads=points(*values))
    free = scoring.score_trial(record, TOKENS)["objective"]["value"]
    bound = scoring.score_trial(record, TOKENS, {"tpot_mean_seconds": {"max": limit, "hard": True}})
    assert bound["objective"]["value"] is None or bound["objective"]["value"] <= free
