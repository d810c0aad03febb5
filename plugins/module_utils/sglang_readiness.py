# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until a server is really ready, and noticing at once when it never will be."""

from __future__ import annotations

import http.client
import time

_POLL_SECONDS = 0.25
# Once something answers, asking is a request that the loading server has to serve and logs.
_ANSWERED_POLL_SECONDS = 0.5
_LOG_CHECK_SECONDS = 5.0


class Outcome:
    """How the wait ended: C(state) is ready, exited, stalled, timeout, or starting (not waited for any longer)."""

    def __init__(self, state, at, health, silent_seconds=0.0):
        self.state = state
        self.at = at
        self.health = health
        self.silent_seconds = silent_seconds


def http_status(host, port, path, timeout_seconds):
    """The status of one GET, or None while nothing answers. No proxy is ever asked."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_until_ready(
    *,
    health,
    running,
    last_log_time,
    ready_timeout_seconds,
    stall_timeout_seconds,
    began=None,
    wait_seconds=0,
    clock=time.time,
    sleep=time.sleep,
):
    """Wait for C(health()) to be 200.

    health(timeout) -> HTTP status or None; running() -> whether the container still runs;
    last_log_time() -> epoch of the newest line that the server wrote by itself, or None.
    The limits count from C(began) (epoch; now, if not given). C(wait_seconds) bounds this wait alone; 0 does not.
    """
    entered = clock()
    begin = entered if began is None else began
    deadline = begin + ready_timeout_seconds
    newest, next_log_check = begin, entered + (_LOG_CHECK_SECONDS if began is None else 0)
    while True:
        if not running():
            return Outcome("exited", clock(), None)
        # /health generates a token: it takes as long as that takes, and ends at once when the server dies.
        status = health(max(1.0, min(30.0, deadline - clock())))
        now = clock()
        if status == 200:
            return Outcome("ready", now, status)
        if now >= next_log_check:
            newest = max(newest, last_log_time() or newest)
            next_log_check = now + _LOG_CHECK_SECONDS
            if now - newest >= stall_timeout_seconds:
                return Outcome("stalled", now, status, now - newest)
        if now >= deadline:
            return Outcome("timeout", now, status, now - newest)
        if wait_seconds and now - entered >= wait_seconds:
            return Outcome("starting", now, status)
        sleep(_POLL_SECONDS if status is None else _ANSWERED_POLL_SECONDS)
