"""The lab, as tests reach it: playbooks, the hosts over SSH, the Hub's counters."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAB = ROOT / ".lab"
HUB = "http://127.0.0.1:8090/__lab__"
HOSTS = {"gpu1": "172.30.213.11", "gpu2": "172.30.213.12"}
SPARE_HOSTS = {"gpu3": "172.30.213.13"}  # up with LAB_HOSTS=3 only


class Hub:
    """The admin side of the Hub for tests."""

    def _call(self, path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{HUB}/{path}", data=data), timeout=10) as answer:
            return json.loads(answer.read() or b"{}")

    def stats(self) -> dict:
        return self._call("stats")

    def post(self, path: str, **body) -> None:
        self._call(path, body)

    def model_bytes(self, host: str, repo: str) -> int:
        """Bytes of a repo's files that a host read."""
        return self.stats()["clients"].get(HOSTS[host], {}).get("repos", {}).get(repo, 0)


class Fleet:
    """The hosts, and playbooks run on them as a user would."""

    def playbook(self, name: str, *args: str, expect: int | None = 0, timeout: int = 900) -> str:
        """Run a root playbook; returns all that it printed. A failing run prints it before the test fails."""
        command = ["ansible-playbook", name, "-i", "tests/lab/inventory", *args]
        env = {**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if expect is not None and done.returncode != expect:
            print(done.stdout)
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}, not {expect}", pytrace=False)
        return done.stdout

    def module(self, host: str, name: str, **args: object) -> dict:
        """A module of preheat run on a host by itself, with the Python of the role gpu_host; its result."""
        python = "ansible_python_interpreter=/opt/preheat/venv/bin/python"
        command = ["ansible", host, "-i", "tests/lab/inventory", "-m", f"preheat.fleet.{name}"]
        command += [*(["-a", json.dumps(args)] if args else []), "-e", python, "--one-line"]
        env = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.partition(" => ")[2])

    def run(self, host: str, command: str) -> str:
        """A shell command on a host; its output."""
        return self.read(host, command).decode()

    def read(self, host: str, command: str, stdin: bytes | None = None) -> bytes:
        ssh = [
            "ssh", "-i", str(LAB / "ssh/id_ed25519"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
            "-o", f"UserKnownHostsFile={LAB / 'ssh/known_hosts'}", f"root@{(HOSTS | SPARE_HOSTS)[host]}", command,
        ]  # fmt: skip
        done = subprocess.run(ssh, input=stdin, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, f"{host}: {command}: {done.stderr.decode()}"
        return done.stdout

    def containers(self, host: str) -> list[str]:
        """Names of the containers that preheat made, running or not."""
        return self.run(host, "docker ps -a --filter label=preheat.managed=true --format '{{.Names}}'").split()

    def forget_models(self) -> None:
        for host in HOSTS:
            self.run(host, "rm -rf /root/.cache/huggingface /root/.cache/preheat")
