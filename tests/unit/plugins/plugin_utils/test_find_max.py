"""The largest load that meets the limits, on servers whose answers are known."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.preheat.fleet.plugins.plugin_utils import find_max

SPEC = {"over": "concurrency", "low": 1, "high": 256, "tolerance": 0.1, "max_probes": 30}


def search(meets, **changes):
    """All probes of a search, and its outcome; ``meets(load, times)`` is the server."""
    spec, probes = SPEC | changes, []
    while (load := find_max.next_load(probes, spec)) is not None:
        probes.append((load, meets(load, sum(load == other for other, _met in probes))))
        assert len(probes) <= spec["max_probes"]
    return probes, find_max.outcome(probes, spec)


def test_doubling_then_bisection_and_nothing_decides_alone():
    probes, found = search(lambda load, _times: load <= 21)
    assert [load for load, _met in probes] == [1, 2, 4, 8, 16, 32, 32, 24, 24, 20, 22, 22, 20]
    assert found == {"over": "concurrency", "value": 20, "limit": "slo", "confirmed": True, "consistent": True}


@given(st.integers(1, 300), st.integers(1, 8), st.integers(8, 300), st.floats(0.01, 0.5))
def test_the_answer_is_within_the_tolerance(most, low, high, tolerance):
    _probes, found = search(lambda load, _times: load <= most, low=low, high=high, tolerance=tolerance, max_probes=99)
    if most < low:
        assert (found["value"], found["limit"]) == (None, "low")
    elif most >= high:
        assert (found["value"], found["limit"]) == (high, "high")
    else:
        assert most - max(1, tolerance * most) <= found["value"] <= most
        assert (found["limit"], found["confirmed"]) == ("slo", True)


@given(st.floats(0.1, 300), st.floats(0.02, 0.5))
def test_a_rate_is_found_too(most, tolerance):
    spec = {"over": "request_rate", "low": 0.1, "high": 200.0, "tolerance": tolerance, "max_probes": 99}
    _probes, found = search(lambda load, _times: load <= most, **spec)
    assert min(most, 200.0) * (1 - tolerance) - 0.01 * most <= found["value"] <= most
    assert found["limit"] == ("high" if most >= 200 else "slo")


@given(st.integers(0, 2**32))
def test_on_a_noisy_server_it_ends_and_the_answer_was_measured_to_meet(seed):
    noise = random.Random(seed)
    probes, found = search(lambda load, _times: load < 40 * noise.uniform(0.3, 2))
    if found["value"] is not None:
        assert (found["value"], True) in probes
        for load in {load for load, _met in probes if load < found["value"]}:
            outcomes = [met for other, met in probes if other == load]
            assert outcomes.count(False) < 2, "a smaller load failed for good"


def test_one_failure_does_not_bound_the_search():
    probes, found = search(lambda load, times: load <= 100 and not (load == 4 and times == 0))
    assert [met for load, met in probes if load == 4] == [False, True, True]
    assert found["value"] > 90
    assert found["consistent"] is False


def test_an_answer_that_does_not_hold_is_given_up():
    probes, found = search(lambda load, times: load <= 16 or (load == 32 and times == 0), high=32)
    assert [met for load, met in probes if load == 32] == [True, False, False]
    assert 16 <= found["value"] < 32


@pytest.mark.parametrize(("most", "value"), [(1000, 4), (0, None), (2, 2)])
def test_the_number_of_probes_is_bounded(most, value):
    probes, found = search(lambda load, _times: load <= most, max_probes=3)
    assert len(probes) <= 3
    assert (found["value"], found["limit"]) == (value, "low" if value is None else "max_probes")


def test_no_probe_no_answer():
    assert find_max.outcome([], SPEC)["value"] is None
