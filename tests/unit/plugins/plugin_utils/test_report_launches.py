from __future__ import annotations

import pytest
import synthetic_trials as synthetic

from ansible_collections.preheat.fleet.plugins.plugin_utils import report_launches


def test_cold_and_warm_launches():
    cold, warm = report_launches.cache_groups(synthetic.sweep())
    assert (cold["weights_rung"], cold["jit"], cold["trials"]) == ("hub", "cold", [0])
    assert (warm["weights_rung"], warm["jit"], warm["trials"]) == ("page_cache", "warm", [1, 2, 3, 4, 5])
    assert (cold["hub_bytes"], warm["hub_bytes"]) == (synthetic.MODEL_BYTES, 0)
    assert (cold["weights_load_seconds"], warm["weights_load_seconds"]) == (8.4, 2.1)
    assert cold["startup_seconds"] == pytest.approx(0.6 + 9.5 + 8.4 + 0.3 + 4.2 + 1.1 + 0.2)
    assert cold["compile_seconds"] == pytest.approx(4.2 + 1.1)


def test_a_launch_whose_log_gave_no_phases_has_its_time():
    trial = synthetic.trial(0, phases={"container_create": 1.0, "benchmark": 5.0})
    trial["phases"][1]["start"] = 45.0
    assert report_launches.launch_seconds(trial) == 45.0


def test_a_launch_without_a_benchmark_has_none():
    assert report_launches.launch_seconds(synthetic.failed_trial(0)) is None


@pytest.mark.parametrize(
    ("cache", "state"),
    [
        ({"jit": "cold"}, "cold"),
        ({"jit": {"state": "partial", "files_added": 9}}, "partial"),
        ({"jit": {}}, "unknown"),
        ({"jit": None}, "unknown"),
        ({}, "unknown"),
        (None, "unknown"),
    ],
)
def test_jit_state(cache, state):
    assert report_launches.jit_state({"cache": cache}) == state


def test_hosts():
    found = report_launches.host_groups(synthetic.sweep(), maximise=True)
    assert [(row["host"], row["trials"], row["failed"]) for row in found["hosts"]] == [("gpu1", 4, 1), ("gpu2", 4, 1)]
    assert found["hosts"][1]["value_best"] == pytest.approx(1392.9, rel=1e-3)
    assert found["same_configuration_spread"] is None  # every configuration ran once


def test_the_same_configuration_on_several_hosts():
    same = {"params": {"a": 1}, "server_parameters": {"a": 1}}
    trials = [
        synthetic.trial(n, [synthetic.workload(rate=rate)], **same) for n, rate in enumerate((100, 110, 100, 110))
    ]
    found = report_launches.host_groups(trials, maximise=True)
    assert found["same_configuration_spread"] == pytest.approx(0.1)
    assert found["same_configurations"] == 1


def test_the_best_of_a_host_where_less_is_better():
    found = report_launches.host_groups([synthetic.trial(0), synthetic.trial(2)], maximise=False)
    values = [trial["objective"]["value"] for trial in (synthetic.trial(0), synthetic.trial(2))]
    assert found["hosts"][0]["value_best"] == min(values)


def test_no_host():
    assert report_launches.host_groups([], maximise=True)["hosts"] == []
