# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One server on one host: brought to what is wanted of it, or left alone where it already is."""

from __future__ import annotations

import os
import time

from ansible_collections.preheat.fleet.plugins.module_utils import (
    hf_use,
    sglang_cache_state,
    sglang_container,
    sglang_endpoints,
    sglang_log,
    sglang_phases,
    sglang_readiness,
)
from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import image_digest
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError
from ansible_collections.preheat.fleet.plugins.module_utils.docker_time import parse_timestamp
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_launch import Launch, reachable_host, url_of
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_removal import managed_container
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_wanted import Wanted


def engine_version(host, port):
    """The version that a server says it has; None where it does not say."""
    try:
        return sglang_endpoints.read_json(host, port, sglang_endpoints.SERVER_INFO, 10).get("version")
    except sglang_endpoints.NoAnswer:
        return None


class Server:
    """A server as the module's arguments want it. C(report) is what is known, also when ensure() raises."""

    def __init__(self, client, params, launch_start, check_mode=False, warn=lambda text: None):
        self.client = client
        self.params = params
        self.launch_start = launch_start
        self.check_mode = check_mode
        self.secrets = sglang_log.secret_values(params["environment"])
        self.wanted = Wanted(client, params, self.secrets, check_mode, warn)
        self.report = {"changed": False, "ready": False, "phases": [], "cache": {}, "log_tail": "", "command": []}

    def ensure(self):
        """Bring the server to what is wanted. Whatever can be wrong is found before anything is changed."""
        spec = self.wanted.spec(self.report)
        existing = managed_container(self.client, self.params["name"])
        differences = sglang_container.Differences(existing, spec)
        if existing and not differences.config_changed and existing["State"]["Running"]:
            serves = self._serves(existing)
            # A launch that is waited for in slices is watched to its end, so that its phases are known.
            if serves and not self.params["wait_seconds"]:
                log = self.client.logs(existing["Id"], tail=self.params["log_tail_lines"])
                self._note_log(sglang_log.scrub(log, self.secrets))
                self._note_container(existing, spec)
                self.report["ready"] = True
                return
            if serves or self._starts(existing):
                if not self.check_mode:
                    self._watch(self._new_launch(spec), existing)
                return
        self.report.update(changed=True, diff=differences.diff())
        if not self.check_mode:
            self._launch(spec, existing)

    def _serves(self, container):
        """Whether a running container is healthy."""
        host = reachable_host(self.params["publish_host"])
        return sglang_readiness.http_status(host, _port_of(container), "/health", 30) == 200

    def _starts(self, container):
        """Whether a running container, not healthy, was never ready and still has time to become it."""
        age_seconds = time.time() - parse_timestamp(container["State"]["StartedAt"])
        if age_seconds >= self.params["ready_timeout_seconds"]:
            return False
        return not sglang_phases.was_ready(self.client.logs(container["Id"]))

    # The launch

    def _launch(self, spec, existing):
        self.report["cache"] = sglang_cache_state.before(self.wanted.model.directory)
        if existing:
            self.client.stop(existing["Id"], self.params["stop_timeout_seconds"])
            self.client.remove(existing["Id"])
        if self.wanted.jit_folder:
            os.makedirs(self.wanted.jit_folder, exist_ok=True)
        if self.wanted.weight_cache:
            self.wanted.weight_cache.prepare(self.wanted.model, spec)
        hf_use.mark_mounts([(source, mode == "rw") for source, _target, mode in spec.mounts], spec.command(spec.port))
        self._watch(self._new_launch(spec))

    def _new_launch(self, spec):
        return Launch(
            self.client,
            spec,
            self.params,
            launch_start=self.launch_start,
            pulled=self.wanted.pulled,
            preloaded_at=self.wanted.weight_cache.started_at if self.wanted.weight_cache else None,
            secrets=self.secrets,
        )

    def _watch(self, launch, existing=None):
        """Run a launch, or wait on for one that an earlier call began; what is known goes into the report."""
        spec = launch.spec
        try:
            if existing:
                launch.resume(existing, _port_of(existing))
            else:
                launch.run()
            self.report["ready"] = launch.ready
            self._note_container(self.client.container(launch.container_id), spec)
            if launch.ready:
                self._note_cache(launch)
        except LaunchError:
            self.report["container"] = {"name": spec.name, "image": spec.image, "image_digest": self._digest()}
            self.report["log"] = sglang_log.cap(launch.log_text)
            if launch.container_id and not self.params["keep_failed"]:
                self.client.remove(launch.container_id)
            raise
        finally:
            self.report["phases"] = launch.phases
            self._note_log(launch.log_text)

    # What is known afterwards

    def _digest(self):
        return image_digest(self.wanted.image, self.params["image"])

    def _note_cache(self, launch):
        """What the launch read and compiled until it was ready, and where its weights came from."""
        wanted, cache = self.wanted, self.report["cache"]
        known = (wanted.model.directory, wanted.jit_folder, launch.launch_start)
        cache.update(sglang_cache_state.after(self.client, launch.container_id, *known))
        if wanted.weight_cache:
            cache.update(wanted.weight_cache.outcome(launch.log_text))

    def _note_log(self, text):
        self.report["log_tail"] = sglang_log.tail(text, self.params["log_tail_lines"])
        if self.params["return_log"]:
            self.report["log"] = sglang_log.cap(text)

    def _note_container(self, container, spec):
        host, port = reachable_host(spec.publish_host), _port_of(container)
        self.report.update(
            container={
                "id": container["Id"],
                "name": container["Name"].lstrip("/"),
                "image": spec.image,
                "image_digest": self._digest(),
                "created": container["Created"],
                "port": port if spec.host_network else spec.container_port,
                "environment": sorted(spec.environment),
            },
            host=spec.publish_host,
            port=port,
            url=url_of(spec.publish_host, port),
            command=spec.docker_command(port),
            engine_version=engine_version(host, port) if self.report["ready"] else None,
        )


def _port_of(container):
    return int(container["Config"]["Labels"][sglang_container.PORT_LABEL])
