"""The study: claims are exclusive, finished trials stay finished, records are the truth."""

import json
import multiprocessing
import os

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    durable_files,
    records,
    study,
    study_journal,
    sweep_owner,
    sweep_space,
)

SERVER = {"base": {"b": 1}, "space": {"a": [1, 2, 3], "c": [["x"], None]}}


@pytest.fixture
def plan(tmp_path):
    return {
        "name": "s",
        "sweep_dir": str(tmp_path / "s"),
        "objective": {"metric": "output_tokens_per_second", "direction": "maximize"},
        "server": SERVER,
    }


def points(server=SERVER):
    return sweep_space.grid(server)


def record_of(claim, status="complete", value=10.0):
    return records.new_record(
        sweep="s",
        status=status,
        objective={"metric": "m", "direction": "maximize", "value": value},
        eligible=status == "complete",
        **{key: claim[key] for key in ("number", "params", "server_parameters")},
    )


def test_trials_are_claimed_in_order_until_none_waits(plan):
    assert study_journal.open_study(plan, points(), []) == {"waiting": 6, "recorded": 0}
    worker = study.SweepStudy(plan["sweep_dir"])
    claims = [worker.claim("h/0") for _ in range(6)]
    assert [claim["number"] for claim in claims] == list(range(6))
    assert claims[0]["params"] == {"a": 1, "c": ["x"]}
    assert worker.claim("h/0") is None
    assert worker.running() == 6


def _claim_all(sweep_dir, controller_pid, queue):
    worker = study.SweepStudy(sweep_dir, controller_pid)
    while claim := worker.claim("h"):
        queue.put(claim["number"])
    queue.put(None)


def test_slots_never_claim_the_same_trial(plan):
    server = {"space": {"a": list(range(40))}}
    study_journal.open_study(plan, points(server), [])
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_claim_all, args=(plan["sweep_dir"], os.getppid(), queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    claimed, ended = [], 0
    while ended < len(workers):
        number = queue.get(timeout=60)
        ended, claimed = (ended + 1, claimed) if number is None else (ended, [*claimed, number])
    assert sorted(claimed) == list(range(40))


def test_a_rerun_skips_what_is_recorded_and_runs_what_was_under_way(plan):
    study_journal.open_study(plan, points(), [])
    worker = study.SweepStudy(plan["sweep_dir"])
    first, failed, _under_way = (worker.claim("h/0") for _ in range(3))
    for claim, status in ((first, "complete"), (failed, "failed")):
        records.write_trial(plan["sweep_dir"], record_of(claim, status))
        worker.finish(claim, record_of(claim, status))
    assert study_journal.open_study(plan, points(), []) == {"waiting": 4, "recorded": 2}
    assert study.SweepStudy(plan["sweep_dir"]).claim("h/0")["number"] == 2


def test_a_record_counts_even_if_the_study_was_never_told(plan):
    study_journal.open_study(plan, points(), [])
    claim = study.SweepStudy(plan["sweep_dir"]).claim("h/0")
    records.write_trial(plan["sweep_dir"], record_of(claim))
    assert study_journal.open_study(plan, points(), [])["waiting"] == 5


def test_a_torn_journal_is_no_loss(plan):
    study_journal.open_study(plan, points(), [])
    journal = f"{plan['sweep_dir']}/study.journal"
    with open(journal, "ab") as stream:
        stream.write(b'{"op_code": 4, "trial')
    assert study_journal.open_study(plan, points(), [])["waiting"] == 6


def test_failed_trials_run_again_when_asked(plan):
    study_journal.open_study(plan, points(), [])
    claim = study.SweepStudy(plan["sweep_dir"]).claim("h/0")
    records.write_trial(plan["sweep_dir"], record_of(claim, "failed"))
    assert study_journal.open_study(plan, points(), [], retry_failed=True)["waiting"] == 6


def test_new_points_get_new_numbers(plan):
    study_journal.open_study(plan, points(), [])
    worker = study.SweepStudy(plan["sweep_dir"])
    for _ in range(6):
        records.write_trial(plan["sweep_dir"], record_of(worker.claim("h/0")))
    wider = {"base": {"b": 1}, "space": {"a": [0, 1, 2, 3], "c": [["x"], None]}}
    assert study_journal.open_study(plan, points(wider), []) == {"waiting": 2, "recorded": 6}
    assert study.SweepStudy(plan["sweep_dir"]).claim("h/0")["number"] == 6


def test_infeasible_points_are_recorded_not_queued(plan):
    all_points = points()
    infeasible = [{**all_points[5], "reason": "needs 4 GPUs, a slot has 2"}]
    assert study_journal.open_study(plan, all_points[:5], infeasible) == {"waiting": 5, "recorded": 1}
    record = records.load_trials(plan["sweep_dir"])[0]
    assert (record["status"], record["error"]["message"]) == ("infeasible", "needs 4 GPUs, a slot has 2")
    # The hosts grew: what was infeasible runs now.
    assert study_journal.open_study(plan, points(), [])["waiting"] == 6


def test_a_lost_trial_goes_back_a_limited_number_of_times(plan):
    study_journal.open_study(plan, points({"space": {"a": [1]}}), [])
    worker = study.SweepStudy(plan["sweep_dir"])
    for attempt in range(1, study.MAX_ATTEMPTS + 1):
        claim = worker.claim("h/0")
        assert (claim["number"], claim["attempt"]) == (0, attempt)
        assert worker.requeue(claim) is (attempt < study.MAX_ATTEMPTS)


def test_a_second_controller_is_refused(plan, monkeypatch):
    study_journal.open_study(plan, points(), [])
    monkeypatch.setattr(sweep_owner.os, "getppid", lambda: 1)  # another process that is alive
    with pytest.raises(sweep_owner.StudyError, match="another controller"):
        study_journal.open_study(plan, points(), [])


def test_a_worker_that_outlived_its_controller_claims_nothing(plan):
    study_journal.open_study(plan, points(), [])
    worker = study.SweepStudy(plan["sweep_dir"], controller_pid=1)
    with pytest.raises(sweep_owner.StudyError, match="another run"):
        worker.claim("h/0")


def test_a_dead_controller_is_succeeded(plan):
    study_journal.open_study(plan, points(), [])
    owner_file = f"{plan['sweep_dir']}/owner.json"
    with open(owner_file) as stream:
        owner = json.load(stream)
    with open(owner_file, "w") as stream:
        json.dump({**owner, "started": "Thu Jan  1 00:00:00 1970"}, stream)  # its number was given to another process
    assert study_journal.open_study(plan, points(), [])["waiting"] == 6


def test_a_slot_that_broke_off_untold_keeps_no_other_waiting(plan, monkeypatch):
    study_journal.open_study(plan, points(), [])
    worker, other = (study.SweepStudy(plan["sweep_dir"]) for _ in range(2))
    worker.claim("h/0")
    assert other.running() == 1

    def full(*_args):
        raise OSError("No space left on device")

    broken = study.SweepStudy(plan["sweep_dir"])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(durable_files, "write_durably", full)
        broken.claim("h/1")
    assert other.running() == 1, "what could not be claimed is nobody's"
    del worker  # its process ended
    assert other.running() == 0
    assert study_journal.open_study(plan, points(), [])["waiting"] == 6, "the next run has them all"
