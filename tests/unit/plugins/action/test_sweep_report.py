from __future__ import annotations

import importlib
import json
import shutil

import pytest
import synthetic_trials as synthetic
from ansible.errors import AnsibleError

from ansible_collections.preheat.fleet.plugins.action import sweep_report
from ansible_collections.preheat.fleet.plugins.plugin_utils import records, report_model


class Display:
    def __init__(self):
        self.lines = []

    def display(self, line):
        self.lines.append(line)


class Task:
    def __init__(self, check_mode, args):
        self.check_mode, self.args, self.async_val, self.diff = check_mode, args, 0, False


@pytest.fixture
def run(monkeypatch):
    """The action with its arguments; returns its result and what it displayed."""

    def run(check_mode=False, **args):
        action = sweep_report.ActionModule.__new__(sweep_report.ActionModule)
        action._task, action._display = Task(check_mode, args), Display()
        action._load_name = "preheat.fleet.sweep_report"  # ansible-core < 2.19 names it in errors
        monkeypatch.setattr(sweep_report.ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
        return action.run(task_vars={}), action._display.lines

    return run


@pytest.fixture
def results(tmp_path):
    for trial in synthetic.sweep():
        records.write_trial(tmp_path / "synthetic", trial)
    (tmp_path / "synthetic" / "sweep.json").write_text(json.dumps(synthetic.plan()))
    return tmp_path


def test_the_report(run, results):
    result, lines = run(results_dir=str(results), sweep_name="synthetic")
    assert result["changed"]
    assert sorted(path.name for path in (results / "synthetic").iterdir()) == [
        "best.yml", "report.html", "report.json", "report.md", "sweep.json", "trials", "trials.csv",
    ]  # fmt: skip
    assert result["report"] == str(results / "synthetic" / "report.html")
    assert result["best"] == str(results / "synthetic" / "best.yml")
    assert result["best_number"] == 3
    assert result["best_params"] == {"chunked_prefill_size": 8192}
    assert result["objective"]["value"] == pytest.approx(1392.9, rel=1e-3)
    assert result["counts"]["complete"] == 6
    assert result["trials_left"] == 0
    assert lines == result["summary"]
    assert lines[0] == "sweep synthetic: 8 trials (6 complete, 2 failed)"
    assert lines[-1] == f"report: {result['report']}"


def test_again_changes_nothing(run, results):
    folder = str(results / "synthetic")
    assert run(sweep_dir=folder)[0]["changed"]
    assert not run(sweep_dir=folder)[0]["changed"]


def test_check_mode(run, results):
    result, _lines = run(check_mode=True, sweep_dir=str(results / "synthetic"))
    assert result["changed"]
    assert not (results / "synthetic" / "report.html").exists()


def test_no_trial_can_win(run, tmp_path):
    records.write_trial(tmp_path / "synthetic", synthetic.failed_trial(0))
    result, lines = run(sweep_dir=str(tmp_path / "synthetic"))
    assert result["best"] is None
    assert "best: none; no trial can win" in lines


@pytest.mark.parametrize(
    ("name", "says"),
    [("synthtic", "Known sweeps there: synthetic."), ("", "no finished trial"), ("x/y", "no results of")],
)
def test_a_sweep_that_is_not_there(run, results, name, says):
    (results / "x").mkdir()
    with pytest.raises(AnsibleError, match=says):
        run(results_dir=str(results), sweep_name=name) if name else run(sweep_dir=str(results / "x"))


@pytest.mark.parametrize(("text", "says"), [("{", "cannot be read as JSON"), ("[]", "is not the plan of a sweep")])
def test_a_corrupt_plan(run, results, text, says):
    (results / "synthetic" / "sweep.json").write_text(text)
    with pytest.raises(AnsibleError, match=rf"sweep\.json {says}"):
        run(sweep_dir=str(results / "synthetic"))


def test_a_corrupt_record(run, results):
    (records.trial_dir(results / "synthetic", 2) / "trial.json").write_text("{")
    with pytest.raises(AnsibleError, match=r"0002/trial\.json"):
        run(sweep_dir=str(results / "synthetic"))


def test_a_missing_library_is_named(run, results, monkeypatch):
    monkeypatch.setattr(sweep_report.libraries, "REPORT", ("json", "no_such_library"))
    with pytest.raises(AnsibleError, match=r"needs no_such_library, .* Install requirements/controller.txt"):
        run(sweep_dir=str(results / "synthetic"))


def test_what_fetching_took_is_read(run, results):
    warm = {"hosts": {"gpu1": {"seconds": 77.0, "bytes_fetched": synthetic.MODEL_BYTES}}}
    (results / "synthetic" / "fetch.json").write_text(json.dumps(warm))
    run(sweep_dir=str(results / "synthetic"), savings={"experiments": 10})
    model = json.loads((results / "synthetic" / "report.json").read_text())
    assert model["savings"]["experiments"] == 10
    assert model["savings"]["spans"]["fetch_seconds"] == (77.0 + 31.0) / 2  # of the host, and of the first trial


def test_several_sweeps(run, results):
    shutil.copytree(results / "synthetic", results / "other")
    result, lines = run(results_dir=str(results), compare=["synthetic", "other"])
    assert result["changed"]
    assert result["report"] == str(results / "comparison.html")
    assert [row["sweep"] for row in result["comparison"]["sweeps"]] == ["synthetic", "other"]
    assert lines[1].startswith("other: output_tokens_per_second_per_gpu 1392.9")
    assert not (results / "synthetic" / "report.html").exists()
    assert not run(results_dir=str(results), compare=["synthetic", "other"])[0]["changed"]


def test_a_sweep_to_compare_that_is_not_there(run, results):
    with pytest.raises(AnsibleError, match="Known sweeps there: synthetic"):
        run(results_dir=str(results), compare=["synthetic", "othr"])


def test_savings_for_less_than_nothing(run, results):
    with pytest.raises(AnsibleError, match=r"savings\.hosts=-1 is negative"):
        run(sweep_dir=str(results / "synthetic"), savings={"hosts": -1})


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"sweep_name": "a"},
        {"sweep_name": "a", "sweep_dir": "b"},
        {"compare": ["a"]},
        {"sweep_dir": "a", "savings": {"x": 1}},
    ],
)
def test_wrong_arguments(run, args):
    with pytest.raises(AnsibleError):
        run(**args)


def test_the_summary_names_ties_and_what_is_left():
    trials = [synthetic.trial(number) for number in (0, 1)]
    lines = sweep_report.summary(report_model.build(synthetic.plan(), trials), "r.html")
    assert lines[0] == "sweep synthetic: 2 trials (2 complete, 6 left over)"
    assert lines[2].endswith("tied with 1")


def test_the_summary_names_slots_that_broke_off():
    plan = synthetic.plan(broke_off=[{"slot": "gpu3/0", "reason": "no route to host"}])
    lines = sweep_report.summary(report_model.build(plan, [synthetic.trial(0)]), "r.html")
    assert "slot gpu3/0 broke off: no route to host" in lines


def test_the_summary_names_hosts_that_were_set_aside_and_unequal_gpus():
    aside = [{"host": "gpu1", "reason": "failures in a row there: host_lost x 3"}]
    plan = synthetic.plan(set_aside=aside, unequal_gpus="have unequal GPUs (A: gpu1; B: gpu2).")
    lines = sweep_report.summary(report_model.build(plan, [synthetic.trial(0)]), "r.html")
    assert "host gpu1 was set aside: failures in a row there: host_lost x 3" in lines
    assert "trials are ranked across hosts that have unequal GPUs (A: gpu1; B: gpu2)." in lines


def test_the_documentation_names_the_same_options():
    import yaml

    module = importlib.import_module("ansible_collections.preheat.fleet.plugins.modules.sweep_report")
    assert set(yaml.safe_load(module.DOCUMENTATION)["options"]) == set(sweep_report.ARGUMENTS)
