from __future__ import annotations

import random

import pytest
import synthetic_trials as synthetic

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, report_model, report_picture


@pytest.fixture(scope="module")
def model():
    return report_model.build(synthetic.plan(), synthetic.sweep())


def test_counts(model):
    assert model["counts"] == {
        "complete": 6, "failed": 2, "pruned": 0, "infeasible": 0, "eligible": 5, "total": 8,
    }  # fmt: skip
    assert model["trials_left"] == 0


def test_trials_left_over():
    assert report_model.build(synthetic.plan(points=10), synthetic.sweep())["trials_left"] == 2


def test_the_best_trial_and_its_gain_over_the_first(model):
    best = model["best"]
    assert best["number"] == 3
    assert best["params"] == {"chunked_prefill_size": 8192}
    assert best["server_parameters"]["context_length"] == 4096
    assert best["gpu_count"] == 1
    assert best["first_number"] == 0
    assert best["gain"] == pytest.approx(0.18)
    assert [point["point"] for point in best["points"]] == ["chat/c32", "read/c8"]


def test_a_gain_is_also_one_where_less_is_better():
    objective = {"metric": "ttft_p99_seconds"}
    trials = [synthetic.trial(n, workloads=[synthetic.workload(ttft=t)]) for n, t in enumerate((0.4, 0.1))]
    best = report_model.build({"objective": objective}, trials)["best"]
    assert (best["number"], best["gain"]) == (1, pytest.approx(0.75))


def test_the_gain_is_over_the_first_that_can_win():
    trials = [synthetic.failed_trial(0), *(synthetic.trial(n, [synthetic.workload(rate=n * 100)]) for n in (1, 2))]
    best = report_model.build(synthetic.plan(slo={}), trials)["best"]
    assert (best["number"], best["first_number"], best["first_is_trial_zero"]) == (2, 1, False)
    assert best["gain"] == pytest.approx(1.0)


def test_the_gain_is_over_the_baseline_if_it_can_win():
    trials = [synthetic.trial(n, [synthetic.workload(rate=rate)]) for n, rate in enumerate((100, 200, 300))]
    trials[1]["kind"] = "baseline"
    best = report_model.build(synthetic.plan(slo={}), trials)["best"]
    assert (best["first_number"], best["first_is_baseline"], best["gain"]) == (1, True, pytest.approx(0.5))


def test_repeats_are_one_point_of_the_picture():
    again = {**synthetic.workload(rate=900.0), "point": "chat/c8~2"}
    third = {**synthetic.workload(rate=100.0, failed=1), "point": "chat/c8~3"}
    points = report_model.build({}, [synthetic.trial(0, [synthetic.workload(rate=800.0), again, third])])["picture"][
        "points"
    ]
    assert [(item["point"], item["throughput"], item["failed_requests"]) for item in points] == [("chat/c8", 800.0, 1)]


def test_several_objectives():
    objective = {"metric": "output_tokens_per_second", "also": [{"metric": "ttft_p99_seconds"}]}
    rates = ((100, 0.1), (200, 0.2), (150, 0.3))
    trials = [synthetic.trial(n, [synthetic.workload(rate=r, ttft=t)]) for n, (r, t) in enumerate(rates)]
    model = report_model.build({"objective": objective}, trials)
    assert model["objective"]["also"] == [{"metric": "ttft_p99_seconds", "direction": "minimize", "weight": 1.0}]
    assert model["pareto_trials"] == [0, 1]
    assert model["trials"][2]["also"] == [pytest.approx(0.3)]


def test_ties_are_reported():
    trials = [synthetic.trial(number) for number in (2, 0, 1)]
    best = report_model.build(synthetic.plan(), trials)["best"]
    assert (best["number"], best["tied_with"]) == (0, [1, 2])


def test_records_of_an_earlier_objective_are_scored_anew(model):
    other = report_model.build(synthetic.plan(objective={"metric": "e2e_p99_seconds"}, slo={}), synthetic.sweep())
    assert other["objective"] == {"metric": "e2e_p99_seconds", "direction": "minimize", "also": []}
    assert other["best"]["value"] < 10 < model["best"]["value"]
    assert {trial["number"] for trial in other["trials"] if trial["eligible"]} == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("plan", [{}, {"objective": None}, {"objective": {"metric": "nonsense"}}, {"objective": "x"}])
def test_without_a_usable_plan_the_records_speak(plan):
    plan = {key: value for key, value in plan.items() if value != "x"}
    model = report_model.build(plan, synthetic.sweep())
    assert model["sweep"] == "synthetic"
    assert model["objective"] == {**synthetic.OBJECTIVE, "also": []}
    assert model["best"]["number"] == 3


@pytest.mark.parametrize("trials", [[], [synthetic.failed_trial(0)], [synthetic.trial(0, workloads=[])]])
def test_no_trial_can_win(trials):
    model = report_model.build(synthetic.plan(), trials)
    assert model["best"] is None
    assert model["ranking"] == []
    assert model["counts"]["total"] == len(trials)


def test_the_order_of_the_records_does_not_matter_for_the_ranking(model):
    shuffled = synthetic.sweep()
    random.Random(1).shuffle(shuffled)
    other = report_model.build(synthetic.plan(), shuffled)
    assert other["ranking"] == model["ranking"]
    assert other["best"] == model["best"]


@pytest.mark.parametrize(
    ("slo", "objective", "latency", "throughput"),
    [
        ({}, "output_tokens_per_second", "ttft_p99_seconds", "output_tokens_per_second"),
        ({"e2e_p90_seconds": {"max": 1}}, "requests_per_second", "e2e_p90_seconds", "requests_per_second"),
        ({"ttft_p99_seconds": {"max": 1}}, "itl_p99_seconds", "itl_p99_seconds", "output_tokens_per_second_per_gpu"),
        (
            {"requests_per_second": {"min": 1}},
            "duration_seconds",
            "ttft_p99_seconds",
            "output_tokens_per_second_per_gpu",
        ),
    ],
)
def test_the_axes_of_the_picture(slo, objective, latency, throughput):
    picture = report_model.build(synthetic.plan(slo=slo, objective={"metric": objective}), synthetic.sweep())["picture"]
    assert (picture["latency"], picture["throughput"]) == (latency, throughput)
    assert len(picture["points"]) == 30


def point(throughput, latency, workload="chat", failed=0):
    return {"throughput": throughput, "latency": latency, "workload": workload, "failed_requests": failed}


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([point(1, 1)], [0]),
        ([point(2, 1), point(1, 2)], [0]),
        ([point(2, 2), point(1, 1)], [0, 1]),
        ([point(2, 1), point(2, 1)], [0, 1]),  # equal: neither beats the other
        ([point(2, 1), point(1, 1), point(2, 2)], [0]),
        ([point(2, 1), point(1, 2, "read")], [0, 1]),  # workloads are not compared
        ([point(9, 0.1, failed=1), point(1, 2)], [1]),  # failed requests are no achievement
    ],
)
def test_the_pareto_front(points, front):
    assert [index for index, item in enumerate(report_picture.mark_front(points)) if item["pareto"]] == front


def test_a_point_that_was_not_measured_is_not_in_the_picture():
    trial = synthetic.trial(0, [synthetic.workload(ttft_p99_seconds=None), synthetic.workload("read")])
    picture = report_model.build(synthetic.plan(), [trial])["picture"]
    assert [item["point"] for item in picture["points"]] == ["read/c8"]


def test_phases_of_a_trial_are_in_order_and_sum_to_its_wall_time(model):
    rows = [row for row in model["phases"] if row["trial"] == 0]
    assert [row["phase"] for row in rows] == [
        name for name in records.PHASES if name not in ("weights_preload", "launching", "image_pull")
    ]
    assert sum(row["seconds"] for row in rows) == pytest.approx(model["trials"][0]["wall_seconds"])


def test_failures_by_class(model):
    assert [(item["class"], item["trials"]) for item in model["failures"]] == [
        ("bad_flag", [6]),
        ("not eligible", [5]),
        ("out_of_memory", [7]),
    ]
    assert model["failures"][2]["remedy"] == "Lower mem_fraction_static."
    assert model["failures"][1]["message"] == "chat: no point meets every hard SLO"


def test_equal_failures_are_one(model):
    trials = [synthetic.failed_trial(n) for n in (0, 1, 2)] + [synthetic.failed_trial(3, "timeout", "hung")]
    found = report_model.build(synthetic.plan(), trials)["failures"]
    assert [(item["class"], item["trials"]) for item in found] == [("bad_flag", [0, 1, 2]), ("timeout", [3])]


def test_a_failure_without_an_error_is_told_by_its_status():
    trial = synthetic.trial(0, workloads=[], status="infeasible", error=None)
    (failure,) = report_model.failures([trial])
    assert failure["class"] == "infeasible"
