"""A fleet to measure on: hosts and a Hub in network namespaces of this machine, with shaped links. Needs root.

    with Fleet(folder, hosts=8, hub_mbit=100, lan_mbit=200) as fleet: ...

Every host has its own address, cache and processes; what a host does starts in its namespace. In the place of Ansible's
SSH connection stands a pipe to a process there that answers one request after the other, with the delay of a module.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
NETWORK = "10.77.33"
CALL_SECONDS = 0.3  # of a module over SSH, with pipelining (measured 0.26 to 0.35)
HUB_PORT = 8090


class HostLost(Exception):
    """What Ansible says when a connection breaks."""


def run(command: str, check: bool = True) -> None:
    subprocess.run(command.split(), check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Host:
    """One namespace with a link of its own to the switch."""

    def __init__(self, prefix: str, number: int, folder: Path, mbit: float, python: str):
        self.name, self.address = f"host{number}", f"{NETWORK}.{number}"
        self.space, self._link, self._switch = f"{prefix}-{number}", f"link{number}", f"{prefix}-switch"
        self.cache, self._python, self._mbit = folder / self.name / "hub", python, mbit
        self.process: subprocess.Popen | None = None
        self.has_libtorrent = True
        self._lock = threading.Lock()

    def connect(self) -> None:
        run(f"ip netns add {self.space}")
        run(f"ip link add eth0 netns {self.space} type veth peer name {self._link} netns {self._switch}")
        run(f"ip -n {self._switch} link set {self._link} master br up")
        run(f"ip -n {self.space} addr add {self.address}/24 dev eth0")
        run(f"ip -n {self.space} link set eth0 up")
        run(f"ip -n {self.space} link set lo up")
        shape = f"root tbf rate {self._mbit}mbit burst 256kb latency 40ms"
        run(f"tc -n {self.space} qdisc add dev eth0 {shape}")
        run(f"tc -n {self._switch} qdisc add dev {self._link} {shape}")

    def start(self) -> None:
        less = [] if self.has_libtorrent else ["--without", "libtorrent"]
        self.process = self.popen([self._python, str(Path(__file__).with_name("warm_host.py")), *less])

    def popen(self, command: list[str], **more) -> subprocess.Popen:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, **more}
        return subprocess.Popen(["ip", "netns", "exec", self.space, *command], **streams)

    def call(self, request: dict) -> dict:
        """One request, as a module would answer it."""
        from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import NoAgent, SwarmError

        with self._lock:
            time.sleep(CALL_SECONDS / 2)
            try:
                self.process.stdin.write(json.dumps(request) + "\n")
                self.process.stdin.flush()
                line = self.process.stdout.readline()
            except (OSError, ValueError) as error:
                raise HostLost(f"{self.name}: {error}") from error
            if not line:
                raise HostLost(f"{self.name}: the connection was closed")
            answer = json.loads(line)
            time.sleep(CALL_SECONDS / 2)
        if answer.get("no_agent"):
            raise NoAgent(answer["no_agent"])
        if answer.get("failed"):
            raise SwarmError(answer["reason"], answer["message"], answer["remedy"], answer.get("traceback", ""))
        return answer

    def pids(self) -> list[int]:
        found = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def kill(self) -> None:
        """The host is gone: its processes, and its link, as if the power was cut."""
        run(f"ip -n {self.space} link set eth0 down", check=False)
        self.kill_processes()

    def kill_processes(self) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def remove(self) -> None:
        self.kill_processes()
        run(f"ip netns del {self.space}", check=False)


class Fleet:
    def __init__(self, folder: Path, hosts: int, hub_mbit: float, lan_mbit: float, python: str):
        self.folder, self._prefix = folder, f"ph{os.getpid() % 10000}"
        self.hosts = [Host(self._prefix, n, folder, lan_mbit, python) for n in range(1, hosts + 1)]
        self._hub_host = Host(self._prefix, 100, folder, hub_mbit, sys.executable)
        self.root = folder / "models"
        self.endpoint = f"http://{NETWORK}.100:{HUB_PORT}"

    def __enter__(self) -> Fleet:
        try:
            # A namespace for the switch too: the firewall of this machine's own (Docker's) must not look into it.
            run(f"ip netns add {self._prefix}-switch")
            run(f"ip -n {self._prefix}-switch link add name br type bridge")
            run(f"ip -n {self._prefix}-switch link set dev br up")
            run(f"ip link add {self._prefix}-c type veth peer name controller netns {self._prefix}-switch")
            run(f"ip -n {self._prefix}-switch link set controller master br up")
            run(f"ip addr add {NETWORK}.254/24 dev {self._prefix}-c")
            run(f"ip link set {self._prefix}-c up")
            for host in [*self.hosts, self._hub_host]:
                host.connect()
            hub = ROOT / "tests/lab/hub/hub.py"
            state = str(self.folder / "hub-state")
            self._hub_host.popen(
                [sys.executable, str(hub), "--root", str(self.root), "--state-dir", state, "--port", str(HUB_PORT)],
                stdout=subprocess.DEVNULL,
            )
            for _ in range(100):
                try:
                    self.hub("health")
                    break
                except OSError:
                    time.sleep(0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error) -> None:
        for host in [*self.hosts, self._hub_host]:
            host.remove()
        run(f"ip link del {self._prefix}-c", check=False)
        run(f"ip netns del {self._prefix}-switch", check=False)

    def start(self) -> None:
        """Fresh hosts: empty caches, links up, a process to ask."""
        for host in self.hosts:
            host.kill_processes()
            run(f"ip -n {host.space} link set eth0 up")
            shutil.rmtree(host.cache.parent, ignore_errors=True)
            host.cache.parent.mkdir(parents=True)
            host.start()
        self.hub("reset", {})

    def hub(self, action: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.endpoint}/__lab__/{action}", data=data), timeout=10
        ) as answer:
            return json.loads(answer.read() or b"{}")

    def hub_bytes(self, repo: str) -> int:
        """Bytes of files that all hosts have read, without what the controller asked for the manifest."""
        clients = self.hub("stats")["clients"]
        return sum(clients.get(host.address, {}).get("repos", {}).get(repo, 0) for host in self.hosts)


def host_python() -> str:
    """A Python with what the role gpu_host installs on hosts, made once."""
    lock, folder = ROOT / "requirements/host.txt", ROOT / ".lab/host-venv"
    stamp = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not (folder / "stamp").exists() or (folder / "stamp").read_text() != stamp:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = ["install", "-qq", "--disable-pip-version-check", "--require-hashes", "-r", str(lock)]
        subprocess.run([str(folder / "bin/pip"), *install], check=True)
        (folder / "stamp").write_text(stamp)
    return str(folder / "bin/python")


def make_model(root: Path, repo: str, shards: int, shard_bytes: int) -> None:
    folder = root / repo
    folder.mkdir(parents=True)
    for number in range(shards):
        (folder / f"model-{number + 1:05}-of-{shards:05}.safetensors").write_bytes(os.urandom(shard_bytes))
    (folder / "config.json").write_text('{"model_type": "none"}')
    (folder / "tokenizer.json").write_text(json.dumps({"vocab": list(range(100_000))}))
