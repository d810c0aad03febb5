from __future__ import annotations

import synthetic_trials as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.preheat.fleet.plugins.plugin_utils import trial_ranking

TOKENS = {"metric": "output_tokens_per_second"}
BOTH = TOKENS | {"also": [{"metric": "ttft_p99_seconds"}]}


def test_equal_trials_go_by_number_and_are_called_tied():
    trials = [
        synthetic.trial(number, workloads=[synthetic.workload(rate=rate)])
        for number, rate in ((3, 20), (1, 20), (2, 10))
    ]
    ranked = trial_ranking.rank(trials, "maximize")
    assert [(item["rank"], item["number"], item["tied_with"]) for item in ranked] == [
        (1, 1, [3]),
        (2, 3, [1]),
        (3, 2, []),
    ]


def test_a_trial_that_says_it_is_eligible_without_a_value_is_not_ranked():
    record = synthetic.trial(workloads=[synthetic.workload(rate=10)])
    record["objective"]["value"] = None
    assert trial_ranking.rank([record], "maximize") == []


def both(number, rate, ttft, objective=BOTH, **fields):
    workloads = [synthetic.workload(rate=rate, ttft_p99_seconds=ttft)]
    return synthetic.trial(number, workloads=workloads, objective=objective, slo={}, **fields)


def test_the_best_of_several_objectives_is_on_the_front_and_has_the_largest_product():
    trials = [both(0, 10, 0.1), both(1, 20, 0.1), both(2, 40, 0.4), both(3, 80, 0.8), both(4, 79, 0.9)]
    assert trial_ranking.pareto(trials) == [1, 2, 3]
    ranked = trial_ranking.rank(trials, "maximize")
    assert ranked[0]["number"] == 1, "20 / 0.1 is more than 40 / 0.4 and 80 / 0.8"
    assert ranked[0]["value"] == 20
    heavier = TOKENS | {"weight": 3, "also": BOTH["also"]}
    trials = [both(n, r, t, heavier) for n, r, t in ((1, 20, 0.1), (2, 40, 0.4), (3, 80, 0.8))]
    assert trial_ranking.rank(trials, "maximize")[0]["number"] == 3


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_the_best_is_always_on_the_front(measured, weight):
    objective = {"metric": "ttft_p99_seconds", "weight": weight, "also": [TOKENS]}
    trials = [both(number, rate, ttft / 10, objective) for number, (rate, ttft) in enumerate(measured)]
    assert trial_ranking.rank(trials, "minimize")[0]["number"] in trial_ranking.pareto(trials)
