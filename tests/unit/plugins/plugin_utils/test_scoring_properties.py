"""What holds of scores whatever was measured: scoring fails closed, and nothing but measurements decides who wins."""

from __future__ import annotations

import copy
import math

import pytest
import synthetic_trials as synthetic
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    scoring,
    study_trials,
    sweep_statistics,
    trial_ranking,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_objective import DIRECTIONS

TOKENS = "output_tokens_per_second"
TTFT = "ttft_p99_seconds"

rates = st.floats(0.001, 1e6)
times = st.floats(1e-4, 1e3)
weights = st.floats(0.01, 10)
limits = st.fixed_dictionaries({"max": times}, optional={"weight": st.floats(0, 10)}) | st.fixed_dictionaries(
    {"max": times, "hard": st.just(True)}
)
slos = st.dictionaries(st.sampled_from([TTFT, "tpot_mean_seconds", "e2e_p95_seconds"]), limits, max_size=3)
objectives = st.sampled_from([{"metric": TOKENS}, {"metric": TTFT}, {"metric": "total_tokens_per_second_per_gpu"}]) | (
    weights.map(lambda weight: {"metric": TOKENS, "also": [{"metric": TTFT, "weight": weight}]})
)


@st.composite
def measured(draw):
    """The workload points of a launch: one or two workloads, some loads of each, all repeated equally often."""
    repeats = draw(st.integers(1, 2))
    return [
        synthetic.workload(name, 2**load, draw(rates), **{TTFT: draw(times)})
        | {"point": f"{name}/c{2**load}{f'~{repeat + 1}' * bool(repeat)}"}
        for name in ("chat", "read")[: draw(st.integers(1, 2))]
        for load in range(draw(st.integers(1, 3)))
        for repeat in range(repeats)
    ]


def trial(number, workloads, objective, slo=None):
    """A scored trial. Its own workloads, so that one can be spoilt."""
    return synthetic.trial(number, workloads=copy.deepcopy(workloads), objective=objective, slo=slo or {})


def rescored(record, objective, slo=None):
    return record | scoring.score_trial(record, objective, slo)


def numbers(trials, objective):
    return [item["number"] for item in trial_ranking.rank(trials, scoring.direction_of(objective))]


def same(one, other):
    """Whether two records say the same of what was measured; only their numbers may differ."""
    parts = ("objective", "slo", "eligible", "ineligible_reasons")
    return all(one[part] == other[part] for part in parts)


@given(measured(), objectives, slos, st.data())
def test_a_failed_request_never_improves_a_score(workloads, objective, slo, data):
    """However good the point's numbers become by it: no score, no rank, and nothing that a sampler learns."""
    record = trial(0, workloads, objective, slo)
    spoilt = copy.deepcopy(record)
    point = data.draw(st.sampled_from(spoilt["workloads"]))
    failed = data.draw(st.integers(1, 32))
    point["requests"] = {"total": 32, "completed": 32 - failed, "failed": data.draw(st.sampled_from([failed, 0]))}
    point["metrics"] = {name: value * data.draw(st.floats(0.1, 10)) for name, value in point["metrics"].items()}
    spoilt = rescored(spoilt, objective, slo)
    assert not spoilt["eligible"]
    assert spoilt["objective"]["value"] is None
    assert spoilt["objective"]["score"] is None
    assert numbers([spoilt], objective) == []
    assert trial_ranking.pareto([spoilt]) == []
    told = study_trials.told_of(spoilt, {"objective": objective, "slo": slo}, taught=True)
    assert told["values"] is None or told["constraints"]["violation"] > 0


@given(st.lists(measured(), min_size=1, max_size=3), objectives, slos, st.data())
def test_spoiling_a_trial_leaves_the_order_of_the_others(found, objective, slo, data):
    trials = [trial(number, workloads, objective, slo) for number, workloads in enumerate(found)]
    before = numbers(trials, objective)
    victim = data.draw(st.sampled_from(trials))
    for point in victim["workloads"]:
        point["requests"]["failed"] = 1
    trials[victim["number"]] = rescored(victim, objective, slo)
    assert numbers(trials, objective) == [number for number in before if number != victim["number"]]


@given(st.lists(measured(), min_size=2, max_size=4), objectives, slos, st.data())
def test_the_order_of_trials_never_changes_the_winner(found, objective, slo, data):
    trials = [trial(number, workloads, objective, slo) for number, workloads in enumerate(found)]
    shuffled = data.draw(st.permutations(trials))
    assert numbers(shuffled, objective) == numbers(trials, objective)
    assert sorted(trial_ranking.pareto(shuffled)) == sorted(trial_ranking.pareto(trials))
    ranked, again = (trial_ranking.rank(some, scoring.direction_of(objective)) for some in (trials, shuffled))
    noise, noise_again = (sweep_statistics.noise_of(some) for some in (trials, shuffled))
    assert sweep_statistics.tie_group(again, noise_again) == sweep_statistics.tie_group(ranked, noise)


@given(st.lists(measured(), min_size=2, max_size=4), objectives, slos, st.data())
def test_the_numbers_of_trials_never_change_what_wins(found, objective, slo, data):
    """A number decides between equal scores only."""
    given_numbers = data.draw(st.permutations(range(len(found))))
    first = [trial(number, workloads, objective, slo) for number, workloads in enumerate(found)]
    second = [trial(number, workloads, objective, slo) for number, workloads in zip(given_numbers, found, strict=True)]
    scores = [
        [item["score"] for item in trial_ranking.rank(some, scoring.direction_of(objective))]
        for some in (first, second)
    ]
    assert scores[0] == scores[1]


@given(st.lists(rates, min_size=1, max_size=4), st.data())
def test_the_order_of_points_never_changes_the_value(found, data):
    workloads = [synthetic.workload("chat", 2**index, rate) for index, rate in enumerate(found)]
    shuffled = data.draw(st.permutations(workloads))
    one, other = (trial(0, some, {"metric": TOKENS}) for some in (workloads, shuffled))
    assert one["objective"]["value"] == other["objective"]["value"]


@given(measured(), objectives, slos, st.integers(2, 4))
def test_identical_configurations_tie(workloads, objective, slo, count):
    """Equal measurements are equal scores, each tied with all the others, and none of them a winner alone."""
    trials = [trial(number, workloads, objective, slo) for number in range(count)]
    assert all(same(one, trials[0]) for one in trials)
    ranking = trial_ranking.rank(trials, scoring.direction_of(objective))
    assume(ranking)
    assert [item["number"] for item in ranking] == list(range(count))
    for item in ranking:
        assert item["tied_with"] == [number for number in range(count) if number != item["number"]]
    noise = sweep_statistics.noise_of(trials)
    assert sweep_statistics.tie_group(ranking, noise) == list(range(count))


def score_at(metric, measurement, limit, direction):
    """The score of a trial worth 40 whose only other measurement is that of the soft SLO."""
    workload = synthetic.workload(rate=40.0) | {"metrics": {TOKENS: 40.0, metric: measurement}}
    objective = {"metric": TOKENS, "direction": direction}
    return trial(0, [workload], objective, {metric: limit})["objective"]["score"]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("bound", ["max", "min"])
@given(times, weights, st.floats(1e-9, 1e-3))
@example(1.0, 10.0, 1e-9)
def test_the_penalty_of_a_soft_slo_is_continuous_at_its_limit(bound, direction, most, weight, step):
    """A step beyond the limit costs as much as the step is long, to first order; the limit itself costs nothing."""
    metric = TTFT if bound == "max" else "requests_per_second"
    limit = {bound: most, "weight": weight}
    assert score_at(metric, most, limit, direction) == 40.0
    beyond = most * (1 + step if bound == "max" else 1 - step)
    cost = abs(math.log(score_at(metric, beyond, limit, direction) / 40.0))
    assert cost == pytest.approx(weight * step, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS)
@given(times, times, times, weights)
def test_the_penalty_of_a_soft_slo_is_monotone(direction, most, one, other, weight):
    """A longer time is never the better score, and within the limit no time is better than another."""
    shorter, longer = (
        score_at(TTFT, value, {"max": most, "weight": weight}, direction) for value in sorted((one, other))
    )
    assert longer <= shorter if direction == "maximize" else longer >= shorter
    if max(one, other) <= most:
        assert shorter == longer == 40.0


@given(times, st.floats(1.001, 100), weights, st.floats(0, 10))
def test_more_weight_is_never_a_better_score(most, factor, weight, more):
    light, heavy = (
        score_at(TTFT, most * factor, {"max": most, "weight": w}, "maximize") for w in (weight, weight + more)
    )
    assert heavy <= light <= 40.0


@given(measured(), times, st.floats(1, 100))
def test_a_tighter_hard_slo_never_improves_a_score(workloads, most, factor):
    values = [
        trial(0, workloads, {"metric": TOKENS}, {TTFT: {"max": limit, "hard": True}})["objective"]["value"] or 0.0
        for limit in (most, most * factor, math.inf)
    ]
    assert values == sorted(values)


@given(
    st.lists(measured(), min_size=1, max_size=3),
    objectives,
    st.sampled_from([None, "missing", math.nan, math.inf, -math.inf, 0, -1.0, "many", True, []]),
    st.data(),
)
def test_a_trial_without_the_metric_never_wins(found, objective, instead, data):
    """It was not measured, or is no number: the trial has no rank, also where no other trial has one."""
    trials = [trial(number, workloads, objective) for number, workloads in enumerate(found)]
    victim = data.draw(st.sampled_from(trials))
    point = data.draw(st.sampled_from(victim["workloads"]))
    metric = data.draw(st.sampled_from([one["metric"] for one in scoring.objectives_of(objective)]))
    name = metric.removesuffix("_per_gpu")
    if instead == "missing":
        del point["metrics"][name]
    else:
        point["metrics"][name] = instead
    before = numbers(trials, objective)
    trials[victim["number"]] = rescored(victim, objective)
    assert not trials[victim["number"]]["eligible"]
    assert trials[victim["number"]]["objective"]["score"] is None
    assert numbers(trials, objective) == [number for number in before if number != victim["number"]]


@given(measured(), objectives, slos, st.sampled_from(["failed", "pruned", "infeasible"]))
def test_only_what_is_complete_can_win(workloads, objective, slo, status):
    record = rescored(trial(0, workloads, objective, slo) | {"status": status}, objective, slo)
    assert not record["eligible"]
    assert numbers([record], objective) == []
