"""Controllers that share a study by a real PostgreSQL server, each with results of its own; trials are pretended."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    study,
    study_journal,
    study_postgresql,
    study_sharing,
    sweep_search,
    sweep_space,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import LeaseLost, StudyError

CONTEXT = multiprocessing.get_context("fork")
GRID = {"sampler": "grid", "control_every": 0}
TPE = {"sampler": "tpe", "trials": 12, "seed": 1, "startup_trials": 4, "baseline": False, "enqueue": [],
       "control_every": 0}  # fmt: skip


@pytest.fixture
def controller(database, tmp_path):
    """Queue the trials as a controller with results of its own and these hosts do; returns its plan."""

    def begin(name, hosts="a", *, search=GRID, trials=24, retry_failed=False, **changes):
        server = {"base": {}, "space": {"a": list(range(trials))}}
        plan = {
            "name": "s", "sweep_dir": str(tmp_path / name / "s"), "storage": database, "search": search,
            "objective": {"metric": "output_tokens_per_second"}, "slo": {}, "server": server, "slot_gpus": 1,
            "model": {"repo_id": "o/m"}, "commit": "c" * 40, "image": "i", "environment": {}, "workloads": [],
            "slots": [{"name": f"{host}/0", "members": [{"host": host, "gpus": []}]} for host in hosts],
        } | changes  # fmt: skip
        points = [] if search["sampler"] in sweep_search.ADAPTIVE else sweep_space.grid(plan["server"])
        plan["counts"] = study_journal.open_study(plan, points, [], retry_failed)
        return plan

    return begin


def record_of(claim, slot, status="complete"):
    value = 10.0 + claim["params"]["a"]
    return records.new_record(
        sweep="s", status=status, eligible=status == "complete", slot={"name": slot, "members": []}, start=time.time(),
        end=time.time(),
        objective={"metric": "m", "direction": "maximize", "value": value, "score": value, "samples": [value],
                   "also": []},
        **{key: claim[key] for key in ("number", "kind", "attempt", "params", "server_parameters")},
    )  # fmt: skip


def end(worker, claim, slot):
    record = record_of(claim, slot)
    records.write_trial(worker._folder, record)
    worker.finish(claim, record)


def work(plan, slot, launches, seconds=0.02):
    """What a slot's process does: all that it launches goes into a file that outlives it."""
    worker = study.SweepStudy(plan["sweep_dir"])
    while worker.lease(slot):
        if worker.is_over(slot):
            worker.collect()
            return
        time.sleep(0.05)
    while True:
        claim = worker.claim(slot)
        if claim is None:
            if worker.is_over(slot):
                worker.collect()
                return
            time.sleep(0.05)
            continue
        with open(launches, "a") as stream:
            stream.write(f"{claim['number']} {claim['attempt']} {slot} {os.getpid()}\n")
        time.sleep(seconds)
        worker.confirm()
        end(worker, claim, slot)


@pytest.fixture
def slots(tmp_path):
    """Run slots as processes; ``launched()`` gives (number, attempt, slot, pid) of all that was launched."""
    launches = tmp_path / "launches"
    launches.touch()
    running = []

    class Slots:
        def start(self, plan, slot, seconds=0.02):
            running.append(CONTEXT.Process(target=work, args=(plan, slot, launches, seconds)))
            running[-1].start()
            return running[-1]

        def launched(self):
            return [(int(number), int(attempt), slot, int(pid))
                    for number, attempt, slot, pid in map(str.split, launches.read_text().splitlines())]  # fmt: skip

        def wait(self, holds):
            deadline = time.monotonic() + 60
            while not holds():
                assert time.monotonic() < deadline
                time.sleep(0.02)

        def join(self):
            for process in running:
                process.join(timeout=60)
                assert process.exitcode in (0, -signal.SIGKILL), process

    yield Slots()
    for process in running:
        process.kill()


def results(plan):
    return {record["number"]: record for record in records.load_trials(plan["sweep_dir"])}


def test_two_controllers_work_off_one_sweep_and_both_have_all_of_it(controller, slots):
    one, other = controller("one", "ab"), controller("other", "cd")
    assert (one["counts"], other["counts"]) == ({"waiting": 24, "recorded": 0},) * 2
    for plan, slot in ((one, "a/0"), (one, "b/0"), (other, "c/0"), (other, "d/0")):
        slots.start(plan, slot)
    slots.join()
    launched = slots.launched()
    assert sorted(number for number, *_rest in launched) == list(range(24)), "one was launched twice, or none"
    assert {slot for _number, _attempt, slot, _pid in launched} == {"a/0", "b/0", "c/0", "d/0"}
    assert results(one) == results(other)
    assert list(results(one)) == list(range(24))
    assert controller("one")["counts"] == {"waiting": 0, "recorded": 24}


def test_what_a_dead_controller_ran_is_run_by_the_other_at_once(controller, slots):
    one, other = controller("one", "ab"), controller("other", "c")
    doomed = [slots.start(one, slot, seconds=30) for slot in ("a/0", "b/0")]
    slots.wait(lambda: len(slots.launched()) == 2)
    lost = {number for number, *_rest in slots.launched()}
    slots.start(other, "c/0")
    slots.wait(lambda: len(slots.launched()) > 6)
    for process in doomed:
        process.kill()
    slots.join()
    again = [(number, attempt) for number, attempt, slot, _pid in slots.launched() if slot == "c/0"]
    assert sorted(again) == sorted((number, 2 if number in lost else 1) for number in range(24))
    assert list(results(other)) == list(range(24))
    # The dead one's rerun has nothing to do, and has all results.
    assert controller("one", "ab")["counts"] == {"waiting": 0, "recorded": 24}
    assert results(controller("one", "ab")) == results(other)


def test_the_same_slot_is_driven_by_one_controller_and_the_other_stands_by(controller, slots):
    one, other = controller("one"), controller("other")
    first = slots.start(one, "a/0", seconds=0.3)
    slots.wait(slots.launched)
    second = slots.start(other, "a/0", seconds=0.01)
    slots.wait(lambda: len(slots.launched()) > 3)
    assert {pid for *_rest, pid in slots.launched()} == {first.pid}, "two servers on one slot"
    first.kill()
    slots.join()
    pids = [pid for *_rest, pid in slots.launched()]
    assert [key for key, _group in itertools.groupby(pids)] == [first.pid, second.pid]
    assert list(results(other)) == list(range(24))


def test_who_drives_a_slot_is_named(controller):
    plan = controller("one")
    worker, standby = (study.SweepStudy(plan["sweep_dir"]) for _ in range(2))
    assert worker.lease("a/0") == ""
    assert f"preheat s {os.uname().nodename} {os.getppid()}" in standby.lease("a/0")


def test_two_that_begin_at_once_in_an_empty_database(controller, slots, tmp_path):
    begun = [CONTEXT.Process(target=controller, args=(name, host)) for name, host in (("one", "a"), ("other", "b"))]
    for process in begun:
        process.start()
    for process in begun:
        process.join()
        assert process.exitcode == 0


def test_a_sampler_is_asked_by_one_at_a_time_and_knows_the_results_of_all(controller, slots):
    one = controller("one", "ab", search=TPE, trials=100)
    other = controller("other", "cd", search=TPE, trials=100)
    for plan, slot in ((one, "a/0"), (one, "b/0"), (other, "c/0"), (other, "d/0")):
        slots.start(plan, slot, seconds=0.1)
    slots.join()
    assert sorted(number for number, *_rest in slots.launched()) == list(range(12))
    assert results(one) == results(other)
    points = [record["params"]["a"] for record in results(one).values()]
    assert len(set(points)) == 12, "a point was launched twice"


def test_a_controller_alone_goes_on_in_a_new_folder(controller, slots):
    slots.start(controller("one"), "a/0")
    slots.wait(lambda: len(slots.launched()) > 5)
    os.kill(slots.launched()[0][3], signal.SIGKILL)
    slots.join()
    elsewhere = controller("elsewhere", "b")
    assert elsewhere["counts"]["waiting"] + elsewhere["counts"]["recorded"] == 24
    assert elsewhere["counts"]["recorded"] >= 4
    slots.start(elsewhere, "b/0")
    slots.join()
    assert list(results(elsewhere)) == list(range(24))


def test_a_record_that_nobody_was_told_of_counts_if_the_folder_is_shared(controller):
    plan = controller("shared")
    doomed = study.SweepStudy(plan["sweep_dir"])
    claim = doomed.claim("a/0")
    records.write_trial(plan["sweep_dir"], record_of(claim, "a/0"))
    doomed._store._session.close()
    again = controller("shared", "b")  # nobody lives: the sweep is made anew from the records
    assert again["counts"] == {"waiting": 23, "recorded": 1}
    worker, doomed = study.SweepStudy(plan["sweep_dir"]), study.SweepStudy(plan["sweep_dir"])
    claim = doomed.claim("a/0")
    records.write_trial(plan["sweep_dir"], record_of(claim, "a/0"))
    doomed._store._session.close()
    assert worker.claim("b/0")["number"] != claim["number"]
    assert controller("shared", "b")["counts"] == {"waiting": 21, "recorded": 2}


def test_a_record_counts_whose_controller_died_before_it_could_say_how_the_trial_ended(controller):
    one, other = controller("one", trials=1), controller("other", "b", trials=1)
    doomed, worker = study.SweepStudy(one["sweep_dir"]), study.SweepStudy(other["sweep_dir"])
    claim = doomed.claim("a/0")
    doomed.publish(claim, record_of(claim, "a/0"))
    doomed._store._session.close()
    assert worker.claim("b/0") is None
    assert worker.is_over("b/0")
    worker.collect()
    assert results(other)[0]["slot"]["name"] == "a/0"
    assert worker.counts()["complete"] == 1


def test_a_record_that_was_completed_after_it_was_published_stays(controller):
    one, other = controller("one", trials=1), controller("other", "b", trials=1)
    doomed, worker = study.SweepStudy(one["sweep_dir"]), study.SweepStudy(other["sweep_dir"])
    claim = doomed.claim("a/0")
    record = record_of(claim, "a/0")
    doomed.publish(claim, record)
    later = {**record, "end": record["end"] + 2.0}
    records.write_trial(one["sweep_dir"], later)
    doomed._store._session.close()
    assert worker.claim("b/0") is None
    worker.collect()
    assert results(other)[0]["end"] == record["end"]
    study.SweepStudy(one["sweep_dir"]).collect()
    assert results(one)[0]["end"] == later["end"]


def test_a_record_that_comes_too_late_is_put_aside(controller):
    one, other = controller("one", trials=1), controller("other", "b", trials=1)
    doomed, worker = study.SweepStudy(one["sweep_dir"]), study.SweepStudy(other["sweep_dir"])
    claim = doomed.claim("a/0")
    records.write_trial(one["sweep_dir"], record_of(claim, "a/0"))
    doomed._store._session.close()
    again = worker.claim("b/0")
    assert (again["number"], again["attempt"]) == (claim["number"], 2)
    end(worker, again, "b/0")
    controller("one", trials=1)
    assert results(one)[0]["attempt"] == 2
    aside = records.trial_dir(one["sweep_dir"], 0) / "trial-attempt-1.json"
    assert aside.is_file()


def test_a_trial_is_given_back_a_limited_number_of_times(controller):
    plan = controller("one", trials=1)
    worker = study.SweepStudy(plan["sweep_dir"])
    for attempt in range(1, study.MAX_ATTEMPTS + 1):
        doomed = study.SweepStudy(plan["sweep_dir"])
        assert doomed.claim("a/0")["attempt"] == attempt
        doomed._store._session.close()
    assert worker.claim("a/0") is None
    assert worker.is_over("a/0")
    (record,) = results(plan).values()
    assert (record["status"], record["error"]["class"], record["attempt"]) == ("failed", "host_lost", 3)


def test_earlier_results_of_one_controller_are_those_of_all(controller, database):
    alone = controller("one", storage=None)
    worker = study.SweepStudy(alone["sweep_dir"])
    end(worker, worker.claim("a/0"), "a/0")
    other = controller("other", "b")
    drives = study.SweepStudy(other["sweep_dir"])
    (drives._folder.parents[1] / "one/s/owner.json").unlink()  # this very process, which would be refused
    assert controller("one")["counts"] == {"waiting": 23, "recorded": 1}
    drives.collect()
    assert list(results(other)) == [0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 25}, "sweep_server"),
        ({"commit": "d" * 40}, "sweep_commit"),
        ({"image": "another"}, "sweep_image"),
        ({"objective": {"metric": "ttft_p99_seconds"}}, "sweep_objective"),
        ({"slots": [{"name": "a/0", "members": [{"host": "a", "gpus": [{"uuid": "GPU-2", "name": "H100"}]}]}]},
         "other GPUs"),
        ({"slots": [{"name": "z/0", "members": [{"host": "z", "gpus": [{"uuid": "GPU-1", "name": "H100"}]}]}]},
         "known to the controllers that run the sweep as a/0"),
        ({"slots": [{"name": "z/0", "members": [{"host": "z", "gpus": [{"uuid": "GPU-3", "name": "A100"}]}]}]},
         "unequal GPUs"),
    ],
)  # fmt: skip
def test_a_controller_that_does_not_fit_is_refused(controller, changes, message):
    gpu = {"uuid": "GPU-1", "name": "H100"}
    plan = controller("one", slots=[{"name": "a/0", "members": [{"host": "a", "gpus": [gpu]}]}])
    lives = study.SweepStudy(plan["sweep_dir"])
    with pytest.raises(StudyError, match=message):
        controller("other", **changes)
    assert lives.claim("a/0")["number"] == 0


def test_what_would_be_refused_is_a_problem_before_anything_is_downloaded(controller):
    plan = controller("one")
    assert study_sharing.problems_of({**plan, "commit": "d" * 40}) == [], "it runs nowhere"
    lives = study.SweepStudy(plan["sweep_dir"])
    (found,) = study_sharing.problems_of({**plan, "commit": "d" * 40})
    assert found["variable"] == "sweep_commit"
    assert study_sharing.problems_of(plan) == []
    assert study_sharing.earlier_plan(plan["storage"], "s")["commit"] == plan["commit"]
    assert study_sharing.earlier_plan(plan["storage"], "another") is None
    del lives


def test_looking_changes_nothing_in_the_database(database):
    assert study_sharing.earlier_plan(database, "s") is None
    assert not study_postgresql.PostgresStore(database, "s").has_tables()


def test_a_server_that_is_restarted_stops_no_slot(controller, postgresql):
    plan = controller("one")
    worker = study.SweepStudy(plan["sweep_dir"])
    worker.lease("a/0")
    claim = worker.claim("a/0")
    postgresql.stop()
    postgresql.start()
    worker.confirm()
    end(worker, claim, "a/0")
    assert worker.claim("a/0")["number"] == 1
    assert study.SweepStudy(plan["sweep_dir"]).lease("a/0"), "the slot is held again"


def test_a_slot_that_lost_its_session_and_its_trial_records_nothing(controller, postgresql):
    one, other = controller("one", trials=1), controller("other", "b", trials=1)
    worker = study.SweepStudy(one["sweep_dir"])
    claim = worker.claim("a/0")
    postgresql.stop()
    postgresql.start()
    faster = study.SweepStudy(other["sweep_dir"])
    assert faster.claim("b/0")["number"] == claim["number"]
    with pytest.raises(LeaseLost, match="another controller took over"):
        worker.confirm()


def test_a_server_that_stays_away_ends_the_slot(controller, postgresql, monkeypatch):
    monkeypatch.setattr(study_postgresql, "RECONNECT_SECONDS", 0)
    worker = study.SweepStudy(controller("one")["sweep_dir"])
    postgresql.stop()
    try:
        with pytest.raises(LeaseLost, match="refused"):
            worker.claim("a/0")
    finally:
        postgresql.start()


def test_a_second_controller_without_the_storage_is_refused(controller):
    controller("one")
    with pytest.raises(StudyError, match="sweep_storage"):
        controller("one", storage=None)


def test_the_password_is_nowhere(controller, postgresql, tmp_path, monkeypatch):
    plan = controller("one")
    worker = study.SweepStudy(plan["sweep_dir"])
    end(worker, worker.claim("a/0"), "a/0")
    monkeypatch.setenv("PGPASSWORD", "wrong-" + postgresql.password)
    with pytest.raises(StudyError, match="password authentication failed") as caught:
        controller("other")
    assert postgresql.password not in str(caught.value)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if postgresql.password.encode() in path.read_bytes()]
    shown = worker._store._session.execute("SELECT application_name, query FROM pg_stat_activity").fetchall()
    assert postgresql.password not in str(shown)
