"""Goodput: which requests count, and that it is counted anew when the SLOs change."""

from __future__ import annotations

import json

import pytest
import synthetic_trials as synthetic
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.preheat.fleet.plugins.plugin_utils import goodput, records, scoring

SLO = {
    "ttft_p99_seconds": {"max": 0.5},
    "tpot_mean_seconds": {"max": 0.05, "hard": True},
    "itl_p99_seconds": {"max": 9},
}


def run(*requests, duration=2.0):
    """What bench_serving wrote, with details: (TTFT, seconds between tokens, tokens, error) of each request."""
    return {
        "duration": duration,
        "completed": len(requests),
        "ttfts": [ttft for ttft, _gap, _tokens, _error in requests],
        "itl_sums": [gap * (tokens - 1) for _ttft, gap, tokens, _error in requests],
        "output_lens": [tokens for _ttft, _gap, tokens, _error in requests],
        "errors": [error for _ttft, _gap, _tokens, error in requests],
    }


GOOD = (0.4, 0.04, 5, "")


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([GOOD, GOOD], 1.0),
        ([GOOD, (0.6, 0.04, 5, "")], 0.5),
        ([GOOD, (0.4, 0.06, 5, "")], 0.5),
        ([GOOD, (0.4, 0.04, 5, "broke off")], 0.5),
        ([GOOD, (0.4, 0.0, 1, "")], 1.0),
        ([(0.6, 0.04, 5, "")], 0.0),
        ([], None),
    ],
)
def test_requests_that_meet_every_limit_count(requests, expected):
    assert goodput.goodput(run(*requests), SLO) == expected


@pytest.mark.parametrize("slo", [None, {}, {"itl_p99_seconds": {"max": 1}}, {"ttft_p99_seconds": {"min": 1}}])
def test_without_a_limit_there_is_no_goodput(slo):
    assert goodput.goodput(run(GOOD), slo) is None


def test_the_strictest_limit_of_a_time_counts():
    assert goodput.request_limits({"e2e_p99_seconds": {"max": 2}, "e2e_mean_seconds": {"max": 1}}) == {"e2e": 1}


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 0.1), st.integers(1, 9), st.just("")), max_size=8))
def test_a_failed_request_never_improves_goodput(requests):
    whole = goodput.goodput(run(*requests), SLO)
    for index in range(len(requests)):
        failed = [*requests[:index], (*requests[index][:3], "failed"), *requests[index + 1 :]]
        assert goodput.goodput(run(*failed), SLO) <= whole


def test_it_is_counted_anew_by_other_slos_and_gone_without_its_raw_file(tmp_path):
    record = synthetic.trial(workloads=[synthetic.workload()])
    raw = {record["workloads"][0]["raw_file"]: json.dumps(run(GOOD, (0.6, 0.04, 5, ""))) + "\n"}
    records.write_trial(tmp_path, record, raw)
    objective = {"metric": "goodput_requests_per_second"}
    for most, value in ((0.5, 0.5), (0.7, 1.0)):
        slo = {"ttft_p99_seconds": {"max": most, "weight": 0}}
        (found,) = goodput.recount(tmp_path, records.load_trials(tmp_path), slo)
        assert scoring.score_trial(found, objective, slo)["objective"]["value"] == value
    (tmp_path / "trials" / "0000" / record["workloads"][0]["raw_file"]).unlink()
    (again,) = goodput.recount(tmp_path, [found], slo)
    assert not scoring.score_trial(again, objective, slo)["eligible"]
    # Unless it was counted by the same limits.
    (again,) = goodput.recount(tmp_path, [found | scoring.score_trial(found, objective, slo)], slo)
    assert scoring.score_trial(again, objective, slo)["objective"]["value"] == value
