"""A launch: its phases on the trial's clock, and the names of its containers."""

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import trial_launch
from ansible_collections.preheat.fleet.plugins.plugin_utils.trial_launch import LAUNCHING, Launched


def phase(name, start, seconds):
    return {"name": name, "start": start, "seconds": seconds}


@pytest.mark.parametrize(
    ("skew", "offset"),
    [(0.0, 0.0), (500.0, 500.0), (-500.0, -500.0), (0.9, 0.0)],
    ids=["same clock", "host ahead", "host behind", "within the calls"],
)
def test_a_launch_lies_within_its_calls(skew, offset):
    host = [phase("container_create", 1001 + skew, 2.0), phase("engine_start", 1003 + skew, 6.0)]
    launched = Launched({}, host, {}, called=1000.0, returned=1010.0)
    assert launched.offset_seconds() == pytest.approx(offset)
    create, engine, before, after = launched.phases_since(990.0)
    assert create["start"] == pytest.approx(11.0 + skew - offset)
    assert engine["start"] == create["start"] + 2
    assert (before["name"], after["name"]) == (LAUNCHING, LAUNCHING)
    assert before["start"] == 10.0
    assert before["start"] + before["seconds"] == pytest.approx(create["start"])
    assert after["start"] == pytest.approx(engine["start"] + 6)
    assert after["start"] + after["seconds"] == 20.0


def test_a_launch_that_failed_before_its_first_phase():
    launched = Launched({"failed": True}, [], {}, called=1000.0, returned=1010.0)
    assert launched.offset_seconds() == 0.0
    assert launched.phases_since(995.0) == [phase(LAUNCHING, 5.0, 10.0)]


def test_names_that_docker_takes():
    assert trial_launch.container_name("a b", "gpu1/0", 7) == "preheat-a-b-gpu1-0-0007"
