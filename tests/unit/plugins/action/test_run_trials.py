"""A slot's worker: it claims until nothing is left, and no end of a trial leaves a container or loses the trial."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure

from ansible_collections.preheat.fleet.plugins.action import run_trials
from ansible_collections.preheat.fleet.plugins.plugin_utils import records, study, study_journal, sweep_space
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import LeaseLost, StudyError

METRIC = "output_tokens_per_second"
PYTHON = "/opt/preheat/venv/bin/python"
POINT = {
    "name": "chat", "point": "chat/c2", "input_tokens": 8, "output_tokens": 4, "concurrency": 2, "request_rate": None,
    "num_prompts": 4, "seed": 1, "warmup_requests": 1, "flush_cache": True, "timeout_seconds": 9, "extra_args": [],
}  # fmt: skip


class Host:
    """Answers modules as a healthy host does, less what ``trouble`` says: {(module, call number): answer or error}.

    ``containers`` are those that run, as labels.
    """

    def __init__(self, trouble=None):
        self.trouble, self.calls, self.containers = trouble or {}, [], []

    def execute_module(self, module_name, module_args, task_vars):
        module = module_name.removeprefix("preheat.fleet.")
        name = f"{module}_{module_args['state']}" if module == "sglang_server" else module
        self.calls.append((name, module_args, task_vars))
        answer = getattr(self, name)(module_args)
        trouble = self.trouble.get((name, len(self.of(name))))
        if isinstance(trouble, BaseException):
            raise trouble
        return answer if trouble is None else trouble

    def of(self, name):
        return [args for called, args, _vars in self.calls if called == name]

    def hf_model(self, _args):
        return {"snapshot_path": "/c/s", "bytes_fetched": 0}

    def sglang_server_started(self, args):
        self.containers.append(args["labels"])
        phases = [{"name": "container_create", "start": 0.0, "seconds": 0.0}]
        return {"ready": True, "container": {"name": args["name"]}, "command": [], "phases": phases, "cache": {}}

    def sglang_benchmark(self, _args):
        return {"requests": {"total": 4, "completed": 4, "failed": 0}, "metrics": {METRIC: 100.0}, "raw": ["{}"]}

    def sglang_server_absent(self, args):
        gone = [labels for labels in self.containers if args["match_labels"].items() <= labels.items()]
        self.containers = [labels for labels in self.containers if labels not in gone]
        return {"removed": [labels["preheat.slot"] for labels in gone]}


@pytest.fixture
def plan(tmp_path):
    server = {"space": {"a": [1, 2]}}
    points = sweep_space.grid(server)
    plan = {
        "name": "s", "sweep_dir": str(tmp_path / "s"), "image": "i:1", "commit": "c" * 40, "environment": {},
        "model": {"repo_id": "o/m", "revision": "main", "allow_patterns": None, "ignore_patterns": None,
                  "allow_pickle": False},
        "objective": {"metric": METRIC}, "slo": {}, "workload_points": [POINT], "launches": len(points),
        "server": server,
    }  # fmt: skip
    study_journal.open_study(plan, points, [])
    return plan


@pytest.fixture
def work(make_action, plan, monkeypatch):
    """Work as the slot h/0 on a host; returns the action's result. ``said`` collects what was printed."""
    monkeypatch.setattr(run_trials, "IDLE_SECONDS", 0)

    own_slot = {"name": "h/0", "members": [{"host": "h", "gpus": [{"uuid": "GPU-a"}]}]}

    def run(host, delegate_to="h", hostvars=None, slot=own_slot, **variables):
        variables["hostvars"] = hostvars or {"h": {}}
        action = make_action(
            run_trials.ActionModule,
            variables,
            delegate_to=delegate_to,
            plan=plan,
            slot=slot,
            python=PYTHON,
            docker_host="unix:///d.sock",
            cache_dir="/cache",
            ready_timeout_seconds=60,
        )
        monkeypatch.setattr(action, "_execute_module", host.execute_module)
        return action.run(task_vars=variables)

    return run


def recorded(plan):
    return {record["number"]: record for record in records.load_trials(plan["sweep_dir"])}


def counts(plan):
    states = study.SweepStudy(plan["sweep_dir"]).counts()
    return {state: count for state, count in states.items() if count}


def test_trials_are_claimed_until_none_is_left(work, plan, capsys):
    host = Host()
    result = work(host)
    assert result == {
        "changed": True, "trials": [{"number": 0, "status": "complete"}, {"number": 1, "status": "complete"}]
    }  # fmt: skip
    assert [args["parameters"] for args in host.of("sglang_server_started")] == [{"a": 1}, {"a": 2}]
    assert counts(plan) == {"complete": 2}
    assert host.containers == []
    assert "h/0 trial 1 (2 in all): complete" in capsys.readouterr().out


def test_nothing_to_claim_is_no_change(work):
    work(Host())
    host = Host()
    assert work(host) == {"changed": False, "trials": []}
    assert [name for name, *_ in host.calls] == ["sglang_server_absent"]


def test_what_a_dead_run_left_on_the_slot_is_removed_first(work):
    host = Host()
    mine, others = {"preheat.sweep": "s", "preheat.slot": "h/0"}, {"preheat.sweep": "s", "preheat.slot": "h/1"}
    host.containers = [mine, others]
    work(host)
    assert host.calls[0][0] == "sglang_server_absent"
    assert host.containers == [others]


def test_a_slot_that_another_controller_drives_is_left_alone(work, plan, monkeypatch, capsys):
    monkeypatch.setattr(study.SweepStudy, "lease", lambda *_args: "another controller drives it (preheat s c2 7)")
    monkeypatch.setattr(study.SweepStudy, "is_over", lambda *_args: True)
    host = Host()
    assert work(host) == {"changed": False, "trials": []}
    assert host.calls == [], "not even what is left there is removed: the other one's container runs"
    assert "h/0: another controller drives it (preheat s c2 7); this one stands by" in capsys.readouterr().out


def test_a_slot_that_another_controller_leaves_is_taken_over(work, plan, monkeypatch, capsys):
    answers = iter(["another controller drives it", "another controller drives it", ""])
    monkeypatch.setattr(study.SweepStudy, "lease", lambda *_args: next(answers))
    assert len(work(Host())["trials"]) == 2
    assert capsys.readouterr().out.count("stands by") == 1


@pytest.mark.parametrize("lost_at", [1, 2])
def test_a_lost_lease_records_nothing_and_touches_no_container(work, plan, monkeypatch, lost_at):
    calls = []

    def confirm(_study):
        calls.append(1)
        if len(calls) == lost_at:
            raise LeaseLost("another controller took over what this slot had")

    monkeypatch.setattr(study.SweepStudy, "confirm", confirm)
    host = Host()
    with pytest.raises(LeaseLost):
        work(host)
    assert recorded(plan) == {}
    assert len(host.of("sglang_server_started")) == lost_at - 1
    assert len(host.of("sglang_server_absent")) == 1, "only before the first claim"


def test_while_trials_run_the_status_says_how_far_they_are(work, plan, capsys):
    seen = []

    class Watched(Host):
        def execute_module(self, module_name, module_args, task_vars):
            status = json.loads((Path(plan["sweep_dir"]) / "status.json").read_text())
            slot = status["slots"]["h/0"]
            seen.append(
                (slot["state"], slot["trial"] and slot["trial"]["number"], slot["phase"], status["trials"]["waiting"])
            )
            return super().execute_module(module_name, module_args, task_vars)

    work(Watched())
    benchmark = {"name": "benchmark", "point": "chat/c2", "index": 1, "count": 1}
    phases = [{"name": "model_fetch"}, {"name": "launching"}, benchmark, {"name": "teardown"}]
    first = [("running", 0, phase, 1) for phase in phases]
    assert seen == [("starting", None, None, 2), *first, *(("running", 1, phase, 0) for phase in phases)]
    status = json.loads((Path(plan["sweep_dir"]) / "status.json").read_text())
    assert (status["state"], status["trials"]["complete"], status["best"]["value"]) == ("ended", 2, 100.0)


def test_a_slot_that_breaks_off_has_ended_in_the_status(work, plan):
    with pytest.raises(AnsibleConnectionFailure):
        work(Host({("hf_model", 1): LOST}))
    status = json.loads((Path(plan["sweep_dir"]) / "status.json").read_text())
    assert status["slots"]["h/0"]["state"] == "ended"
    assert status["broke_off"] == [{"slot": "h/0", "reason": "no route to host"}]
    assert (status["trials"]["running"], status["trials"]["waiting"]) == (0, 2)


@pytest.mark.parametrize(("slots", "talking"), [(8, True), (9, False)])
def test_many_slots_say_only_how_trials_end(work, plan, capsys, slots, talking):
    plan["slots"] = [{"name": f"h/{number}"} for number in range(slots)]
    work(Host())
    said = capsys.readouterr().out
    assert ("launching" in said) is talking
    assert said.count(": complete: ") == 2


PAIR = [{"index": 0, "uuid": "GPU-a"}, {"index": 1, "uuid": "GPU-b"}]
SHARED = [{"name": f"h/{number}", "set": "h/0", "topology": {}, "members": [{"host": "h", "gpus": PAIR}]}
          for number in (0, 1)]  # fmt: skip


@pytest.fixture
def shared(plan):
    """Two slots share the GPUs of a host; the other one's view of the study."""
    points = sweep_space.grid(plan["server"])
    study_journal.open_study(plan | {"slots": SHARED, "host_failures_max": 0}, points, [])
    return study.SweepStudy(plan["sweep_dir"])


def test_slots_that_share_gpus_lease_them_trial_by_trial(work, plan, shared):
    claim = shared.claim("h/1")
    held = []

    class Watched(Host):
        def sglang_server_started(self, args):
            held.append(args["gpus"])
            return super().sglang_server_started(args)

        def sglang_server_absent(self, args):
            if len(self.calls) == 1:  # swept out: now h/0 counts as clean
                shared._gpus.release("h/0")
                assert shared.lease_gpus("h/1", claim) == [SHARED[0]["members"][0]["gpus"][0]]
                shared.abandon(claim)  # ends, and its slot breaks off: its GPU is nobody's
            return super().sglang_server_absent(args)

    work(Watched(), slot=SHARED[0])
    assert held == [["GPU-b"]]
    assert recorded(plan)[1]["slot"]["members"] == [{"host": "h", "gpus": [{"index": 1, "uuid": "GPU-b"}]}]


def test_a_slot_that_would_wait_for_ever_gives_its_trial_back(work, plan, shared, monkeypatch):
    shared.leave("h/1", "could not be swept out")
    host = Host()
    with pytest.raises(StudyError, match="slots that share its GPUs broke off"):
        work(host, slot=SHARED[0])
    assert host.of("sglang_server_started") == []
    assert counts(plan)["waiting"] == 2


def failure(error_class):
    return {"failed": True, "msg": "x", "error": {"class": error_class, "message": "x"}}


@pytest.mark.parametrize(
    ("trouble", "error_class"),
    [
        ({("hf_model", 1): {"failed": True, "msg": "no disk"}}, "module_failed"),
        ({("sglang_server_started", 1): failure("bad_flag")}, "bad_flag"),
        ({("sglang_benchmark", 1): failure("timeout")}, "timeout"),
    ],
)
def test_a_failing_trial_is_recorded_and_the_next_one_claimed(work, plan, trouble, error_class):
    host = Host(trouble)
    result = work(host)
    assert [trial["status"] for trial in result["trials"]] == ["failed", "complete"]
    assert recorded(plan)[0]["error"]["class"] == error_class
    assert host.containers == []


@pytest.mark.parametrize(
    "trouble",
    [
        {("hf_model", 1): {"no": "snapshot_path"}},
        {("sglang_server_started", 1): {"ready": True}},
        {("sglang_benchmark", 1): RuntimeError("unforeseen")},
    ],
)
def test_an_unforeseen_error_fails_its_trial_and_no_other(work, plan, trouble):
    host = Host(trouble)
    result = work(host)
    assert [trial["status"] for trial in result["trials"]] == ["failed", "complete"]
    record = recorded(plan)[0]
    assert record["status"] == "failed"
    assert record["error"]["class"] == "unforeseen"
    assert "Traceback" in record["error"]["log_tail"]
    assert host.containers == []


@pytest.mark.parametrize("journal_too", [False, True])
def test_a_full_disk_stops_the_slot_but_leaves_no_container_and_no_claim(work, plan, monkeypatch, journal_too):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    host = Host()
    with monkeypatch.context() as patch, pytest.raises(AnsibleActionFail, match=r"h/0: .* No space left.* Make room"):
        patch.setattr(records, "write_trial", full)
        if journal_too:
            patch.setattr(study.SweepStudy, "abandon", full)
        work(host)
    assert host.containers == []
    found = counts(plan)
    assert found == {"waiting": 1, "running": 1} if journal_too else {"waiting": 1, "fail": 1}
    assert study.SweepStudy(plan["sweep_dir"]).running() == 0, "other slots would wait for a claim for ever"


LOST = AnsibleConnectionFailure("no route to host")


@pytest.mark.parametrize("step", ["hf_model", "sglang_server_started", "sglang_benchmark"])
def test_a_trial_whose_host_is_lost_goes_back_into_the_queue(work, plan, step):
    with pytest.raises(AnsibleConnectionFailure):
        work(Host({(step, 1): LOST}))
    assert recorded(plan) == {}
    assert counts(plan) == {"waiting": 2, "fail": 1}
    kept = json.loads((Path(plan["sweep_dir"]) / "sweep.json").read_text())
    assert kept["broke_off"] == [{"slot": "h/0", "reason": "no route to host"}]
    assert [trial["status"] for trial in work(Host())["trials"]] == ["complete", "complete"]
    assert recorded(plan)[0]["attempt"] == 2


def test_a_slot_whose_container_stays_takes_no_more_trials(work, plan):
    host = Host({("sglang_server_absent", 2): {"failed": True, "msg": "device busy"}})
    with pytest.raises(AnsibleActionFail, match=r"trial 0 could not be removed.*device busy"):
        work(host)
    assert {number: record["status"] for number, record in recorded(plan).items()} == {0: "complete"}
    assert counts(plan) == {"complete": 1, "waiting": 1}


def test_an_old_record_does_not_hide_that_the_host_was_lost(work, plan):
    old = records.new_record(sweep="s", number=0, params={"a": 1}, server_parameters={"a": 1}, status="failed")
    records.write_trial(plan["sweep_dir"], old)
    with pytest.raises(AnsibleConnectionFailure):
        work(Host({("hf_model", 1): LOST}))
    assert counts(plan) == {"waiting": 2, "fail": 1}


def test_a_trial_that_loses_every_host_is_recorded_as_failed(work, plan):
    while counts(plan).get("waiting"):
        with pytest.raises(AnsibleConnectionFailure):
            work(Host({("hf_model", 1): LOST}))
    ends = [(record["number"], record["error"]["class"], record["attempt"]) for record in recorded(plan).values()]
    assert ends == [(0, "host_lost", study.MAX_ATTEMPTS), (1, "host_lost", study.MAX_ATTEMPTS)]
    for record in recorded(plan).values():
        assert record["end"] == pytest.approx(record["start"] + record["wall_seconds"])
        assert [phase["name"] for phase in record["phases"]] == ["unattributed"]


def test_a_host_lost_after_the_record_keeps_it(work, plan):
    # The first absent is what sweeps the slot.
    with pytest.raises(AnsibleConnectionFailure):
        work(Host({("sglang_server_absent", 2): LOST}))
    assert recorded(plan)[0]["status"] == "complete"
    assert counts(plan) == {"waiting": 1, "complete": 1}


@pytest.mark.parametrize("step", ["sglang_server_started", "sglang_benchmark"])
def test_a_trial_whose_engine_is_restarted_runs_again(work, plan, step, capsys):
    down = failure("engine_unreachable")
    host = Host({(step, 1): down, ("sglang_server_absent", 2): down, ("sglang_server_absent", 3): down})
    host.containers = []
    assert [trial["status"] for trial in work(host)["trials"]] == ["complete", "complete"]
    assert {number: record["attempt"] for number, record in recorded(plan).items()} == {0: 2, 1: 1}
    assert host.containers == [], "what the restart left was removed before the next launch"
    assert "trial 0 (2 in all): the host was lost (x)" in capsys.readouterr().out


def test_an_engine_that_does_not_come_back_costs_no_trial(work, plan, monkeypatch):
    monkeypatch.setattr(run_trials, "ENGINE_SECONDS", 0)
    with pytest.raises(AnsibleActionFail, match="what earlier trials left could not be removed"):
        work(Host({("sglang_server_absent", 1): failure("engine_unreachable")}))
    assert counts(plan) == {"waiting": 2}


def test_a_slot_of_a_host_that_is_set_aside_ends_well_and_leaves_its_trials_to_others(work, plan, capsys):
    file = records.trials_dir(plan["sweep_dir"]).parent / "sweep.json"
    slots = [{"name": name, "members": []} for name in ("h/0", "other/0")]
    file.write_text(json.dumps({**plan, "host_failures_max": 1, "slots": slots}))
    result = work(Host({("hf_model", 1): {"failed": True, "msg": "Input/output error"}}))
    assert result["trials"] == [{"number": 0, "status": "failed"}]
    assert recorded(plan) == {}
    assert counts(plan) == {"waiting": 2, "fail": 1}
    assert "h takes no more trials: failures in a row there: module_failed" in capsys.readouterr().err


def test_a_slot_that_breaks_off_says_so(work, plan):
    with pytest.raises(AnsibleConnectionFailure):
        work(Host({("hf_model", 1): LOST}))
    assert study.SweepStudy(plan["sweep_dir"]).study.user_attrs["left/h/0"] == str(LOST)


def test_modules_run_with_the_virtual_environments_python(work):
    host = Host()
    delegated = {"h": {"ansible_python_interpreter": "/usr/bin/python3", "ansible_host": "10.0.0.1"}, "other": {"x": 1}}
    work(host, ansible_python_interpreter="/usr/bin/python3", ansible_delegated_vars=delegated)
    for _name, _args, task_vars in host.calls:
        assert task_vars["ansible_python_interpreter"] == PYTHON
        assert task_vars["ansible_delegated_vars"] == {
            "h": {"ansible_python_interpreter": PYTHON, "ansible_host": "10.0.0.1"}, "other": {"x": 1}
        }  # fmt: skip
    assert delegated["h"]["ansible_python_interpreter"] == "/usr/bin/python3"


def test_the_token_is_for_the_download_only(work, plan, capsys):
    host = Host()
    work(host, hostvars={"h": {"model_cache_token": "hf_secret"}})
    for name, args, _vars in host.calls:
        assert ("hf_secret" in json.dumps(args)) == (name == "hf_model")
    assert all(args["token"] == "hf_secret" for args in host.of("hf_model"))
    assert "hf_secret" not in json.dumps(recorded(plan)) + capsys.readouterr().out


def test_arguments_that_are_not_given_are_left_to_the_modules(work):
    host = Host()
    work(host)
    assert all("token" not in args and "endpoint" not in args for args in host.of("hf_model"))
