from __future__ import annotations

import json
import math
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics, bench_result

DATA = Path(__file__).parents[2] / "data" / "bench-serving"


def sample(version):
    return bench_result.parse((DATA / f"{version}.jsonl").read_text())


def details(**changes):
    """A run of three requests with details."""
    run = {
        "completed": 3,
        "duration": 2.0,
        "request_throughput": 1.5,
        "output_throughput": 6.0,
        "mean_ttft_ms": 200.0,
        "mean_itl_ms": 20.0,
        "mean_tpot_ms": 20.0,
        "mean_e2e_latency_ms": 260.0,
        "output_lens": [4, 4, 4],
        "ttfts": [0.1, 0.2, 0.3],
        "itls": [[0.01] * 3, [0.02] * 3, [0.03] * 3],
        "errors": ["", "", ""],
        "generated_texts": ["a", "b", "c"],
    }
    return run | changes


@pytest.mark.parametrize(
    ("version", "expected", "left_out"),
    [
        (
            "0.4.10",
            {"output_tokens_per_second": 107.07608152262624, "itl_p95_seconds": 0.04956001320015274},
            {f"{kind}_{p}_seconds" for kind in ("ttft", "tpot", "e2e") for p in ("p90", "p95")} | {"itl_p90_seconds"},
        ),
        (
            "0.5.5",
            {"ttft_p99_seconds": 0.1691052977201616, "duration_seconds": 2.0758442530004686},
            {f"{kind}_{p}_seconds" for kind in ("ttft", "tpot", "e2e") for p in ("p90", "p95")} | {"itl_p90_seconds"},
        ),
        ("0.5.15", {"total_tokens_per_second": 132.5070124263722, "e2e_p90_seconds": 1.4051353224001104}, set()),
    ],
)
def test_genuine_results_of_three_versions(version, expected, left_out):
    summary = bench_result.summarize(sample(version), 4, 16)
    assert summary["requests"] == {"total": 4, "completed": 4, "failed": 0}
    assert {name: summary["metrics"][name] for name in expected} == pytest.approx(expected)
    assert set(bench_metrics.MEASURED) - set(summary["metrics"]) == left_out
    assert all(math.isfinite(value) and value > 0 for value in summary["metrics"].values())


@pytest.mark.parametrize("version", ["0.4.10", "0.5.5", "0.5.15"])
def test_the_raw_result_is_strict_json(version):
    (raw,) = bench_result.summarize(sample(version), 4)["raw"]
    assert "Infinity" in (DATA / f"{version}.jsonl").read_text()
    assert json.loads(raw, parse_constant=pytest.fail)["request_rate"] is None


def test_the_total_is_the_sum_where_a_version_does_not_report_it():
    metrics = bench_result.summarize(sample("0.4.10"), 4)["metrics"]
    parts = metrics["input_tokens_per_second"] + metrics["output_tokens_per_second"]
    assert metrics["total_tokens_per_second"] == parts


@pytest.mark.parametrize("text", ["", "\n", "not json", "[1]", '{"completed": 1}', '{"completed": 1, "dura'])
def test_what_is_no_result(text):
    with pytest.raises(bench_result.ResultError):
        bench_result.parse(text)


def test_the_last_run_of_a_file_counts():
    run = bench_result.parse('{"completed": 1, "duration": 1}\n{"completed": 2, "duration": NaN}\n')
    assert run == {"completed": 2, "duration": None}


@pytest.mark.parametrize(
    ("changes", "failed", "message"),
    [
        ({}, 0, None),
        (
            {"completed": 2, "errors": ["", "", "Traceback\n  File x\nClientError: refused\n"]},
            1,
            "ClientError: refused",
        ),
        ({"completed": 2, "output_lens": [4, 4, 0], "ttfts": [0.1, 0.2, 0.0]}, 1, "answered without a token"),
        # bench_serving counts these as completed
        ({"ttfts": [0.1, 0.2, 0.0]}, 1, "answered without a token"),
        ({"output_lens": [4, 4, 2]}, 1, "answered with 2 tokens instead of 4"),
    ],
)
def test_failed_requests_are_counted(changes, failed, message):
    summary = bench_result.summarize(details(**changes), 3, 4)
    assert summary["requests"] == {"total": 3, "completed": 3 - failed, "failed": failed}
    assert summary["request_errors"] == ([{"message": message, "count": 1}] if message else [])


def test_lengths_that_may_vary_are_no_failure():
    summary = bench_result.summarize(details(output_lens=[4, 3, 2]), 3, None)
    assert summary["requests"]["failed"] == 0


def test_without_details_what_is_not_completed_failed():
    run = {"completed": 3, "duration": 1.0}
    assert bench_result.summarize(run, 5)["requests"] == {"total": 5, "completed": 3, "failed": 2}


def test_nothing_completed_means_no_metrics():
    run = {"completed": 0, "duration": 1.0, "request_throughput": 0.0, "mean_ttft_ms": 0.0}
    summary = bench_result.summarize(run, 5)
    assert summary["metrics"] == {}
    assert summary["requests"]["failed"] == 5


def test_zero_stands_for_not_measured():
    metrics = bench_result.summarize(details(mean_tpot_ms=0.0, p99_tpot_ms=0.0, mean_itl_ms=None), 3)["metrics"]
    assert not [name for name in metrics if name.startswith(("tpot", "itl"))]
    assert metrics["ttft_mean_seconds"] == 0.2


def test_percentiles_that_a_version_does_not_report_come_from_all_requests():
    metrics = bench_result.summarize(details(p99_ttft_ms=298.0), 3)["metrics"]
    assert metrics["ttft_p90_seconds"] == pytest.approx(0.28)
    assert metrics["ttft_p99_seconds"] == 0.298  # reported: taken as it is
    assert metrics["tpot_p90_seconds"] == pytest.approx(0.028)
    assert metrics["e2e_p90_seconds"] == pytest.approx(0.364)
    assert metrics["itl_p90_seconds"] == pytest.approx(0.03)


@pytest.mark.parametrize("kind", bench_metrics.LATENCIES)
@pytest.mark.parametrize("percent", ["p90", "p95", "p99"])
def test_percentiles_from_all_requests_are_those_of_bench_serving(kind, percent):
    """A genuine run with details (its server_info removed): what it reports, and what its details give."""
    run = sample("0.5.15-details")
    reported = bench_result.summarize(run, 6, 8)["metrics"]
    without = {key: value for key, value in run.items() if not key.startswith(("p90_", "p95_", "p99_"))}
    computed = bench_result.summarize(without, 6, 8)["metrics"]
    name = f"{kind}_{percent}_seconds"
    # The end of a stream comes a moment after its last token, which is all that the details know of.
    tolerance = 1e-9 if kind in ("ttft", "itl") else 1e-4
    assert computed[name] == pytest.approx(reported[name], rel=tolerance)


def test_failed_requests_are_in_no_percentile():
    run = details(output_lens=[4, 4, 0], ttfts=[0.1, 0.2, 9.0])
    assert bench_result.summarize(run, 3)["metrics"]["ttft_p99_seconds"] < 0.2


REQUESTS = [
    {"ttft_seconds": 0.1, "tpot_seconds": 0.01, "e2e_seconds": 0.13, "input_tokens": 9, "output_tokens": 4},
    {"ttft_seconds": 0.2, "tpot_seconds": None, "e2e_seconds": 0.2, "input_tokens": 9, "output_tokens": 1},
    {"ttft_seconds": None, "tpot_seconds": None, "e2e_seconds": None, "input_tokens": 9, "output_tokens": 0},
]


def test_every_request_of_a_run_and_of_its_raw_file():
    run = details(output_lens=[4, 1, 0], input_lens=[9] * 3, ttfts=[0.1, 0.2, 0.0], itls=[[0.01] * 3, [], []])
    found = bench_result.requests(run)
    assert len(found) == len(REQUESTS)
    for request, expected in zip(found, REQUESTS):
        assert {name: request[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    assert [request["success"] for request in found] == [True, True, False]
    assert [request["error"] for request in found] == ["", "", "answered without a token"]
    (raw,) = bench_result.summarize(run, 3)["raw"]
    assert bench_result.requests(json.loads(raw)) == found


def test_a_raw_file_remembers_that_lengths_were_exact():
    (raw,) = bench_result.summarize(details(output_lens=[4, 4, 2]), 3, 4)["raw"]
    assert [request["success"] for request in bench_result.requests(json.loads(raw))] == [True, True, False]


@pytest.mark.parametrize("version", ["0.4.10", "0.5.5", "0.5.15"])
def test_a_run_without_details_tells_no_requests(version):
    assert bench_result.requests(sample(version)) == []


def test_requests_of_a_genuine_run_give_its_own_means():
    run = sample("0.5.15-details")
    found = bench_result.requests(run)
    for kind, key, tolerance in (("ttft", "ttft", 1e-9), ("tpot", "tpot", 1e-3), ("e2e", "e2e_latency", 1e-3)):
        mean = numpy.mean([request[f"{kind}_seconds"] for request in found])
        assert mean * 1000 == pytest.approx(run[f"mean_{key}_ms"], rel=tolerance)


def test_with_speculative_decoding_the_time_between_tokens_is_not_in_the_details():
    metrics = bench_result.summarize(details(accept_length=2.5), 3)["metrics"]
    assert "itl_p90_seconds" not in metrics
    assert "ttft_p90_seconds" in metrics


def test_texts_and_secrets_are_kept_out_of_the_raw_result():
    server = {"api_key": "s3cret", "admin_api_key": "s3cret", "max_total_tokens": 8192, "hf_token": "s3cret"}
    nested = {"parts": [{"ssl_keyfile_password": "s3cret", "rate": math.inf}]}
    (raw,) = bench_result.summarize(details(server_info=server | nested), 3)["raw"]
    assert "s3cret" not in raw
    kept = json.loads(raw, parse_constant=pytest.fail)
    assert kept["server_info"]["max_total_tokens"] == 8192
    assert kept["server_info"]["parts"][0]["rate"] is None
    assert not {"generated_texts", "itls"} & set(kept)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.sampled_from([50, 90, 95, 99]))
def test_percentile_is_numpys(values, percent):
    assert bench_result.percentile(values, percent) == pytest.approx(numpy.percentile(values, percent))
