"""A long download runs in the background and is asked about; whatever ends it, the task ends with a result."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.preheat.fleet.plugins.action import hf_model

MB = 1_000_000
DEFERRED = {
    "deferred": True,
    "repo_id": "o/m",
    "cache_dir": "/c",
    "bytes_to_fetch": 500 * MB,
    "bytes_resumed": 100 * MB,
}
DONE = {"repo_id": "o/m", "cache_dir": "/c", "changed": True, "bytes_fetched": 400 * MB}
LOST = {"failed": True, "msg": "could not find job"}


class Clock:
    """Sleeping passes the time."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def strftime(self, _format):
        return "12:00:00"


class Host:
    """Has a job that fetches 20 MB a second and ends after so many."""

    def __init__(self, clock, *, first=DEFERRED, ends=22.0, last=DONE, downloading=True, lost=None):
        self.clock, self.first, self.ends, self.last, self.lost = clock, first, ends, last, lost
        self.downloading, self.begun, self.calls = downloading, None, []

    def __call__(self, module_name, module_args, task_vars, wrap_async=False):
        name = module_name.rsplit(".", 1)[1]
        self.calls.append((name, module_args, wrap_async))
        if name == "hf_model":
            if wrap_async:
                self.begun = self.clock.now
                return {"ansible_job_id": "j1", "started": 1, "finished": 0, "results_file": "/x"}
            return self.first
        age = self.clock.now - (self.begun or self.clock.now)
        if self.lost and self.begun and self.lost[0] <= age < self.lost[1]:
            raise AnsibleConnectionFailure("no route")
        if name == "hf_cache_info":
            size = 700 * MB + int(20 * MB * age if self.downloading else 0)
            return {"repos": [{"size_bytes": size, "downloading": self.downloading}]}
        if age >= self.ends:
            return {**self.last, "finished": 1, "started": 1, "ansible_job_id": "j1", "results_file": "/x"}
        return {"finished": False, "started": True}

    def of(self, name):
        return [(args, background) for called, args, background in self.calls if called == name]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(hf_model, "time", clock)
    monkeypatch.setattr(hf_model.Meter.__init__, "__defaults__", (0, clock.monotonic))
    return clock


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(hf_model, "Display", type("D", (), {"display": lambda self, text: lines.append(text)}))
    return lines


@pytest.fixture
def hold(make_action, said):
    def run(host, check_mode=False, **args):
        action = make_action(hf_model.ActionModule, check_mode=check_mode, repo_id="o/m", **args)
        action._execute_module = host
        action.get_shell_option = lambda name, default: default
        action._remote_expand_user = lambda path: path.replace("~", "/root")
        result = action.run(task_vars={"inventory_hostname": "gpu1", "ansible_play_batch": ["gpu1", "gpu2"]})
        assert action._task.async_val == 0
        return result

    return run


def test_what_is_small_or_there_costs_one_call(hold, clock, said):
    host = Host(clock, first={"changed": False})
    assert hold(host) == {"changed": False}
    assert [name for name, _args, _background in host.calls] == ["hf_model"]
    assert said == []


def test_a_long_download_says_how_it_goes(hold, clock, said):
    host = Host(clock)
    assert hold(host, token="secret") == DONE
    assert host.of("hf_model") == [
        ({"progress_bytes": hf_model.PROGRESS_BYTES, "repo_id": "o/m", "token": "secret"}, False),
        ({"progress_bytes": 0, "repo_id": "o/m", "token": "secret"}, True),
    ]
    assert said == [
        "12:00:00 gpu1 o/m: 220 of 500 MB, 20.0 MB/s from hub, 14 s left",
        "12:00:00 gpu1 o/m: 340 of 500 MB, 20.0 MB/s from hub, 8 s left",
        "12:00:00 gpu1 o/m: 460 of 500 MB, 20.0 MB/s from hub, 2 s left",
    ]
    assert [args["mode"] for args, _background in host.of("async_status")][-2:] == ["status", "cleanup"]
    assert host.of("async_status")[0][0] == {"jid": "j1", "mode": "status", "_async_dir": "/root/.ansible_async"}


def test_the_background_job_gets_no_token_but_where_it_is(hold, clock):
    host = Host(clock, first={**DEFERRED, "token_file": "/dev/shm/t"})
    assert hold(host, token="secret") == DONE
    background = host.of("hf_model")[1]
    assert background == ({"progress_bytes": 0, "repo_id": "o/m", "token_file": "/dev/shm/t"}, True)


@pytest.mark.parametrize(("args", "threshold"), [({"progress_bytes": 7}, 7), ({"verify": "full"}, 0), ({}, 64 << 20)])
def test_from_how_many_bytes_on(hold, clock, args, threshold):
    host = Host(clock, first={"changed": False})
    hold(host, **args)
    assert host.of("hf_model")[0][0]["progress_bytes"] == threshold


def test_a_failure_of_the_module_is_the_task_s(hold, clock):
    failed = {"failed": True, "msg": "It is gated.", "reason": "gated_repo", "repo_id": "o/m", "cache_dir": "/c"}
    assert hold(Host(clock, last=failed)) == failed


def test_a_host_that_does_not_answer_for_a_while_is_asked_again(hold, clock):
    host = Host(clock, ends=100.0, lost=(10.0, 80.0))
    assert hold(host) == DONE


def test_a_host_that_stays_away_is_unreachable(hold, clock):
    with pytest.raises(AnsibleConnectionFailure):
        hold(Host(clock, ends=1e9, lost=(10.0, 1e9)))


@pytest.mark.parametrize("how", [{"last": LOST}, {"ends": 1e9, "downloading": False}])
def test_a_job_that_vanished_is_no_success(hold, clock, how):
    found = hold(Host(clock, **how))
    assert (found["failed"], found["reason"]) == (True, "job_lost")
    assert "Run again" in found["msg"]


def test_who_asks_for_a_job_gets_one(hold, clock, make_action):
    host = Host(clock)
    action = make_action(hf_model.ActionModule, repo_id="o/m")
    action._execute_module = host
    action._task.async_val = 100
    assert action.run(task_vars={})["ansible_job_id"] == "j1"
    assert host.of("hf_model") == [({"repo_id": "o/m", "progress_bytes": 0}, True)]
