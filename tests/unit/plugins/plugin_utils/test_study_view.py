"""A study as people see it: what failed has failed and never wins, and trials have their own times."""

from __future__ import annotations

import optuna
import pytest
import synthetic_trials as synthetic

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    study,
    study_journal,
    study_view,
    sweep_space,
)


def shown(folder, direction="maximize", **changes):
    """The synthetic sweep's study, as it is shown."""
    objective = {"metric": "ttft_p99_seconds" if direction == "minimize" else synthetic.OBJECTIVE["metric"]}
    plan = synthetic.plan(name="s", sweep_dir=str(folder), objective={**objective, "direction": direction}, **changes)
    for trial in synthetic.sweep():
        records.write_trial(folder, trial)
    study_journal.open_study(plan, [*sweep_space.grid(plan["server"])[:8], sweep_space.make_point({}, {"new": 1})], [])
    storage = study_view.copy_of(study.SweepStudy(folder).study, plan)
    return optuna.load_study(study_name="s", storage=storage)


@pytest.fixture
def copy(tmp_path):
    return shown(tmp_path / "s")


def test_trials_are_as_their_records_say(copy):
    states = [trial.state.name for trial in copy.trials]
    # Trial 5 misses a hard SLO, 6 and 7 did not start; the last one waits.
    assert states == ["COMPLETE"] * 5 + ["FAIL"] * 3 + ["WAITING"]
    assert [trial.number for trial in copy.trials] == list(range(9))
    assert {key: copy.trials[7].user_attrs[key] for key in ("trial", "slot", "status", "error")} == {
        "trial": 7, "slot": "gpu2/0", "status": "failed", "error": "out_of_memory"
    }  # fmt: skip


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_failed_never_wins(tmp_path, direction):
    copy = shown(tmp_path / "s", direction)
    assert copy.best_value > 0
    assert all(trial.values is None for trial in copy.trials if trial.state.name == "FAIL")


def test_times_are_those_of_the_trials(copy):
    for trial, record in zip(copy.trials, synthetic.sweep(), strict=False):
        assert trial.datetime_start.timestamp() == record["start"]
        assert trial.duration.total_seconds() == pytest.approx(record["wall_seconds"], abs=0.1)


def test_the_metric_has_its_name(copy):
    assert copy.metric_names == [synthetic.OBJECTIVE["metric"]]


@pytest.mark.parametrize(("pruner", "steps"), [("none", 0), ("median", 2)])
def test_values_after_each_workload_are_for_pruners(tmp_path, pruner, steps):
    copy = shown(tmp_path / "s", search={"sampler": "grid", "pruner": pruner, "startup_trials": 5})
    assert len(copy.trials[0].intermediate_values) == steps


def test_a_change_of_the_copy_changes_nothing_of_the_sweep(tmp_path):
    copy = shown(tmp_path / "s")
    copy.set_user_attr("note", "x")
    copy.add_trial(optuna.trial.create_trial(value=1e9))
    again = study.SweepStudy(tmp_path / "s").study
    assert "note" not in again.user_attrs
    assert len(again.trials) == 9
