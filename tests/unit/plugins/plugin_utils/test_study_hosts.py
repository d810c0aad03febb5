"""Hosts that fail are set aside and nothing is lost; waiting trials go where most is warm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, study, study_journal, sweep_space


@pytest.fixture
def sweep(tmp_path):
    """Begin a sweep on hosts a and b with two slots each; returns its worker, as every slot has one."""

    def begin(server=None, hosts="ab", limit=3, **search):
        server = server or {"space": {"chunked_prefill_size": list(range(1, 9))}}
        slots = [{"name": f"{host}/{index}", "members": [{"host": host, "gpus": []}]} for host in hosts
                 for index in (0, 1)]  # fmt: skip
        plan = {
            "name": "s", "sweep_dir": str(tmp_path / "s"), "objective": {"metric": "output_tokens_per_second"},
            "server": server, "slots": slots, "host_failures_max": limit, "search": {"sampler": "grid", **search},
        }  # fmt: skip
        study_journal.open_study(plan, sweep_space.grid(server), [])
        return study.SweepStudy(plan["sweep_dir"])

    return begin


def end(worker, slot, failure=None):
    """Claim a trial on a slot and end it; its number, and why the host was set aside."""
    claim = worker.claim(slot)
    record = records.new_record(
        sweep="s", status="failed" if failure else "complete", attempt=claim["attempt"],
        error={"class": failure, "message": "m"} if failure else None, slot={"name": slot, "members": []},
        **{key: claim[key] for key in ("number", "kind", "params", "server_parameters")},
    )  # fmt: skip
    records.write_trial(worker._folder, record)
    reason = worker.set_aside(slot, claim, record)
    if not reason:
        worker.finish(claim, record)
    return claim["number"], reason


def rest(worker, slot):
    """Run what is left; (number, attempt) of each."""
    done = []
    while claim := worker.claim(slot):
        record = records.new_record(
            sweep="s", status="complete", attempt=claim["attempt"], slot={"name": slot, "members": []},
            **{key: claim[key] for key in ("number", "kind", "params", "server_parameters")},
        )  # fmt: skip
        records.write_trial(worker._folder, record)
        worker.finish(claim, record)
        done.append((claim["number"], claim["attempt"]))
    return done


def test_a_host_that_fails_again_and_again_is_set_aside_and_others_run_its_trials(sweep):
    worker = sweep()
    assert end(worker, "b/0") == (0, "")
    assert [end(worker, slot, "module_failed") for slot in ("a/0", "a/1")] == [(1, ""), (2, "")]
    assert end(worker, "a/0", "image_missing") == (
        3, "failures in a row there: image_missing, module_failed x 2"
    )  # fmt: skip
    assert worker.claim("a/0") is worker.claim("a/1") is None
    assert worker.is_over("a/0")
    assert not worker.is_over("b/1")
    assert sorted(rest(worker, "b/0")) == [(1, 2), (2, 2), (3, 2), (4, 1), (5, 1), (6, 1), (7, 1)]
    assert worker.is_over("b/0")
    found = records.load_trials(worker._folder)
    assert [(record["number"], record["status"]) for record in found] == [(n, "complete") for n in range(8)]
    assert json.loads((worker._folder / "trials/0002/trial-attempt-1.json").read_text())["error"]["class"]
    aside = json.loads((worker._folder / "sweep.json").read_text())["set_aside"]
    assert [one["host"] for one in aside] == ["a"]


def test_what_its_other_slot_still_runs_goes_back_alone(sweep):
    worker, other = sweep(limit=2), study.SweepStudy
    other = other(worker._folder)
    under_way = other.claim("a/1")
    end(worker, "a/0", "module_failed")
    assert end(worker, "a/0", "module_failed")[1]
    rerun = [worker.claim("b/0") for _ in range(7)][-2:]
    assert [(claim["number"], claim["attempt"]) for claim in rerun] == [(1, 2), (2, 2)]
    failed = records.new_record(
        sweep="s", status="failed", error={"class": "model_missing"},
        **{key: under_way[key] for key in ("number", "params", "server_parameters", "attempt")},
    )  # fmt: skip
    records.write_trial(worker._folder, failed)
    assert other.set_aside("a/1", under_way, failed)
    assert [(claim["number"], claim["attempt"]) for claim in [worker.claim("b/0")]] == [(0, 2)]
    assert worker.claim("b/0") is None


@pytest.mark.parametrize("failure", ["bad_flag", "out_of_memory", "invalid", "benchmark_failed"])
def test_parameters_that_fail_are_no_hosts_fault(sweep, failure):
    worker = sweep()
    end(worker, "b/0")
    assert [end(worker, "a/0", failure)[1] for _ in range(5)] == [""] * 5
    assert worker.claim("a/0")


def test_crashes_that_others_do_not_have(sweep):
    worker = sweep()
    end(worker, "b/0")
    assert [bool(end(worker, "a/0", failure)[1]) for failure in ("crashed", "timeout", "crashed")] == [0, 0, 1]
    assert [end(worker, "b/0", "crashed")[1] for _ in range(4)] == [""] * 4, "the last host"


def test_a_crash_that_others_have_too(sweep):
    worker = sweep()
    end(worker, "b/0")
    end(worker, "b/0", "crashed")
    assert [end(worker, "a/0", "crashed")[1] for _ in range(4)] == [""] * 4


@pytest.mark.parametrize("hosts", ["a", "ab"])
def test_the_last_host_goes_on_and_its_failures_are_recorded(sweep, hosts):
    worker = sweep(hosts=hosts)
    for slot in ("b/0", "b/1") if hosts == "ab" else ():
        worker.leave(slot, "no route to host")
    assert [end(worker, "a/0", "module_failed")[1] for _ in range(8)] == [""] * 8
    assert {record["status"] for record in records.load_trials(worker._folder)} == {"failed"}


def test_never_if_so_asked(sweep):
    worker = sweep(limit=0)
    assert [end(worker, "a/0", "module_failed")[1] for _ in range(6)] == [""] * 6


def test_an_engine_that_is_lost_again_and_again(sweep):
    worker = sweep()
    for expected in ("", "", "failures in a row there: host_lost x 3"):
        worker.requeue(worker.claim("a/0"))
        assert worker.set_aside("a/0") == expected
    assert sorted(number for number, _attempt in rest(worker, "b/0")) == list(range(8))


def test_attempts_are_limited(sweep):
    worker = sweep({"space": {"chunked_prefill_size": [1]}}, hosts="abcd", limit=1)
    ends = [bool(end(worker, f"{host}/0", "module_failed")[1]) for host in "abc"]
    assert ends == [True, True, True]
    assert worker.claim("d/0") is None
    (record,) = records.load_trials(worker._folder)
    assert (record["status"], record["attempt"]) == ("failed", study.MAX_ATTEMPTS)


def test_a_controller_killed_while_a_host_is_set_aside_loses_nothing(sweep):
    worker = sweep()
    for _ in range(3):
        end(worker, "a/0", "module_failed")
    again = sweep()
    assert "set_aside" not in json.loads(Path(again._folder, "sweep.json").read_text()), "each run tries all hosts"
    assert sorted(number for number, _attempt in rest(again, "a/0")) == list(range(8))


def test_a_trial_that_comes_back_after_a_claim_in_vain_is_waited_for(sweep):
    worker = sweep({"space": {"chunked_prefill_size": [1]}})
    claim = worker.claim("a/0")
    assert worker.claim("b/0") is None
    assert not worker.is_over("b/0"), "it may come back"
    worker.requeue(claim)
    assert not worker.is_over("b/0"), "it came back since"
    assert worker.claim("b/0")["attempt"] == 2


TWO_SHAPES = {"space": {"chunked_prefill_size": [1, 2, 3], "tp_size": [1, 2]}}


def claimed(worker, slots):
    return [worker.claim(slot)["number"] for slot in slots]


def test_hosts_take_what_they_have_compiled_for(sweep):
    """Even numbers have tp_size 1, odd ones 2."""
    assert claimed(sweep(TWO_SHAPES), ["a/0", "b/0", "b/1", "a/1", "b/0", "a/0"]) == [0, 1, 3, 2, 5, 4]
    assert claimed(sweep(TWO_SHAPES), ["a/0"] * 6) == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("search", [{"patience": 3}, {"timeout_seconds": 60}])
def test_a_search_that_may_end_early_keeps_the_order(sweep, search):
    assert claimed(sweep(TWO_SHAPES, **search), ["a/0", "b/0", "a/0", "b/0"]) == [0, 1, 2, 3]
