"""A Docker engine whose containers are processes of this machine: what the SDK's APIClient is to DockerClient.

What the tests need of it: mounts and published ports are put in the place of what the command and the environment name
inside the container, output is kept with its times, and whatever else is asked of it is an AttributeError.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from docker import errors
from docker.types import HostConfig

LIGHT_ENGINE = Path(__file__).parents[1] / "lab" / "light_engine"
IMAGE = {"Id": "sha256:" + "1" * 64, "RepoTags": ["preheat-lab/light-engine:latest"], "RepoDigests": []}
NEVER = "0001-01-01T00:00:00Z"


def now() -> str:
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f"{seconds % 1:.6f}Z"[1:]


class Container:
    def __init__(self, number, *, image, name, command, environment, labels, host_config):
        self.id, self.name, self.created = f"{number:064x}", name, now()
        self.config = {"Image": image, "Labels": labels}
        self.config["Env"] = [f"{key}={value}" for key, value in environment.items()]
        self.command, self.environment, self.host = command, environment, host_config
        self.process, self.lines, self.started = None, [], NEVER

    def start(self):
        inside = dict(reversed(bind.split(":")[:2]) for bind in self.host.get("Binds") or [])
        for name, bindings in (self.host.get("PortBindings") or {}).items():
            inside[name.partition("/")[0]] = bindings[0]["HostPort"]

        def outside(word):
            found = inside.get(word, word)
            for target, source in inside.items():
                found = found.replace(target, source) if target.startswith("/") else found
            return "127.0.0.1" if found == "0.0.0.0" else found

        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(LIGHT_ENGINE)}
        environment.update({name: outside(value) for name, value in self.environment.items()})
        program = sys.executable if self.command[0] == "python3" else self.command[0]
        command = [program, *map(outside, self.command[1:])]
        try:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except FileNotFoundError as error:
            raise errors.APIError(
                "400", explanation=f'exec: "{program}": executable file not found in $PATH'
            ) from error
        self.started = now()
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()
        self.process = process  # last: other threads end what has one

    def _read(self, stdout):
        for line in stdout:
            self.lines.append((now(), line))

    def end(self, *signals):
        for number in signals if self.process else ():
            self.process.send_signal(number)
            self.process.wait()
        if self.process:
            self._reader.join()

    def inspected(self):
        code = self.process.poll() if self.process else 0
        running = self.process is not None and code is None
        return {
            "Id": self.id, "Name": f"/{self.name}", "Created": self.created, "Config": self.config,
            "State": {
                "Running": running, "Status": "running" if running else "exited", "StartedAt": self.started,
                "ExitCode": 0 if code is None else code if code >= 0 else 128 - code, "OOMKilled": False,
            },
        }  # fmt: skip


class ProcessEngine:
    def __init__(self):
        self.containers_by_id, self._numbers, self.policies = {}, itertools.count(1), {}
        self.refuse_starts = []  # explanations with which the next starts are refused

    def close(self):
        for container in self.containers_by_id.values():
            container.end(signal.SIGKILL)

    def _container(self, name):
        for container in self.containers_by_id.values():
            if name in (container.id, container.name):
                return container
        raise errors.NotFound(f"No such container: {name}")

    # as docker.APIClient

    def version(self):
        return {"Version": "28.5.0", "Arch": "amd64", "ApiVersion": "1.51"}

    def info(self):
        return {"Runtimes": {"nvidia": {}, "runc": {}}}

    def inspect_image(self, name):
        if name in (IMAGE["Id"], *IMAGE["RepoTags"]):
            return IMAGE
        raise errors.ImageNotFound(name)

    def images(self):
        return [IMAGE]

    def create_host_config(self, **given):
        return HostConfig(version="1.51", **given)

    def create_container(self, image, *, command, name, environment, labels, ports, host_config):
        assert bool(ports) == bool(host_config.get("PortBindings"))
        if any(container.name == name for container in self.containers_by_id.values()):
            raise errors.APIError("409", explanation=f"Conflict. The container name /{name} is already in use")
        made = Container(
            next(self._numbers), image=image, name=name, command=command, environment=environment, labels=labels,
            host_config=host_config,
        )  # fmt: skip
        self.containers_by_id[made.id] = made
        return {"Id": made.id}

    def start(self, container_id):
        if self.refuse_starts:
            raise errors.APIError("500", explanation=self.refuse_starts.pop(0))
        self._container(container_id).start()

    def inspect_container(self, name):
        return self._container(name).inspected()

    def containers(self, all, filters):
        assert all
        wanted = [label.split("=", 1) for label in filters["label"]]
        found = [
            container
            for container in self.containers_by_id.values()
            if not [key for key, value in wanted if container.config["Labels"].get(key) != value]
        ]
        return [{"Names": [f"/{container.name}"]} for container in found]

    def logs(self, container_id, *, stdout, stderr, timestamps, tail):
        assert stdout
        assert stderr
        lines = self._container(container_id).lines
        lines = lines if tail == "all" else lines[-tail:]
        return b"".join(f"{time} ".encode() + line if timestamps else line for time, line in lines)

    def stop(self, container_id, timeout):
        assert timeout >= 0
        self._container(container_id).end(signal.SIGTERM)

    def remove_container(self, container_id, *, force, v):
        assert force
        assert v
        self._container(container_id).end(signal.SIGKILL)
        del self.containers_by_id[container_id]

    def update_container(self, container_id, restart_policy):
        self.policies[container_id] = restart_policy["Name"]

    def stats(self, container_id, *, stream, one_shot):
        assert (stream, one_shot) == (False, True)
        device = {"major": 8, "minor": 0, "op": "Read", "value": 4096}
        return {"blkio_stats": {"io_service_bytes_recursive": [device]}}
