"""The agent's process and the socket to it."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import swarm_control


class Echo:
    """Answers with what it was asked, until it is told to stop."""

    def __init__(self):
        self._ended = threading.Event()

    def introduce(self):
        return {"port": 7, "pid": os.getpid()}

    def answer(self, request):
        if request.get("stop"):
            self._ended.set()
        return {"asked": request}

    def run(self):
        self._ended.wait(20)

    def close(self):
        pass


class Broken:
    def __init__(self):
        raise ImportError("No module named 'libtorrent'")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "agent.sock"
    yield path
    swarm_control.stop(path)


def test_an_agent_is_another_process_that_answers_until_it_is_stopped(path):
    said = swarm_control.start(path, Echo)
    assert said["port"] == 7
    assert said["pid"] != os.getpid()
    assert swarm_control.ask(path, {"a": 1}) == {"asked": {"a": 1}}
    assert swarm_control.stop(path)
    assert not path.exists()
    with pytest.raises(swarm_control.NoAgent):
        swarm_control.ask(path, {})


def test_an_agent_that_was_killed_is_noticed_and_can_be_started_again(path):
    os.kill(swarm_control.start(path, Echo)["pid"], 9)
    time.sleep(0.1)
    with pytest.raises(swarm_control.NoAgent):
        swarm_control.ask(path, {})
    assert swarm_control.start(path, Echo)["port"] == 7


def test_why_an_agent_could_not_start_is_told(path):
    assert "No module named 'libtorrent'" in swarm_control.start(path, Broken)["error"]


def test_the_folder_is_refused_when_others_may_write_there(tmp_path, monkeypatch):
    monkeypatch.setattr(swarm_control.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = swarm_control.folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="0700"):
        swarm_control.folder()


def test_runs_and_caches_have_sockets_of_their_own():
    paths = {swarm_control.socket_path(run, cache) for run in ("r1", "r2") for cache in ("/a", "/b")}
    assert len(paths) == 4
    assert all(len(str(path)) < 100 for path in paths)  # the system's limit is 107
