"""The workloads of a sweep: what is refused, and the points of the others."""

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
