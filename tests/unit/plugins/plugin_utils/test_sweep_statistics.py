"""Noise, ties and hosts: a difference counts only if it is more than what the same configuration shows."""

from __future__ import annotations

import math
import random

import pytest
import synthetic_trials as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_statistics as stats
from ansible_collections.preheat.fleet.plugins.plugin_utils import trial_ranking

TOKENS = {"metric": "output_tokens_per_second"}


def trial(number, *rates, kind="search", host="a"):
    workloads = [
        synthetic.workload(rate=rate) | {"point": f"chat/c8~{index + 1}" if index else "chat/c8"}
        for index, rate in enumerate(rates)
    ]
    slot = {"name": f"{host}/0", "members": [{"host": host, "gpus": []}]}
    return synthetic.trial(number, workloads=workloads, objective=TOKENS, slo={}, kind=kind, slot=slot)


def assess(trials):
    return stats.assess(trials, trial_ranking.rank(trials, "maximize"), maximise=True)


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [(0.975, 1, 12.7062), (0.975, 2, 4.3027), (0.975, 10, 2.2281), (0.975, 100, 1.9840), (0.995, 5, 4.0321),
     (0.9995, 3, 12.924)],
)  # fmt: skip
def test_students_t(probability, freedom, expected):
    assert stats.t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-4)


def test_without_anything_measured_twice_only_equal_trials_tie():
    found = assess([trial(0, 100), trial(1, 100), trial(2, 99.9)])
    assert (found["noise"], found["intervals"], found["tie_group"]) == (None, {}, [0, 1])
    assert stats.lines(found) == []


def test_a_difference_within_the_noise_is_a_tie_and_one_above_it_a_winner():
    noisy = assess([trial(0, 100, 104, 96), trial(1, 101, 97, 105), trial(2, 50, 52, 48)])
    assert noisy["tie_group"] == [1, 0]
    assert noisy["noise_source"] == "repeats on a launch"
    assert "no clear winner: trial 1 cannot be told from 0" in stats.lines(noisy)[0]
    low, high = noisy["intervals"]["2"]
    assert low < 50 < high < 60
    clear = assess([trial(0, 100, 100.1, 99.9), trial(1, 104, 104.1, 103.9), trial(2, 50, 50.1, 49.9)])
    assert clear["tie_group"] == [1]


def test_launches_that_differ_more_than_repeats_decide():
    repeats = [trial(0, 100, 100.1, kind="baseline"), trial(1, 108, 108.1)]
    assert assess(repeats)["tie_group"] == [1]
    controls = [trial(2, 90, 90.1, kind="control"), trial(3, 110, 110.1, kind="control")]
    found = assess([*repeats, *controls])
    assert found["noise_source"] == "the baseline launched again"
    assert found["tie_group"] == [1, 0]


def test_what_cannot_win_is_no_noise():
    broken = trial(1, 10, 1000) | {"eligible": False}
    assert stats.noise_of([trial(0, 100), broken]) is None


def test_hosts_are_compared_by_the_baseline():
    trials = [trial(0, 100, kind="baseline"), trial(1, 101, kind="control"), trial(2, 99, kind="control", host="b"),
              trial(3, 100, kind="control", host="b"), trial(4, 79, kind="control", host="c"),
              trial(5, 81, kind="control", host="c"), trial(6, 500, host="c")]  # fmt: skip
    found = assess(trials)
    rows = {row["host"]: row for row in found["hosts"]}
    assert [host for host, row in rows.items() if row["flagged"]] == ["c"]
    assert rows["c"]["behind"] == pytest.approx(0.25, abs=0.01)
    assert rows["a"]["drift"] == pytest.approx(0.01)
    assert rows["a"]["behind"] == 0.0
    assert found["spread"] == pytest.approx(100.5 / 80 - 1, abs=0.01)
    assert any("host c is 25" in line for line in stats.lines(found))


def test_a_host_that_is_behind_by_no_more_than_the_noise_is_not_flagged():
    trials = [trial(0, 100, kind="baseline"), trial(1, 140, kind="control"), trial(2, 80, kind="control", host="b"),
              trial(3, 130, kind="control", host="b")]  # fmt: skip
    assert not any(row["flagged"] for row in assess(trials)["hosts"])


def test_two_hosts_where_less_is_better():
    objective = {"metric": "ttft_p99_seconds"}
    trials = []
    for number, (host, seconds) in enumerate((("a", 0.1), ("a", 0.101), ("b", 0.2), ("b", 0.201))):
        slot = {"name": f"{host}/0", "members": [{"host": host, "gpus": []}]}
        workloads = [synthetic.workload(ttft_p99_seconds=seconds)]
        trials.append(
            synthetic.trial(number, workloads=workloads, objective=objective, slo={}, kind="control", slot=slot)
        )
    found = stats.assess(trials, [], maximise=False)
    assert [row["flagged"] for row in found["hosts"]] == [False, True]


@given(st.lists(st.lists(st.floats(1, 1000), min_size=2, max_size=4), min_size=1, max_size=6), st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_trials_never_changes_the_winner_nor_the_tie(rates, shuffler):
    trials = [trial(number, *samples) for number, samples in enumerate(rates)]
    found = assess(trials)
    shuffled = list(trials)
    shuffler.shuffle(shuffled)
    again = assess(shuffled)
    assert again["tie_group"] == found["tie_group"]
    assert found["tie_group"][0] == trial_ranking.rank(trials, "maximize")[0]["number"]


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=4), st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_identical_configurations_tie(samples, count):
    assert assess([trial(number, *samples) for number in range(count)])["tie_group"] == list(range(count))


def test_equal_configurations_are_seldom_told_apart():
    """20 trials of the same thing: the luckiest is called a winner in at most about 5 % of sweeps."""
    source = random.Random(1)
    wrong = 0
    for _ in range(200):
        scores = [[100 * math.exp(source.gauss(0, 0.02)) for _ in range(3)] for _ in range(20)]
        records = [
            {"number": n, "eligible": True, "objective": {"value": 1.0, "score": math.prod(s) ** (1 / 3), "samples": s}}
            for n, s in enumerate(scores)
        ]
        ranking = trial_ranking.rank(records, "maximize")
        wrong += len(stats.tie_group(ranking, stats.noise_of(records))) == 1
    assert wrong <= 14


@pytest.mark.parametrize(("comparisons", "quantile"), [(1, 2.776445), (5, 4.604095)])
def test_an_interval_is_two_sided_and_wider_with_each_comparison(comparisons, quantile):
    noise = stats.Noise(0.01, 4, "")  # the quantiles are those of tables of Student's t
    assert stats._width(noise, comparisons) == pytest.approx(0.1 * quantile, rel=1e-3)
