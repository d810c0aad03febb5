from __future__ import annotations

import math

import pytest
import synthetic_trials as synthetic

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


def test_a_soft_slo_forbids_nothing():
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


def soft(weight=None, most=0.1):
    limit = {"max": most} if weight is None else {"max": most, "weight": weight}
    return {"ttft_p99_seconds": limit}


@pytest.mark.parametrize(
    ("direction", "ttft", "weight", "factor"),
    [
        ("maximize", 0.1, None, 1.0),
        ("maximize", 0.05, 9, 1.0),
        ("maximize", 0.15, None, math.exp(-0.5)),
        ("maximize", 0.15, 2, math.exp(-1.0)),
        ("minimize", 0.15, 2, math.exp(1.0)),
        ("maximize", 0.15, 0, 1.0),
    ],
)
def test_a_soft_slo_costs_by_its_weight_and_excess(direction, ttft, weight, factor):
    record = synthetic.trial(workloads=[synthetic.workload(rate=40, ttft_p99_seconds=ttft)])
    found = scoring.score_trial(record, TOKENS | {"direction": direction}, soft(weight))["objective"]
    assert found["value"] == 40.0, "what was measured stays what was measured"
    assert found["score"] == pytest.approx(40.0 * factor)


def test_a_soft_slo_can_choose_another_point_of_the_workload():
    both = [synthetic.workload(concurrency=1, rate=30, ttft_p99_seconds=0.05),
            synthetic.workload(concurrency=8, rate=40, ttft_p99_seconds=0.5)]  # fmt: skip
    found = scoring.score_trial(synthetic.trial(workloads=both), TOKENS, soft())["objective"]
    assert found["points"] == [{"workload": "chat", "point": "chat/c1", "value": 30.0}]


def test_a_huge_miss_is_still_a_number():
    record = synthetic.trial(workloads=[synthetic.workload(rate=40, ttft_p99_seconds=1e9)])
    for direction in DIRECTIONS:
        score = scoring.score_trial(record, TOKENS | {"direction": direction}, soft(1e9))
        assert score["eligible"]
        assert math.isfinite(score["objective"]["score"])


def test_a_soft_slo_that_was_not_measured_fails_closed():
    record = synthetic.trial(workloads=[synthetic.workload(rate=40, ttft_p99_seconds=None)])
    assert not scoring.score_trial(record, TOKENS, soft())["eligible"]
    assert scoring.score_trial(record, TOKENS, soft(0))["eligible"], "weight 0 only reports"


@pytest.mark.parametrize(
    ("objective", "score"),
    [
        (TOKENS | {"weight": 3, "also": [{"metric": "ttft_p99_seconds"}]}, 16**0.75 / 0.25**0.25),
        (TOKENS | {"also": [{"metric": "ttft_p99_seconds", "weight": 3}]}, 16**0.25 / 0.25**0.75),
        ({"metric": "ttft_p99_seconds", "also": [TOKENS | {"weight": 3}]}, 0.25**0.25 / 16**0.75),
    ],
)
def test_several_objectives_count_by_their_weights_in_the_direction_of_the_first(objective, score):
    record = synthetic.trial(workloads=[synthetic.workload(rate=16, ttft_p99_seconds=0.25)])
    assert scoring.score_trial(record, objective)["objective"]["score"] == pytest.approx(score)
    # A missed soft SLO makes it worse, whichever direction that is.
    worse = scoring.score_trial(record, objective, soft(most=0.2))["objective"]["score"]
    assert worse == pytest.approx(score * math.exp(-0.25 if score > 1 else 0.25))


BOTH = TOKENS | {"also": [{"metric": "ttft_p99_seconds"}]}


def test_all_objectives_are_those_of_one_point_that_can_be_had():
    points = [synthetic.workload(concurrency=1, rate=10, ttft_p99_seconds=0.01),
              synthetic.workload(concurrency=8, rate=100, ttft_p99_seconds=0.2)]  # fmt: skip
    found = scoring.score_trial(synthetic.trial(workloads=points), BOTH)["objective"]
    assert (found["value"], found["also"][0]["value"]) == (10.0, 0.01)


def test_a_missing_further_objective_fails_closed():
    record = synthetic.trial(workloads=[synthetic.workload(rate=10, ttft_p99_seconds=None)], objective=BOTH, slo={})
    assert not record["eligible"]


def repeats(*rates, failed=0):
    return [
        synthetic.workload(rate=rate, failed=failed if index else 0)
        | {"point": f"chat/c8{f'~{index + 1}' * bool(index)}"}
        for index, rate in enumerate(rates)
    ]


def test_repeats_are_samples_of_the_same_point():
    found = scoring.score_trial(synthetic.trial(workloads=repeats(10, 40)), TOKENS)["objective"]
    assert (found["value"], found["samples"]) == (pytest.approx(20.0), [10.0, 40.0])
    assert [point["point"] for point in found["points"]] == ["chat/c8"]


def test_a_repeat_that_fails_is_a_trial_that_fails():
    assert not scoring.score_trial(synthetic.trial(workloads=repeats(10, 40, failed=1)), TOKENS)["eligible"]


def test_the_course_of_a_trial():
    workloads = [synthetic.workload("one", rate=10), synthetic.workload("two", rate=40)]
    slo = {"output_tokens_per_second": {"min": 20, "hard": True}}
    record = synthetic.trial(workloads=workloads)
    assert scoring.course(record, TOKENS, {}) == [10.0, pytest.approx(20.0)]
    assert scoring.course(record, TOKENS, slo) == [None, None]


def test_how_far_a_trial_is_from_its_hard_slos():
    slo = {"ttft_p99_seconds": {"max": 0.1, "hard": True}, "tpot_mean_seconds": {"max": 1e-9}}
    near = [synthetic.workload(concurrency=c, ttft_p99_seconds=t) for c, t in ((1, 0.15), (8, 0.9))]
    assert scoring.violation(synthetic.trial(workloads=near), slo) == pytest.approx(0.5)
    assert scoring.violation(synthetic.trial(workloads=near[:1]), {}) == 0.0
