from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic_trials as synthetic

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, report_savings

H100 = Path(__file__).parents[4] / "docs/example-h100/h100"


def launch(number, seconds, rung="page_cache", jit="warm", **fields):
    """A trial whose launch takes C(seconds), with two workloads of 10 s each."""
    spans = {"model_fetch": 0.4, "container_create": 1.0, "engine_start": seconds - 1.0, "benchmark": 20.0}
    cache = {"weights_rung": rung, "resident_fraction_before": 1.0, "jit": jit, "hub_bytes": 0}
    workloads = [synthetic.workload("chat"), synthetic.workload("read")]
    trial = synthetic.trial(number, workloads, phases=spans, cache=cache, **fields)
    trial["phases"][0]["bytes"] = 0
    return trial


def measured():
    return [launch(0, 90, "hub", "cold"), launch(1, 80, "disk", "cold"), launch(2, 40), launch(3, 44), launch(4, 300)]


def warm(seconds=100.0, size=synthetic.MODEL_BYTES):
    return {"hosts": {"gpu1": {"seconds": seconds, "bytes_fetched": size, "source": "hub"}}}


def test_everything_measured():
    found = report_savings.savings_of(synthetic.plan(), measured(), warm())
    assert found["spans"] == {
        "fetch_seconds": 100.0,
        "cold_launch_seconds": 90.0,
        "disk_launch_seconds": 80.0,
        "warm_launch_seconds": 44.0,  # the median: one launch that compiled a kernel does not stand for all
        "benchmark_seconds": 10.0,
    }
    assert (found["experiments"], found["workloads"], found["hosts"]) == (50, 2, 2)
    assert len(found["strategies"]) == 5
    assert not [note for note in found["assumptions"] if "assumed" in note]
    own = 190 + 2 * 44 + 3 * 2 * 10  # five launches of two workloads on two hosts
    assert found["this_sweep"]["hours"] * 3600 == pytest.approx(own)
    assert found["this_sweep"]["hours_no_cache"] * 3600 == pytest.approx(10 * (190 + 10))


def test_what_was_not_measured_is_said():
    found = report_savings.savings_of(synthetic.plan(), [launch(0, 90, "page_cache", "cold")], warm())
    assert found["spans"]["warm_launch_seconds"] == 90
    notes = [note for note in found["assumptions"] if "assumed" in note]
    assert len(notes) == 3  # the disk, warm JIT caches, the number of hosts
    assert "weights from page_cache and cold JIT caches instead" in notes[1]


@pytest.mark.parametrize(
    ("plan", "fetched", "given", "seconds", "says"),
    [
        (synthetic.plan(), warm(), {"fetch_seconds": 12}, 12, "given"),
        (synthetic.plan(), warm(), {}, 100, "measured"),
        (synthetic.plan(), warm(size=1000), {}, synthetic.MODEL_BYTES / 86e6, "assumed"),  # most of it was there
        (synthetic.plan(), {}, {"hub_mb_per_second": 10}, synthetic.MODEL_BYTES / 10e6, "assumed"),
        ({}, {}, {}, None, "nothing to compute"),
    ],
)
def test_fetching(plan, fetched, given, seconds, says):
    found = report_savings.savings_of(plan, measured(), fetched, given)
    assert found["spans"]["fetch_seconds"] == (None if seconds is None else pytest.approx(seconds))
    assert says in found["assumptions"][0]
    assert bool(found["strategies"]) == (seconds is not None)


def test_a_fetch_of_a_trial_counts():
    trial = launch(0, 90, "hub", "cold")
    trial["phases"][0] |= {"seconds": 33.0, "bytes": synthetic.MODEL_BYTES}
    assert report_savings.savings_of(synthetic.plan(), [trial])["spans"]["fetch_seconds"] == 33.0


def test_what_is_given_goes_before_what_was_measured():
    given = {"experiments": 10, "workloads": 5, "hosts": 7, "benchmark_seconds": 170}
    found = report_savings.savings_of(synthetic.plan(), measured(), warm(), given)
    assert (found["experiments"], found["workloads"], found["hosts"]) == (10, 5, 7)
    assert found["spans"]["benchmark_seconds"] == 170
    assert "A benchmark takes 170 s: given." in found["assumptions"]


@pytest.mark.parametrize("state", ["warm", {"state": "warm", "files_before": 4, "files_added": 0}])
def test_the_state_of_the_jit_caches_old_and_new(state):
    found = report_savings.savings_of(
        synthetic.plan(), [launch(0, 90, "hub", "cold"), launch(1, 50, jit=state)], warm()
    )
    assert found["spans"]["warm_launch_seconds"] == 50


def test_reading_the_weights_into_memory_is_part_of_a_launch():
    trial = launch(0, 40)
    trial["phases"].insert(1, {"name": "weights_preload", "start": 0.4, "seconds": 5.0})
    assert report_savings.savings_of(synthetic.plan(), [trial], warm())["spans"]["warm_launch_seconds"] == 45


@pytest.mark.parametrize("trials", [[], [synthetic.failed_trial(0)], [records.new_record(status="complete")]])
def test_nothing_measured(trials):
    found = report_savings.savings_of(synthetic.plan(), trials)
    assert found["strategies"] == []
    assert found["this_sweep"] == {"experiments": 0, "hours": None, "hours_no_cache": None}


def test_the_run_on_an_h100():
    """What docs/performance.md says of the same run with Triton: 6.54 h without a cache, 4.18 h with a shared model."""
    plan = json.loads((H100 / "sweep.json").read_text())
    fetched = json.loads((H100 / report_savings.FETCH_FILE).read_text())
    found = report_savings.savings_of(plan, records.load_trials(H100), fetched, {"benchmark_seconds": 170})
    hours = {row["strategy"]: round(row["hours"], 2) for row in found["strategies"]}
    assert hours["no_cache"] == 6.54
    assert hours["shared_cache"] == 4.18
    assert hours["page_cache_and_jit"] < 3.2
