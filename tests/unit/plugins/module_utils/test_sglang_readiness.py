from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_readiness


class World:
    """A server's fate over time, and a clock that only sleeping moves."""

    def __init__(self, health=(), exits=None, lines=()):
        self.now = 1000.0
        self.slept = []
        self._health, self._exits, self._lines = dict(health), exits, lines

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def health(self, timeout_seconds):
        assert 1 <= timeout_seconds <= 30
        return max(
            ((since, status) for since, status in self._health.items() if 1000 + since <= self.now), default=(0, None)
        )[1]

    def running(self):
        return self._exits is None or self.now < 1000 + self._exits

    def last_log_time(self):
        return max((1000 + line for line in self._lines if 1000 + line <= self.now), default=None)

    def wait(self, ready_timeout_seconds=100, stall_timeout_seconds=50, **more):
        return sglang_readiness.wait_until_ready(
            health=self.health,
            running=self.running,
            last_log_time=self.last_log_time,
            ready_timeout_seconds=ready_timeout_seconds,
            stall_timeout_seconds=stall_timeout_seconds,
            clock=self.clock,
            sleep=self.sleep,
            **more,
        )


@pytest.mark.parametrize(
    ("world", "state", "at"),
    [
        pytest.param(World({20: 503, 23: 200}), "ready", (23, 24), id="503 is not ready"),
        pytest.param(World({0: 200}), "ready", (0, 0), id="at once"),
        pytest.param(World(exits=7), "exited", (7, 7.5), id="a crash is noticed at once"),
        pytest.param(World({5: 503}, exits=7), "exited", (7, 8), id="a crash after the port opened"),
        pytest.param(World(lines=range(0, 100, 10)), "timeout", (100, 101), id="busy, but too slow"),
        pytest.param(World(lines=[10, 20]), "stalled", (70, 76), id="hangs"),
        pytest.param(World({20: 503}, lines=[10, 20]), "stalled", (70, 76), id="hangs with its port open"),
    ],
)
def test_wait(world, state, at):
    outcome = world.wait()
    assert outcome.state == state
    assert at[0] <= outcome.at - 1000 <= at[1]


def test_a_wait_can_be_cut_into_slices_whose_limits_count_from_the_start():
    world = World({40: 503, 43: 200}, lines=[1, 30])
    began, states = world.now, []
    while not states or states[-1] == "starting":
        states.append(world.wait(began=began, wait_seconds=10).state)
    assert states == ["starting"] * 4 + ["ready"]
    late = World(lines=range(0, 100, 10))
    late.now += 95
    assert late.wait(began=1000, wait_seconds=60).state == "timeout"
    silent = World(lines=[10])
    silent.now += 61
    assert silent.wait(began=1000, wait_seconds=60).state == "stalled"


def test_a_closed_port_is_asked_often_and_an_open_one_seldom():
    world = World({10: 503, 20: 200})
    world.wait()
    assert set(world.slept[:30]) == {0.25}
    assert set(world.slept[45:]) == {0.5}


def test_a_stall_says_how_long_it_was_silent():
    outcome = World(lines=[10]).wait()
    assert outcome.silent_seconds >= 50


@pytest.mark.parametrize("status", [200, 503])
def test_http_status(status, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert sglang_readiness.http_status("127.0.0.1", server.server_port, "/health", 5) == status
    server.shutdown()
    server.server_close()


def test_http_status_of_nobody():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert sglang_readiness.http_status("127.0.0.1", taken.getsockname()[1], "/health", 1) is None


def test_http_status_of_something_else():
    """Docker's proxy accepts before the server listens, and closes the connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def accept_and_close():
            listener.accept()[0].close()

        threading.Thread(target=accept_and_close, daemon=True).start()
        assert sglang_readiness.http_status("127.0.0.1", listener.getsockname()[1], "/health", 5) is None
