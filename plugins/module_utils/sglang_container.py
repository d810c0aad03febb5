# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container that a server runs in: what it is made of, what would make it be recreated, and the difference."""

from __future__ import annotations

import hashlib
import json
import shlex

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_jit_cache
from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import MANAGED_LABEL

CONFIG_LABEL = "preheat.config"
SPEC_LABEL = "preheat.spec"
PORT_LABEL = "preheat.port"
OWN_LABELS = (MANAGED_LABEL, CONFIG_LABEL, SPEC_LABEL, PORT_LABEL)

# Where an image that runs as root looks by itself; HF_HUB_CACHE says it to every other image.
CONTAINER_CACHE_DIR = "/root/.cache/huggingface/hub"

OFFLINE_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_CACHE": CONTAINER_CACHE_DIR}

TOKEN_NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_API_TOKEN")


def check_environment(environment):
    """Raise ValueError for a variable that would break what every launch promises: offline, and no token."""
    for name in sorted(environment):
        if name.upper() in TOKEN_NAMES:
            raise ValueError(
                f"environment.{name}: a server runs offline and gets no token. Give the token to "
                "preheat.fleet.hf_model (variable model_cache_token), which fetches the model beforehand."
            )
        if name in OFFLINE_ENVIRONMENT:
            raise ValueError(
                f"environment.{name}: the module sets this variable ({OFFLINE_ENVIRONMENT[name]}): leave it out. "
                "The cache on the host is chosen with cache_dir."
            )


def canonical_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class ServerSpec:
    """Everything that the container is made of, apart from the port that is found when it starts.

    C(jit_folder) is the folder under C(jit_cache_dir) for this image and these GPUs. C(joins) is the container whose
    namespaces of processes and of IPC this one shares, if any.
    """

    def __init__(self, params, model, flags, image_id, gpu_access, *, jit_folder=None, joins=None):
        self.name = params["name"]
        self.image = params["image"]
        self.image_id = image_id
        self.jit_folder = jit_folder
        self.user_environment = {key: str(value) for key, value in params["environment"].items()}
        self.gpus = [str(gpu) for gpu in params["gpus"]] if gpu_access != "none" else []
        self.gpu_access = gpu_access if self.gpus else "none"
        # As the engine names them, for who knows the engine.
        self.cdi_devices = [f"nvidia.com/gpu={gpu}" for gpu in self.gpus]
        self.shm_size_bytes = params["shm_size_bytes"]
        self.ipc_mode = f"container:{joins}" if joins else params["ipc_mode"]
        self.pid_mode = f"container:{joins}" if joins else None
        self.network_mode = params["network_mode"]
        self.publish_host = params["publish_host"]
        self.port = params["port"]
        self.container_port = params["container_port"]
        self.restart_policy = params["restart_policy"]
        self.init = params["init"]
        self.labels = {key: str(value) for key, value in params["labels"].items()}
        self._arguments = list(params["command"]) + model.arguments + flags
        self.environment = dict(OFFLINE_ENVIRONMENT)
        self.mounts = [(model.mount[0], model.mount[1], "ro")]
        self._settled_mounts = list(self.mounts)
        if params["jit_cache_dir"]:
            self.environment.update(sglang_jit_cache.environment())
            self.mounts.append((jit_folder or params["jit_cache_dir"], sglang_jit_cache.CONTAINER_JIT_DIR, "rw"))
            # The folder under the root follows from the image and the GPUs, which are compared themselves. Compared
            # too, it would replace a healthy server whenever nvidia-smi does not answer.
            self._settled_mounts.append((params["jit_cache_dir"], sglang_jit_cache.CONTAINER_JIT_DIR, "rw"))
        self.environment.update(self.user_environment)

    @property
    def host_network(self):
        return self.network_mode == "host"

    @property
    def _publishes(self):
        return self.network_mode not in ("host", "none")

    @property
    def _foreign_shm(self):
        """Whether /dev/shm is the host's or another container's, which has its own size."""
        return (self.ipc_mode or "").startswith(("host", "container:"))

    def command(self, port):
        """The command of the container. On the host's network the server itself listens where it is offered."""
        listen = (self.publish_host, port) if self.host_network else ("0.0.0.0", self.container_port)
        return [*self._arguments, "--host", listen[0], "--port", str(listen[1])]

    def config(self):
        """What makes the container be recreated when it changes. The values of the environment are hashed."""
        return {
            "image": self.image_id,
            "command": self._arguments,
            "environment": {
                name: hashlib.sha256(value.encode()).hexdigest()[:12] if name in self.user_environment else value
                for name, value in sorted(self.environment.items())
            },
            "mounts": [":".join(mount) for mount in self._settled_mounts],
            "gpus": self.gpus,
            "gpu_access": self.gpu_access,
            "shm_size_bytes": self.shm_size_bytes,
            "ipc_mode": self.ipc_mode,
            "network_mode": self.network_mode,
            "publish_host": self.publish_host,
            "port": self.port,
            "container_port": self.container_port,
            "restart_policy": self.restart_policy,
            "init": self.init,
            "labels": self.labels,
        }

    def config_hash(self):
        return hashlib.sha256(canonical_json(self.config()).encode()).hexdigest()

    def all_labels(self, port):
        return dict(
            self.labels,
            **{
                MANAGED_LABEL: "true",
                CONFIG_LABEL: self.config_hash(),
                SPEC_LABEL: canonical_json(self.config()),
                PORT_LABEL: str(port),
            },
        )

    def host_config(self, port, device_request):
        """Arguments for the SDK's create_host_config."""
        arguments = {
            "binds": [":".join(mount) for mount in self.mounts],
            "shm_size": self.shm_size_bytes,
            "network_mode": self.network_mode,
            "init": self.init,
        }
        if self.ipc_mode:
            arguments["ipc_mode"] = self.ipc_mode
        if self.pid_mode:
            arguments["pid_mode"] = self.pid_mode
        if self._foreign_shm:
            del arguments["shm_size"]
        if self._publishes:
            arguments["port_bindings"] = {self.container_port: (self.publish_host, port)}
        if self.gpus:
            arguments["device_requests"] = [device_request(self.gpu_access, self.gpus)]
        return arguments

    def docker_command(self, port):
        """The same container as a docker command to read and to repeat by hand.

        Of the environment that the caller gave only the names stand here: docker takes their values from its own.
        """
        command = ["docker", "run", "--detach", "--name", self.name]
        command += ["--init"] if self.init else []
        for source, target, mode in self.mounts:
            command += ["--volume", f"{source}:{target}:{mode}"]
        for name in sorted(self.environment):
            own = name not in self.user_environment
            command += ["--env", f"{name}={self.environment[name]}" if own else name]
        if self.gpu_access == "device_request":
            command += ["--gpus", '"device={}"'.format(",".join(self.gpus))]
        for device in self.cdi_devices if self.gpu_access == "cdi" else []:
            command += ["--device", device]
        if self.ipc_mode:
            command += ["--ipc", self.ipc_mode]
        if self.pid_mode:
            command += ["--pid", self.pid_mode]
        if not self._foreign_shm:
            command += ["--shm-size", str(self.shm_size_bytes)]
        command += ["--network", self.network_mode]
        if self._publishes:
            command += ["--publish", f"{self.publish_host}:{port}:{self.container_port}"]
        if self.restart_policy != "no":
            command += ["--restart", self.restart_policy]
        return [*command, self.image, *self.command(port)]


class Differences:
    """What differs between the container that is there and the one that is wanted."""

    def __init__(self, container, spec):
        labels = container["Config"]["Labels"] or {} if container else {}
        self.before = {"state": "absent"}
        self.after = dict(spec.config(), state="started")
        if container:
            self.before = dict(config_of(container), state=_state_of(container))
        self.config_changed = labels.get(CONFIG_LABEL) != spec.config_hash()

    def diff(self):
        """{before, after} with only what differs, the command one argument a line."""
        names = [name for name in sorted(set(self.before) | set(self.after)) if self._differs(name)]
        return {
            "before": {name: _readable(self.before[name]) for name in names if name in self.before},
            "after": {name: _readable(self.after[name]) for name in names if name in self.after},
        }

    def _differs(self, name):
        return self.before.get(name) != self.after.get(name)


def config_of(container):
    """ServerSpec.config() of a container that is there, by its label; empty where that says nothing."""
    try:
        return json.loads((container["Config"]["Labels"] or {}).get(SPEC_LABEL) or "{}")
    except ValueError:
        return {}


def _state_of(container):
    return "started" if container["State"].get("Running") else container["State"].get("Status", "stopped")


def _readable(value):
    return shlex.join(value) if isinstance(value, list) else value
