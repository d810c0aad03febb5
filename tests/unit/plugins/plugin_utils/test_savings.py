from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import savings

MEASURED = savings.Spans(
    fetch_seconds=100.0,
    cold_launch_seconds=90.0,
    disk_launch_seconds=80.0,
    warm_launch_seconds=40.0,
    benchmark_seconds=60.0,
)


def by_name(rows):
    return {row["strategy"]: row for row in rows}


def test_the_origin_without_a_cache():
    """50 experiments, 272 s of loading each (the download included), 170 s of benchmark each, one after the other."""
    rows = by_name(savings.strategies(savings.ORIGIN, savings.ORIGIN_EXPERIMENTS))
    assert round(rows["no_cache"]["hours"], 2) == 6.14
    assert round(rows["no_cache"]["launch_hours"], 2) == 3.78  # the origin's 13,600 s
    assert round(rows["no_cache"]["benchmark_hours"], 2) == 2.36  # its 8,500 s


def test_the_origin_with_a_shared_cache():
    """272 s of loading once, 30 s for each of the other 49, 170 s of benchmark each.

    The origin gives these parts (1,742 s and 8,500 s) and totals them to 2.95 h; their sum is 2.85 h.
    """
    rows = by_name(savings.strategies(savings.ORIGIN, savings.ORIGIN_EXPERIMENTS))
    assert rows["shared_cache"]["launch_hours"] * 3600 == pytest.approx(1742)
    assert round(rows["shared_cache"]["hours"], 3) == 2.845


def test_what_the_published_total_with_a_shared_cache_takes():
    """2.95 h, if each of the other 49 loads in 37.7 s: solved from the total, and assumed nowhere else."""
    slower = dataclasses.replace(savings.ORIGIN, disk_launch_seconds=savings.ORIGIN_LATER_SECONDS)
    rows = by_name(savings.strategies(slower, savings.ORIGIN_EXPERIMENTS))
    assert round(rows["shared_cache"]["hours"], 2) == 2.95
    assert round(rows["shared_cache"]["saved_hours"], 2) == 3.19
    solved = (2.95 * 3600 - 272 - 50 * 170) / 49
    assert round(solved, 1) == savings.ORIGIN_LATER_SECONDS
    assert 30 <= solved <= 60  # what the origin expects of loading from a disk


def test_the_origin_says_nothing_of_the_other_strategies():
    assert set(by_name(savings.strategies(savings.ORIGIN, 50, 2, 4))) == {"no_cache", "shared_cache"}


def test_five_strategies():
    rows = by_name(savings.strategies(MEASURED, experiments=6, workloads=2, hosts=3))
    seconds = {name: round(row["hours"] * 3600) for name, row in rows.items()}
    assert seconds == {
        "no_cache": 6 * (100 + 90) + 6 * 60,
        "shared_cache": 100 + 90 + 5 * 80 + 6 * 60,
        "page_cache_and_jit": 100 + 90 + 5 * 40 + 6 * 60,
        "one_launch_many_workloads": 100 + 90 + 2 * 40 + 6 * 60,
        "many_hosts": 100 + 90 + 2 * 60,  # one launch on each host, two workloads on it
    }
    assert [row["launches"] for row in rows.values()] == [6, 6, 6, 3, 3]
    assert rows["no_cache"]["saved_hours"] == 0
    assert rows["many_hosts"]["saved_hours"] == pytest.approx(rows["no_cache"]["hours"] - rows["many_hosts"]["hours"])
    against = {name: row["saved_hours_against_relaunch"] for name, row in rows.items()}
    assert [name for name, hours in against.items() if hours is not None] == ["one_launch_many_workloads", "many_hosts"]
    assert against["one_launch_many_workloads"] * 3600 == pytest.approx(3 * 40)


@pytest.mark.parametrize(
    ("experiments", "workloads", "hosts", "launches", "seconds"),
    [
        (0, 2, 3, 0, 0),
        (1, 1, 1, 1, 100 + 10),
        (5, 2, 1, 3, 100 + 2 * 7 + 5 * 10),  # the last launch has one workload
        (5, 2, 2, 3, 100 + 7 + 4 * 10),  # two launches on one host, one on the other
        (5, 2, 9, 3, 100 + 2 * 10),  # more hosts than launches
    ],
)
def test_hours(experiments, workloads, hosts, launches, seconds):
    found = savings.hours(
        experiments, 10, first_launch_seconds=100, later_launch_seconds=7, workloads=workloads, hosts=hosts
    )
    assert found["launches"] == launches
    assert found["hours"] * 3600 == pytest.approx(seconds)
    assert found["hours"] == pytest.approx(found["launch_hours"] + found["benchmark_hours"])


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(savings.Spans)])
def test_a_strategy_whose_spans_are_not_known_is_left_out(name):
    rows = by_name(savings.strategies(dataclasses.replace(MEASURED, **{name: None}), 10, 2, 2))
    left = {
        "fetch_seconds": set(),
        "cold_launch_seconds": set(),
        "disk_launch_seconds": {"no_cache", "page_cache_and_jit", "one_launch_many_workloads", "many_hosts"},
        "warm_launch_seconds": {"no_cache", "shared_cache"},
        "benchmark_seconds": set(),
    }
    assert set(rows) == left[name]
