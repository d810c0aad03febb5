# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SGLang's weight-cache daemon: a container that keeps the weights in GPU memory while servers come and go.

The daemon (C(python3 -m sglang.srt.weight_cache.daemon), SGLang >= 0.5.19) loads the model as a server would and hands
the tensors on as CUDA IPC handles, to servers with C(--weight-cache-mode client), over a Unix socket for each GPU. What
follows from its source (0.5.19 and 0.5.23, C(srt/weight_cache)):

* The server watches the daemon by its process id, and torch counts references in C(/dev/shm): both containers share the
  daemon's namespaces of processes and of IPC. The sockets lie in C(/dev/shm) too, so that they end with the daemon.
* The daemon compares a fingerprint of the weights, which leaves much out. So here a server takes weights only from a
  daemon with its own flags, but for those that touch no weight (sglang_weight_rules.FREE).
* Without a socket a server loads from the disk, silently and beside the daemon's copy. So its log is asked afterwards.
"""

from __future__ import annotations

import re
import time

from ansible_collections.preheat.fleet.plugins.module_utils import (
    sglang_failure,
    sglang_log,
    sglang_weight_rules,
)
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_container import Differences, ServerSpec
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_flags import flag_arguments
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_removal import managed_container

COMMAND = ["python3", "-m", "sglang.srt.weight_cache.daemon"]
VERSION_COMMAND = ["python3", "-c", "from importlib.metadata import version; print(version('sglang'), end='')"]
CLIENT_ARGUMENTS = ["--weight-cache-mode", "client"]
# In the place of {device_uuid} SGLang puts the GPU's.
SOCKETS = {
    "SGLANG_WEIGHT_CACHE_SOCKET_TEMPLATE": "/dev/shm/sglang_weight_cache_{device_uuid}.sock",
    "SGLANG_WEIGHT_CACHE_READY_TEMPLATE": "/dev/shm/sglang_weight_cache_{device_uuid}.ready",
}
_READY_FILE = re.compile(r"^sglang_weight_cache_.*\.ready$", re.M)
_TAKEN = "Loaded model via IPC"
_POLL_SECONDS = 0.5


def client_spec(params, *made_of, jit_folder=None):
    """The container of a server that takes its weights from the daemon; arguments as of ServerSpec."""
    model, flags, image_id, gpu_access = made_of
    with_sockets = dict(params, environment={**params["environment"], **SOCKETS})
    flags = [*flags, *CLIENT_ARGUMENTS]
    joins = params["weight_cache"]
    return ServerSpec(with_sockets, model, flags, image_id, gpu_access, jit_folder=jit_folder, joins=joins)


class DaemonSpec(ServerSpec):
    """The daemon's container: as the server's, but for its command, without a network, with an IPC that others join."""

    def __init__(self, params, model, image_id, gpu_access, *, jit_folder=None):
        own = {
            "name": params["weight_cache"],
            "command": COMMAND,
            "ipc_mode": "shareable",
            "network_mode": "none",
            "restart_policy": "no",
            "labels": {},
            "environment": {**params["environment"], **SOCKETS},
        }
        flags = flag_arguments(sglang_weight_rules.daemon_parameters(params["parameters"]))
        super().__init__({**params, **own}, model, flags, image_id, gpu_access, jit_folder=jit_folder)

    def command(self, port):
        return self._arguments


class WeightCache:
    """The daemon that a server was asked to take its weights from.

    C(params) are those of sglang_server, with C(weight_cache), the name of its container. C(refusal) is why the server
    does not take them, C(started_at) when this call had the daemon load them (epoch seconds).
    """

    def __init__(self, client, params, secrets=()):
        self.client = client
        self.params = params
        self.secrets = secrets
        self.refusal = None
        self.started_at = None

    def accepts(self, model_directory, image_id):
        """Whether the daemon can serve this server; C(refusal) says why not. Without an image only arguments count."""
        self.refusal = sglang_weight_rules.refusal(self.params, model_directory)
        if not self.refusal and image_id:
            self.refusal = self._image_refusal(image_id)
        return not self.refusal

    def _image_refusal(self, image_id):
        """Why the image has no daemon. Asking it takes a second, so what already runs of it is looked at first."""
        server = self._running(self.params["name"], image_id)
        if server:
            joined = (server["HostConfig"].get("PidMode") or "").startswith("container:")
            return None if joined else "it was refused when this server was launched"
        if self._running(self.params["weight_cache"], image_id):
            return None
        return sglang_weight_rules.version_refusal(self.client.output_of_image(image_id, VERSION_COMMAND))

    def _running(self, name, image_id):
        container = managed_container(self.client, name)
        return container if container and container["State"]["Running"] and container["Image"] == image_id else None

    def prepare(self, model, server):
        """Have the daemon hold what C(server), a ServerSpec, wants; remove it for a server that was refused.

        A server that loads its own weights needs the memory that the daemon would hold.
        """
        spec = DaemonSpec(self.params, model, server.image_id, server.gpu_access, jit_folder=server.jit_folder)
        existing = managed_container(self.client, self.params["weight_cache"])
        fits = existing and existing["State"]["Running"] and not Differences(existing, spec).config_changed
        if fits and not self.refusal and self._serves(existing["Id"]):
            return
        if existing:
            self.client.remove(existing["Id"])
        if not self.refusal:
            self._start(spec)
            self.started_at = time.time()

    def _start(self, spec):
        container_id = self.client.create(
            name=spec.name,
            image=spec.image_id,
            command=spec.command(0),
            environment=spec.environment,
            labels=spec.all_labels(0),
            container_port=spec.container_port,
            **spec.host_config(0, self.client.device_request),
        )
        try:
            self.client.start(container_id, spec.name)
            self._wait(container_id)
        except LaunchError as error:
            self.client.remove(container_id)
            error.phase = "weights_preload"
            raise

    def _wait(self, container_id):
        deadline = time.monotonic() + self.params["ready_timeout_seconds"]
        while not self._serves(container_id):
            container = self.client.container(container_id)
            if not (container and container["State"]["Running"]):
                raise self._ended(container_id, container["State"] if container else {})
            if time.monotonic() >= deadline:
                raise LaunchError(
                    "timeout",
                    f"the weight-cache daemon '{self.params['weight_cache']}' does not serve after "
                    f"ready_timeout_seconds ({self.params['ready_timeout_seconds']})",
                    "Raise the limit, or leave weight_cache out.",
                )
            time.sleep(_POLL_SECONDS)

    def _ended(self, container_id, state):
        log = sglang_log.scrub(self.client.logs(container_id), self.secrets)
        exit_code = state.get("ExitCode")
        error_class, message, remedy = sglang_failure.classify(exit_code, state.get("OOMKilled"), log)
        message = f"the weight-cache daemon '{self.params['weight_cache']}': {message}"
        return LaunchError(error_class, message, f"{remedy} Or leave weight_cache out.", exit_code=exit_code)

    def _serves(self, container_id):
        """Whether every rank listens: each writes a file when it does."""
        listed = self.client.output_of(container_id, ["ls", "/dev/shm"])
        return len(_READY_FILE.findall(listed)) >= sglang_weight_rules.ranks(self.params["parameters"])

    def outcome(self, log):
        """Where the weights of a ready server came from, by its log: fields of the launch's C(cache)."""
        if not self.refusal and log.count(_TAKEN) >= sglang_weight_rules.ranks(self.params["parameters"]):
            return {"weights_rung": "gpu", "weight_cache": {"used": True, "reason": None}}
        reason = self.refusal or "the server loaded its weights itself, beside the daemon's: see its log"
        return {"weight_cache": {"used": False, "reason": reason}}
