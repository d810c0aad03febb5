from __future__ import annotations

import json
import math
import os

import pytest
import synthetic_trials as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.preheat.fleet.plugins.plugin_utils import durable_files, records


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = synthetic.trial(3)
    path = records.write_trial(tmp_path, record, {"server.log": "ready\n", "bench-chat-c8.jsonl": b"{}\n"})
    assert path == tmp_path / "trials" / "0003" / "trial.json" == records.trial_dir(tmp_path, 3) / "trial.json"
    assert records.load_trials(tmp_path) == [record]
    assert sorted(os.listdir(path.parent)) == ["bench-chat-c8.jsonl", "server.log", "trial.json"]
    assert (path.parent / "server.log").read_text() == "ready\n"


def test_trials_come_by_number(tmp_path):
    for number in (10, 2, 7):
        records.write_trial(tmp_path, synthetic.trial(number))
    assert [record["number"] for record in records.load_trials(tmp_path)] == [2, 7, 10]


def test_no_results_yet(tmp_path):
    assert records.load_trials(tmp_path / "nothing") == []


def test_a_trial_under_way_is_not_loaded(tmp_path):
    records.trial_dir(tmp_path, 0).mkdir(parents=True)
    (records.trial_dir(tmp_path, 0) / ".trial.json.1.tmp").write_text('{"half": ')
    assert records.load_trials(tmp_path) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_does_not_have_is_written_as_null(tmp_path, value):
    record = synthetic.trial(0, cache={"weights_rung": "disk", "resident_fraction_before": value, "parts": [value]})
    path = records.write_trial(tmp_path, record)
    written = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert written["cache"] == {"weights_rung": "disk", "resident_fraction_before": None, "parts": [None]}


def test_the_files_are_there_before_the_record(tmp_path, monkeypatch):
    written = []
    durably = durable_files.write_durably

    def write(path, text):
        written.append(path.name)
        durably(path, text)

    monkeypatch.setattr(durable_files, "write_durably", write)
    records.write_trial(tmp_path, synthetic.trial(0), {"server.log": "a", "bench.jsonl": "b"})
    assert written == ["server.log", "bench.jsonl", "trial.json"]


def test_a_write_that_fails_leaves_the_earlier_record(tmp_path, monkeypatch):
    record = synthetic.trial(0)
    path = records.write_trial(tmp_path, record)

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        records.write_trial(tmp_path, {**record, "status": "failed"})
    assert os.listdir(path.parent) == ["trial.json"]
    assert records.load_trials(tmp_path) == [record]


def test_new_folders_are_synced_in_their_parents(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(durable_files, "sync_folder", synced.append)
    records.write_trial(tmp_path / "sweep", synthetic.trial(0))
    assert synced[:3] == [tmp_path, tmp_path / "sweep", tmp_path / "sweep" / "trials"]


def test_text_that_is_not_unicode_does_not_lose_the_trial(tmp_path):
    path = records.write_trial(tmp_path, synthetic.trial(0), {"server.log": "bad \udcff byte"})
    assert (path.parent / "server.log").read_text() == "bad ? byte"


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".", "..", "trial.json"])
def test_a_file_name_that_is_none(tmp_path, name):
    with pytest.raises(records.RecordError, match="plain file name"):
        records.write_trial(tmp_path, synthetic.trial(0), {name: "x"})
    assert records.load_trials(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": 2}, "has schema_version 2; this preheat reads 1"),
        ({"schema_version": None}, "has schema_version None"),
        ({"status": "done"}, "status is 'done'. Allowed: complete, failed, pruned, infeasible"),
        ({"number": -1}, "not a whole number"),
        ({"number": True}, "not a whole number"),
        ({"number": "3"}, "not a whole number"),
        ({"workloads": {}}, "workloads is {}, not a list"),
        ({"workloads": ["chat"]}, "a workload is 'chat'"),
        ({"params": None}, "params is None, not a dict"),
        ({"error": "boom"}, "error is 'boom', not a dict"),
        ({"phases": [{"name": "lunch", "start": 0, "seconds": 1}]}, "is none of model_fetch"),
        ({"phases": [{"name": "ready", "start": 0, "seconds": "1"}]}, "seconds '1', not a number"),
        ({"phases": [{"name": "ready", "seconds": 1}]}, "start None, not a number"),
        ({"phases": ["ready"]}, "is none of"),
    ],
)
def test_what_is_not_a_record(tmp_path, change, says):
    record = synthetic.trial(0) | change
    with pytest.raises(records.RecordError, match="cannot be written") as caught:
        records.write_trial(tmp_path, record)
    assert says in str(caught.value)


@pytest.mark.parametrize("missing", ["sweep", "number", "params", "status", "phases", "workloads"])
def test_a_missing_field(missing):
    record = synthetic.trial(0)
    del record[missing]
    assert records.problems_of(record) == [f"lacks {missing}"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "cannot be read as JSON"),
        ('{"schema_version": 1,', "cannot be read as JSON"),
        ("[]", "is a list, not a mapping"),
        ('{"schema_version": 99}', "has schema_version 99"),
        (b"\xff\xfe", "cannot be read as JSON"),
    ],
)
def test_a_bad_file_is_named_and_not_skipped(tmp_path, content, says):
    records.write_trial(tmp_path, synthetic.trial(0))
    bad = records.trial_dir(tmp_path, 1) / "trial.json"
    bad.parent.mkdir()
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(records.RecordError) as caught:
        records.load_trials(tmp_path)
    assert f"{bad}: {says}" in str(caught.value)


def test_all_bad_files_are_named_at_once(tmp_path):
    for number in (0, 1):
        folder = records.trial_dir(tmp_path, number)
        folder.mkdir(parents=True)
        (folder / "trial.json").write_text("{")
    with pytest.raises(records.RecordError) as caught:
        records.load_trials(tmp_path)
    assert "0000/trial.json" in str(caught.value)
    assert "0001/trial.json" in str(caught.value)


def test_a_record_in_the_wrong_folder(tmp_path):
    path = records.write_trial(tmp_path, synthetic.trial(0))
    path.parent.rename(records.trial_dir(tmp_path, 5))
    with pytest.raises(records.RecordError, match="record of trial 0 in the folder of another"):
        records.load_trials(tmp_path)


def test_a_new_record_is_a_record_and_shares_nothing():
    assert records.problems_of(records.new_record(sweep="a")) == []
    records.new_record()["params"]["x"] = 1
    assert records.new_record()["params"] == {}
    with pytest.raises(records.RecordError, match="has no field nmuber"):
        records.new_record(nmuber=1)


@pytest.mark.parametrize(
    ("spans", "wall", "unattributed"),
    [
        ([], 5.0, 5.0),
        ([(0, 2), (2, 2)], 5.0, 1.0),
        ([(2, 2), (0, 2)], 4.0, 0.0),
        ([(0, 3), (1, 1)], 5.0, 2.0),  # inside another: counted once
        ([(0, 3), (2, 2)], 5.0, 1.0),  # overlapping: counted once
        ([(-1, 3)], 5.0, 3.0),  # a host's clock that is behind
        ([(4, 3)], 5.0, 4.0),  # a host's clock that is ahead
        ([(0, 9)], 5.0, 0.0),
    ],
)
def test_unattributed_is_what_no_phase_covers(spans, wall, unattributed):
    phases = [{"name": "benchmark", "start": start, "seconds": seconds} for start, seconds in spans]
    finished = records.finish_phases(phases, wall)
    assert finished[-1] == {"name": "unattributed", "start": 0.0, "seconds": unattributed}


def test_phases_come_in_their_order_and_keep_what_they_say():
    phases = [
        {"name": "unattributed", "start": 0.0, "seconds": 99.0},
        {"name": "benchmark", "label": "chat/c8", "start": 8.0, "seconds": 1.0},
        {"name": "benchmark", "label": "chat/c1", "start": 7.0, "seconds": 1.0},
        {"name": "model_fetch", "start": 0.0, "seconds": 1.0, "bytes": 5},
    ]
    finished = records.finish_phases(phases, 10.0)
    assert [phase.get("label", phase["name"]) for phase in finished] == [
        "model_fetch",
        "chat/c1",
        "chat/c8",
        "unattributed",
    ]
    assert finished[0]["bytes"] == 5
    assert finished[-1]["seconds"] == 7.0


def test_a_phase_nobody_knows():
    with pytest.raises(records.RecordError, match="lunch"):
        records.finish_phases([{"name": "lunch", "start": 0.0, "seconds": 1.0}], 10.0)


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 100.0), max_size=8), st.floats(0.0, 50.0))
def test_phases_of_a_trial_sum_to_its_wall_time(seconds, rest):
    begun, phases = 0.0, []
    for part in seconds:
        phases.append({"name": "benchmark", "start": begun, "seconds": part})
        begun += part
    finished = records.finish_phases(phases, begun + rest)
    assert sum(phase["seconds"] for phase in finished) == pytest.approx(begun + rest, abs=1e-5)
