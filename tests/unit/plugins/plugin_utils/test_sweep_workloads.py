"""The workloads of a sweep: what is refused, and the points of the others."""

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_workloads


def test_workload_points_are_every_load_of_every_workload():
    points = sweep_workloads.workload_points(
        [
            {"name": "chat", "concurrency": [1, 16], "seed": 1},
            {"name": "batch", "request_rate": [0.5, 4.0], "seed": 2, "num_prompts": 10, "warmup_requests": 0},
        ]
    )
    assert [point["warmup_requests"] for point in points] == [1, 16, 0, 0]
    assert [(p["point"], p["concurrency"], p["request_rate"], p["num_prompts"]) for p in points] == [
        ("chat/c1", 1, None, 32), ("chat/c16", 16, None, 64), ("batch/r0.5", None, 0.5, 10), ("batch/r4", None, 4.0, 10)
    ]  # fmt: skip


FIXED = {
    "name": "w", "input_tokens": 64, "output_tokens": 16, "concurrency": [4], "dataset": "random-ids",
    "range_ratio": 1.0, "seed": 1,
}  # fmt: skip
FIND = {"over": "concurrency", "low": 1, "high": 64, "tolerance": 0.1, "max_probes": 20}
MAX = {**FIXED, "concurrency": None, "find_max": FIND}
HARD = {"ttft_p99_seconds": {"max": 1.0, "hard": True}, "tpot_mean_seconds": {"max": 0.1}}


@pytest.mark.parametrize("change", [{}, {"range_ratio": 0.5}, {"shared_prefix": {"tokens": 32, "groups": 2}}])
def test_workloads_that_are_right(change):
    assert sweep_workloads.check_workloads([FIXED | change]) == []
    assert sweep_workloads.check_workloads([MAX | change]) == []


@pytest.mark.parametrize(
    ("change", "variable", "message"),
    [
        ({"name": "a b"}, "name", "file"),
        ({"output_tokens": 0}, "output_tokens", "below 1"),
        ({"output_tokens": None}, "output_tokens", "missing"),
        ({"request_rate": [1]}, "", "either"),
        ({"find_max": FIND}, "", "either"),
        ({"concurrency": []}, "", "either"),
        ({"concurrency": [0]}, "concurrency", "above 0"),
        ({"concurrency": [1, 64], "num_prompts": 32}, "num_prompts", "64 requests in flight"),
        ({"range_ratio": 1.5}, "range_ratio", "between 0 and 1"),
        ({"dataset": "sharegpt", "input_tokens": None}, "dataset_file", "missing"),
        ({"dataset": "random"}, "dataset_file", "missing"),
        ({"dataset": "sharegpt", "dataset_file": "/none", "input_tokens": None}, "dataset_file", "no file"),
        ({"dataset": "sharegpt", "dataset_file": __file__}, "input_tokens", "means nothing"),
        ({"dataset": "custom", "dataset_file": __file__, "input_tokens": None, "output_tokens": 2}, "output_tokens",
         "refused"),
        ({"dataset": "custom", "dataset_file": __file__, "input_tokens": None, "range_ratio": 0.5}, "range_ratio",
         "means nothing"),
        ({"dataset_file": __file__}, "dataset", "reads no"),
        ({"shared_prefix": {"tokens": 64, "groups": 1}}, "shared_prefix.tokens", "nothing that is not shared"),
        ({"shared_prefix": {"tokens": 8, "groups": 0}}, "shared_prefix.groups", "below 1"),
        ({"shared_prefix": {"tokens": 8, "groups": 1}, "range_ratio": 0.5}, "shared_prefix", "equal lengths"),
    ],
)  # fmt: skip
def test_workloads_that_are_wrong(change, variable, message):
    (found,) = sweep_workloads.check_workloads([FIXED | change])
    assert found["variable"] == f"sweep_workloads[0].{variable}".rstrip(".")
    assert message in found["message"]
    assert found["remedy"]


@pytest.mark.parametrize(
    ("change", "variable", "message"),
    [
        ({"low": 0}, "low", "no concurrency"),
        ({"high": 10.5}, "high", "no concurrency"),
        ({"low": 64}, "high", "not above low"),
        ({"tolerance": 1}, "tolerance", "between"),
        ({"max_probes": 1}, "max_probes", "too few"),
        ({"slo": {"ttft": {"max": 1}}}, "slo.ttft", "no metric"),
        ({"slo": {"ttft_p99_seconds": {}}}, "slo.ttft_p99_seconds", "no limit"),
    ],
)
def test_searches_that_are_wrong(change, variable, message):
    (found,) = sweep_workloads.check_workloads([{**MAX, "find_max": FIND | change}])
    assert found["variable"] == f"sweep_workloads[0].find_max.{variable}"
    assert message in found["message"]


def test_a_search_needs_limits_and_an_objective_needs_the_search():
    (found,) = sweep_workloads.check_limits([MAX], {"metric": "requests_per_second"}, {"ttft_p99_seconds": {"max": 1}})
    assert found["variable"] == "sweep_workloads[0].find_max.slo"
    assert sweep_workloads.check_limits([MAX], {"metric": "max_concurrency_per_gpu"}, HARD) == []
    other = {**FIXED, "name": "other"}
    (found,) = sweep_workloads.check_limits([MAX, other], {"metric": "max_concurrency"}, HARD)
    assert "other" in found["message"]
    (found,) = sweep_workloads.check_limits([MAX], {"metric": "max_request_rate_per_gpu"}, HARD)
    assert found["variable"] == "sweep_objective.metric"


def test_limits_and_datasets_belong_to_the_sweep(tmp_path):
    file = tmp_path / "d.json"
    file.write_text("[]")
    one, two = sweep_workloads.resolved([MAX, {**FIXED, "dataset": "random", "dataset_file": str(file)}], HARD)
    assert one["find_max"]["slo"] == {"ttft_p99_seconds": HARD["ttft_p99_seconds"]}
    assert two["dataset_sha256"] == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    own = {**MAX, "find_max": {**FIND, "slo": {"e2e_p99_seconds": {"max": 9}}}}
    assert sweep_workloads.resolved([own], HARD)[0]["find_max"]["slo"] == {"e2e_p99_seconds": {"max": 9}}


def test_a_search_is_one_point_and_its_probes_have_prompts_enough():
    (point,) = sweep_workloads.workload_points([{**MAX, "num_prompts": 40}])
    assert (point["point"], point["find_max"], point["concurrency"]) == ("w/max", FIND, None)
    probes = [sweep_workloads.at_load(point, "concurrency", load) for load in (2.0, 64)]
    assert [(p["concurrency"], p["num_prompts"], p["warmup_requests"]) for p in probes] == [(2, 40, 2), (64, 256, 64)]
    rate = sweep_workloads.at_load(point, "request_rate", 2.5)
    assert (rate["request_rate"], rate["concurrency"], rate["num_prompts"]) == (2.5, None, 75)
    assert "find_max" not in rate
