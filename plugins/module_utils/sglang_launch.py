# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One launch: a container is created, started and watched until it is ready or has failed."""

from __future__ import annotations

import re
import socket
import time

from ansible_collections.preheat.fleet.plugins.module_utils import (
    sglang_failure,
    sglang_log,
    sglang_phases,
    sglang_readiness,
)
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError
from ansible_collections.preheat.fleet.plugins.module_utils.docker_time import parse_timestamp, split_timestamps

_PORT_ATTEMPTS = 3
_PROBE_LINE = re.compile(r'"GET /health\b')


def reachable_host(publish_host):
    """Where the host itself reaches what is published on an address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(publish_host, publish_host)


def url_of(publish_host, port):
    """The URL at which the host itself reaches a server."""
    host = reachable_host(publish_host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(publish_host):
    family = socket.AF_INET6 if ":" in publish_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((publish_host, 0))
        return listener.getsockname()[1]


class Launch:
    """A launch of C(spec). What is known of it stays readable when it fails: phases, log_text, port, ready."""

    def __init__(self, client, spec, limits, *, launch_start, pulled=None, preloaded_at=None, secrets=()):
        self.client = client
        self.spec = spec
        self.limits = limits
        self.launch_start = launch_start
        # (when the pull of the image ended, its bytes), or None.
        self.pulled = pulled or (None, None)
        self.preloaded_at = preloaded_at
        self.secrets = secrets
        self.container_id = None
        self.port = None
        self.ready = False
        self._began = None
        self.phases = []
        self.log_text = ""

    def resume(self, container, port):
        """Wait for a container that an earlier call started."""
        self.container_id, self.port = container["Id"], port
        self.launch_start = parse_timestamp(container["Created"])
        self._began = parse_timestamp(container["State"]["StartedAt"])
        self.run()

    def run(self):
        """Launch, and return when the server is ready or wait_seconds are over; LaunchError when it never will be."""
        try:
            if self.container_id is None:
                self._start_container()
            outcome = sglang_readiness.wait_until_ready(
                health=self._health,
                running=self._runs,
                last_log_time=self._last_log_time,
                ready_timeout_seconds=self.limits["ready_timeout_seconds"],
                stall_timeout_seconds=self.limits["stall_timeout_seconds"],
                began=self._began,
                wait_seconds=self.limits["wait_seconds"],
            )
            self._read_log(outcome.at)
            if outcome.state == "starting":
                return
            if outcome.state != "ready":
                raise self._failure(outcome)
            self.ready = True
            if self.spec.restart_policy != "no":
                # Only now: a server that cannot start must end, not start again and again.
                self.client.set_restart_policy(self.container_id, self.spec.restart_policy)
        except LaunchError as error:
            if not self.phases:
                self._note_phases([], None, time.time())
            error.phase = error.phase or self.phases[-1]["name"]
            raise

    def _start_container(self):
        """Create and start; where the free port chosen here was taken meanwhile, again with another."""
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = self.spec.port or free_port(self.spec.publish_host)
            self.container_id = self.client.create(
                name=self.spec.name,
                image=self.spec.image_id,
                command=self.spec.command(self.port),
                environment=self.spec.environment,
                labels=self.spec.all_labels(self.port),
                container_port=self.spec.container_port,
                **self.spec.host_config(self.port, self.client.device_request),
            )
            try:
                self.client.start(self.container_id, self.spec.name)
                return
            except LaunchError as error:
                if error.error_class != "port_in_use" or self.spec.port or attempt == _PORT_ATTEMPTS:
                    raise
                self.client.remove(self.container_id)
                self.container_id = None

    def _health(self, timeout_seconds):
        return sglang_readiness.http_status(
            reachable_host(self.spec.publish_host), self.port, "/health", timeout_seconds
        )

    def _runs(self):
        container = self.client.container(self.container_id)
        return bool(container and container["State"]["Running"])

    def _last_log_time(self):
        """When the server last wrote a line that does not merely answer our own question."""
        entries = split_timestamps(self.client.logs(self.container_id, timestamps=True, tail=40))
        return max((epoch for epoch, line in entries if not _PROBE_LINE.search(line)), default=None)

    def _read_log(self, end):
        container = self.client.container(self.container_id)
        entries = split_timestamps(self.client.logs(self.container_id, timestamps=True)) if container else []
        self.log_text = sglang_log.scrub("\n".join(line for unused, line in entries), self.secrets)
        self._note_phases(entries, parse_timestamp(container["State"]["StartedAt"]) if container else None, end)

    def _note_phases(self, entries, container_start, end):
        pulled_at, pull_bytes = self.pulled
        self.phases = sglang_phases.startup_phases(
            entries,
            launch_start=self.launch_start,
            pulled_at=pulled_at,
            pull_bytes=pull_bytes,
            preloaded_at=self.preloaded_at,
            container_start=container_start,
            end=end,
        )

    def _failure(self, outcome):
        container = self.client.container(self.container_id)
        if container is None:
            return LaunchError(
                "crashed",
                f"container '{self.spec.name}' was removed from outside while it started",
                "See who removes containers on this host, and launch again.",
            )
        if outcome.state == "exited":
            exit_code = container["State"]["ExitCode"]
            error = sglang_failure.classify(exit_code, container["State"].get("OOMKilled"), self.log_text)
            return LaunchError(*error, exit_code=exit_code)
        if outcome.state == "stalled":
            limit = f"has written nothing for stall_timeout_seconds ({self.limits['stall_timeout_seconds']})"
        else:
            limit = f"is not ready after ready_timeout_seconds ({self.limits['ready_timeout_seconds']})"
        answer = f"/health answers {outcome.health}" if outcome.health else "its port does not answer"
        return LaunchError(
            "timeout",
            f"the server runs but {limit}; {answer}; its last line is {outcome.silent_seconds:.0f} s old",
            "Read log_tail for what it waits for. If it only needs longer, raise these limits.",
        )
