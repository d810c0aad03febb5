"""How a sweep goes, in its folder: counts that are those of the records, phases, an end that is estimated soberly."""

from __future__ import annotations

import json
import time
from pathlib import Path

import jsonschema
import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    durable_files,
    records,
    report_model,
    study,
    study_journal,
    sweep_space,
    sweep_status,
)

SCHEMA = json.loads((Path(__file__).parents[4] / "docs/status.schema.json").read_text())
METRIC = "output_tokens_per_second"
POINTS = [{"point": "chat/c1"}, {"point": "chat/max"}, {"point": "read/c8"}, {"point": "read/c8~2"}]


class Clock:
    """Goes when it is told to; from now on, as the study has its own."""

    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sweep(tmp_path, clock):
    """Four points on the slots a/0 and b/0; ``trial(number, ...)`` records one and tells the study."""
    return Sweep(tmp_path / "s", clock)


class Sweep:
    def __init__(self, folder, clock, infeasible=(), **changes):
        self.clock = clock
        self.plan = {
            "name": "s", "sweep_dir": str(folder), "objective": {"metric": METRIC, "direction": "maximize"},
            "server": {"space": {"a": [1, 2, 3, 4]}}, "slots": [{"name": "a/0"}, {"name": "b/0"}],
            "workload_points": POINTS, **changes,
        }  # fmt: skip
        asked = changes.get("search", {}).get("sampler") == "tpe"
        points = [] if asked else sweep_space.grid(self.plan["server"])
        study_journal.open_study(self.plan, points, list(infeasible))
        self.folder = folder
        self.study = study.SweepStudy(folder)
        self.slots = {
            name: sweep_status.SweepStatus(self.study.study, self.plan, name, clock) for name in ("a/0", "b/0")
        }

    def begin(self, slot):
        claim = self.study.claim(slot)
        self.slots[slot].trial_begins(claim)
        return claim

    def end(self, slot, claim, value=10.0, seconds=60.0, **fields):
        record = records.new_record(
            sweep="s",
            objective={"metric": METRIC, "direction": "maximize", "value": value},
            slot={"name": slot, "members": []},
            wall_seconds=seconds,
            **{"status": "complete", "eligible": True, "attempt": claim["attempt"], **fields},
            **{key: claim[key] for key in ("number", "params", "server_parameters")},
        )
        records.write_trial(self.folder, record)
        self.study.finish(claim, record)
        return self.slots[slot].trial_ended()

    @property
    def status(self):
        """What the file says; it keeps to the schema whatever happened."""
        found = json.loads((self.folder / "status.json").read_text())
        jsonschema.Draft202012Validator(SCHEMA).validate(found)
        return found

    @property
    def text(self):
        return (self.folder / "status.txt").read_text()


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_knows_every_phase():
    phase = SCHEMA["$defs"]["slot"]["properties"]["phase"]["anyOf"][0]["properties"]["name"]["enum"]
    assert set(phase) == set(records.PHASES) - {"unattributed"}


def test_a_slot_that_looks_while_another_claims(sweep, monkeypatch):
    sweep.begin("a/0")
    running, begin = [], sweep.study._queue._begin

    def halfway(*claimed):
        sweep.slots["a/0"].slot_is("ended")
        running.append(sweep.status["trials"]["running"])
        return begin(*claimed)

    monkeypatch.setattr(sweep.study._queue, "_begin", halfway)
    sweep.begin("b/0")
    assert running == [2]


def test_a_sweep_from_its_first_trial_to_its_last(sweep, clock):
    sweep.slots["a/0"].slot_is("starting")
    assert sweep.status["trials"] == {
        "complete": 0, "failed": 0, "pruned": 0, "infeasible": 0, "running": 0, "waiting": 4, "total": 4
    }  # fmt: skip
    assert sweep.status["estimated_end"] is None, "nothing was measured yet"
    first = sweep.begin("a/0")
    clock.now += 5
    second = sweep.begin("b/0")
    assert sweep.status["slots"]["b/0"] == {
        "state": "running", "since": clock.now, "phase": None,
        "trial": {"number": 1, "attempt": 1, "params": {"a": 2}, "start": clock.now},
    }  # fmt: skip
    clock.now += 60
    sweep.end("a/0", first, value=10.0)
    sweep.end("b/0", second, value=30.0, status="failed", eligible=False)
    found = sweep.status
    assert (found["trials"]["complete"], found["trials"]["failed"], found["trials"]["waiting"]) == (1, 1, 2)
    assert found["best"] == {"number": 0, "value": 10.0, "params": {"a": 1}}
    assert found["trial_seconds"] == 60.0
    assert found["estimated_end"] == clock.now + 60, "two trials on two slots"
    assert found["state"] == "running"
    for slot in ("a/0", "b/0"):
        sweep.end(slot, sweep.begin(slot), value=12.0)
        sweep.slots[slot].slot_is("ended")
    found = sweep.status
    assert found["state"] == "ended"
    assert found["estimated_end"] is None
    assert {slot["state"] for slot in found["slots"].values()} == {"ended"}


def test_the_end_says_what_the_report_says(sweep):
    for value, fields in ((10.0, {}), (None, {"status": "failed", "eligible": False}), (12.0, {}), (12.0, {})):
        sweep.end("a/0", sweep.begin("a/0"), value=value, **fields)
    report = report_model.build(sweep.plan | {"objective": None}, records.load_trials(sweep.folder))
    found = sweep.status
    assert {name: found["trials"][name] for name in records.STATUSES} == {
        name: report["counts"][name] for name in records.STATUSES
    }
    assert found["trials"]["total"] == report["counts"]["total"]
    assert found["best"]["number"] == report["best"]["number"] == 2, "equal trials rank by the lower number"
    assert found["best"]["value"] == report["best"]["value"]


def test_earlier_runs_count_and_tell_how_long_trials_take(sweep, clock):
    sweep.end("a/0", sweep.begin("a/0"), seconds=100.0)
    sweep_status.forget(sweep.folder)
    again = Sweep(sweep.folder, clock)
    again.slots["a/0"].slot_is("starting")
    assert again.status["trials"] | {"complete": 1, "waiting": 3} == again.status["trials"]
    assert again.status["trial_seconds"] == 100.0
    assert list(again.status["slots"]) == ["a/0"], "nothing of the run before"


def test_what_is_infeasible_is_counted_and_takes_no_time(tmp_path, clock):
    point = {**sweep_space.make_point({}, {"a": 9}), "reason": "9 is too much"}
    sweep = Sweep(tmp_path / "s", clock, infeasible=[point])
    sweep.slots["a/0"].slot_is("starting")
    assert (sweep.status["trials"]["infeasible"], sweep.status["trials"]["total"]) == (1, 5)
    assert sweep.status["trial_seconds"] is None
    assert "0 of 4 trials ended" in sweep.text


def test_a_trial_that_came_back_is_counted_once(sweep):
    claim = sweep.begin("a/0")
    sweep.study.requeue(claim)
    sweep.study.leave("a/0", "no route to host")
    sweep.slots["a/0"].slot_is("ended")
    found = sweep.status
    assert (found["trials"]["waiting"], found["trials"]["running"], found["trials"]["total"]) == (4, 0, 4)
    assert found["broke_off"] == [{"slot": "a/0", "reason": "no route to host"}]
    assert found["state"] == "running", "b/0 is still to come"
    assert "slot a/0 broke off: no route to host" in sweep.text


def test_a_trial_that_a_slot_left_behind_does_not_run(sweep):
    sweep.begin("a/0")
    sweep.study.leave("a/0", "No space left on device")
    sweep.slots["b/0"].slot_is("starting")
    assert (sweep.status["trials"]["running"], sweep.status["trials"]["waiting"]) == (0, 4)


def test_nothing_waits_once_the_search_was_ended(tmp_path, clock):
    sweep = Sweep(tmp_path / "s", clock, search={"sampler": "grid", "patience": 1})
    sweep.end("a/0", sweep.begin("a/0"), value=2.0)
    sweep.end("a/0", sweep.begin("a/0"), value=1.0)
    assert sweep.study.claim("a/0") is None
    sweep.slots["a/0"].slot_is("ended")
    found = sweep.status
    assert (found["stopped"], found["trials"]["waiting"], found["state"]) == ("no improvement in 1 trials", 0, "ended")


def test_what_a_sampler_will_still_ask_for_waits(tmp_path, clock):
    space = {"space": {"a": {"low": 1, "high": 100}}}
    search = {"sampler": "tpe", "trials": 7, "seed": 1, "startup_trials": 2}
    sweep = Sweep(tmp_path / "s", clock, server=space, search=search, slot_gpus=1)
    claim = sweep.begin("a/0")
    assert (sweep.status["trials"]["running"], sweep.status["trials"]["waiting"]) == (1, 6)
    sweep.end("a/0", claim)
    assert (sweep.status["trials"]["complete"], sweep.status["trials"]["waiting"]) == (1, 6)


def test_phases_are_as_far_as_the_worker_knows(sweep, clock):
    sweep.begin("a/0")
    clock.now += 1
    sweep.slots["a/0"].phase_begins("weights_load")
    slot = sweep.status["slots"]["a/0"]
    assert (slot["phase"], slot["since"], slot["trial"]["start"]) == (
        {"name": "weights_load"},
        clock.now,
        clock.now - 1,
    )
    sweep.slots["a/0"].phase_begins("benchmark", "read/c8")
    place = {"name": "benchmark", "point": "read/c8", "index": 3, "count": 4}
    assert sweep.status["slots"]["a/0"]["phase"] == place
    assert "benchmark read/c8 (3 of 4)" in sweep.text


@pytest.mark.parametrize(
    ("label", "index"), [("chat/c1", 1), ("chat/max:c8", 2), ("chat/max:c8:2", 2), ("read/c8~2", 4), ("other", None)]
)
def test_the_place_of_a_workload_point(label, index):
    assert sweep_status.place_of(POINTS, label) == {"point": label, "index": index, "count": 4}


def test_lines_are_few(sweep, clock):
    claims = [sweep.begin("a/0"), sweep.begin("b/0")]
    assert sweep.slots["a/0"].phase_begins("launching") is None
    clock.now += 61
    said = sweep.slots["a/0"].phase_begins("ready")
    assert said == "sweep s: 0 of 4 trials ended, 2 running, 2 waiting"
    assert sweep.slots["b/0"].phase_begins("ready") is None, "another slot has just said it"
    clock.now += 6
    said = sweep.end("a/0", claims[0], value=123.4)
    assert said == f"sweep s: 1 of 4 trials ended, 1 running, 2 waiting; best {METRIC} 123.4 (trial 0); about 60 s left"
    clock.now += 1
    assert sweep.end("b/0", claims[1]) is None


@pytest.mark.parametrize("damage", ["gone", "torn", "other"])
def test_files_that_are_taken_away_or_damaged_end_no_trial(sweep, damage):
    sweep.begin("a/0")
    file = sweep.folder / "status.json"
    if damage == "gone":
        file.unlink()
    else:
        file.write_text("{" if damage == "torn" else "{}")
    sweep.slots["a/0"].phase_begins("ready")
    assert sweep.status["trials"]["running"] == 1


def test_a_full_disk_ends_no_trial(sweep, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    sweep.begin("a/0")
    monkeypatch.setattr(durable_files, "write_whole", full)
    assert sweep.slots["a/0"].phase_begins("ready") is None


def test_nobody_reads_a_part_of_a_file(sweep):
    sweep.begin("a/0")
    assert sorted(path.name for path in sweep.folder.iterdir() if path.name.startswith((".", "status"))) == [
        "status.json", "status.lock", "status.txt"
    ]  # fmt: skip
    before = (sweep.folder / "status.json").stat().st_ino
    sweep.slots["a/0"].phase_begins("ready")
    assert (sweep.folder / "status.json").stat().st_ino != before, "replaced, not written over"


def test_slots_are_in_the_order_of_their_numbers():
    names = ["gpu10/0", "gpu2/1", "gpu2/0", "a/0"]
    assert sorted(names, key=lambda name: sweep_status._natural((name, None))) == ["a/0", "gpu2/0", "gpu2/1", "gpu10/0"]


@pytest.mark.parametrize(("seconds", "shown"), [(-3, "0 s"), (59.6, "60 s"), (600, "10 min"), (9000, "2.5 h")])
def test_spans(seconds, shown):
    assert sweep_status._span(seconds) == shown
