"""What a sweep will cost is computed from past trials where there are any, else from what is said to be assumed."""

import json

import pytest
import synthetic_trials as synthetic

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, sweep_forecast

MODEL = {"repo_id": "a/b"}


@pytest.fixture
def plan(tmp_path):
    def slot(host):
        return {"name": f"{host}/0", "members": [{"host": host, "gpus": []}]}

    return {
        "name": "s",
        "sweep_dir": str(tmp_path / "s"),
        "model": MODEL,
        "bytes_total": 8_600_000_000,  # 100 s at 86 MB/s
        "workloads": [{"name": "chat"}, {"name": "read"}],
        "workload_points": [{"name": "chat"}] * 3 + [{"name": "read"}],
        "feasible": [{"number": number, "gpus": 1} for number in range(8)],
        "infeasible": [{"number": 8, "reason": "where: x"}, {"number": 9, "reason": "where: x"}],
        "launches": 8,
        "slots": [slot("h1"), slot("h2")],
    }


def keep(folder, trials, model=MODEL):
    folder.mkdir(exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps({"model": model}))
    for trial in trials:
        records.write_trial(folder, trial)


def test_without_past_trials_every_assumption_is_said(plan):
    assert sweep_forecast.past_trials(plan) == (None, [])
    found = sweep_forecast.forecast(plan, None, [])
    assert (found["points"], found["launches"], found["slots"], found["hosts"]) == (10, 8, 2, 2)
    assert found["infeasible"] == {"where: x": 2}
    # Each slot: fetch 100 + cold 130 + 3 x warm 46, and 4 launches x 4 points x 30 s.
    assert found["hours"] == pytest.approx((230 + 138 + 480) / 3600)
    assert found["cache_saves_hours"] == pytest.approx(3 * (230 - 46) / 3600)
    assert found["sharing_saves_hours"] == pytest.approx(4 * 46 / 3600)
    said = "\n".join(sweep_forecast.lines("s", found))
    assert "10 points known, 8 launches (0 recorded, 8 left)" in said
    assert "infeasible: 2 points: where: x" in said
    assert "Assumed" in said


def test_own_trials_are_taken_first_and_count_as_done(plan, tmp_path):
    keep(tmp_path / "other", [synthetic.trial(number) for number in range(4)])
    keep(tmp_path / "s", [synthetic.trial(number) for number in range(2)])
    source, trials = sweep_forecast.past_trials(plan)
    assert (source, len(trials)) == ("s", 2)
    found = sweep_forecast.forecast(plan, source, trials)
    assert found["recorded"] == 2
    assert "(2 recorded, 6 left)" in sweep_forecast.lines("s", found)[0]
    assert found["hours"] > 0
    assert not any("Assumed" in note for note in found["assumptions"])


def test_another_sweep_of_the_model_says_how_long_but_nothing_is_done(plan, tmp_path):
    keep(tmp_path / "other", [synthetic.trial(number) for number in range(2)])
    keep(tmp_path / "foreign", [synthetic.trial(number) for number in range(5)], {"repo_id": "x/y"})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/sweep.json").write_text("{")
    source, trials = sweep_forecast.past_trials(plan)
    assert (source, len(trials)) == ("other", 2)
    assert sweep_forecast.forecast(plan, source, trials)["recorded"] == 0


def test_a_finished_sweep_takes_no_time(plan):
    trials = [synthetic.trial(number) for number in range(8)]
    assert sweep_forecast.forecast(plan, "s", trials)["hours"] == 0.0
