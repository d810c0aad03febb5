"""A sweep of the light engine on the lab's three hosts, as its controller, its hosts and its disk fail under it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from lab_fleet import HOSTS, ROOT, SPARE_HOSTS, Fleet

ALL_HOSTS = [*HOSTS, *SPARE_HOSTS]
LAB_SWEEP = yaml.safe_load((ROOT / "tests/lab/sweep.yml").read_text())
PATIENCE_SECONDS = 300


def lab_up() -> None:
    """Bring up what is missing of the three hosts."""
    command = ["env", f"LAB_HOSTS={len(ALL_HOSTS)}", "tests/lab/lab.sh", "up"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Run:
    """One run of tune.yml, in a session of its own."""

    def __init__(self, sweep_file: Path, log: Path) -> None:
        self.log = log
        command = ["ansible-playbook", "tune.yml", "-i", "tests/lab/inventory", "-e", f"@{sweep_file}"]
        env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
        with open(log, "w") as stream:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until(self, holds: Callable[[], Any], what: str) -> Any:
        """Until it holds; returns what made it hold."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := holds()):
            assert self.process.poll() is None, f"it ended without {what}:\n{self.output()}"
            assert time.monotonic() < deadline, f"it does not come to {what}:\n{self.output()}"
            time.sleep(0.05)
        return found

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Until the run has said something that matches."""
        return self.wait_until(lambda: re.search(pattern, self.output(), re.MULTILINE), repr(pattern))

    def ended(self) -> int:
        try:
            return self.process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it does not end:\n{self.output()}") from None

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def begun(self) -> list[int]:
        """Numbers of the trials that this run claimed, in order, twice where it began one twice."""
        return [int(number) for number in re.findall(r"trial (\d+) \(\d+ in all\): begins", self.output())]


class SweepUnderFaults:
    """``trials`` points, each on a server that starts in half a second."""

    def __init__(
        self, folder: Path, *, trials: int, benchmark_seconds: float = 0.2, results: Path | None = None,
        hosts: list[str] = ALL_HOSTS, storage: str = "",
    ) -> None:  # fmt: skip
        self.trials, self.folder = trials, folder
        self.results = (results or folder / "results") / "faults"
        self.runs: list[Run] = []
        environment = {"LIGHT_ENGINE_START_SECONDS": "0.5", "LIGHT_ENGINE_BENCH_SECONDS": str(benchmark_seconds)}
        space = {"max_running_requests": list(range(1, trials + 1))}
        sweep = {
            **LAB_SWEEP,
            "preheat_hosts": ",".join(hosts),
            "sweep_storage": storage,
            "sweep_name": self.results.name,
            "sweep_image": "preheat-lab/light-engine:latest",
            "sweep_results_dir": str(self.results.parent),
            "sweep_server": {**LAB_SWEEP["sweep_server"], "space": space, "environment": environment},
            "sweep_search": {"baseline": False},
            "sweep_workloads": [
                {"name": "w", "input_tokens": 8, "output_tokens": 4, "concurrency": [2], "num_prompts": 4}
            ],
        }
        self.file = folder / "sweep.yml"
        self.file.write_text(yaml.safe_dump(sweep))

    def start(self) -> Run:
        self.runs.append(Run(self.file, self.folder / f"run-{len(self.runs)}.log"))
        return self.runs[-1]

    def run(self, expect: int = 0) -> Run:
        run = self.start()
        assert run.ended() == expect, run.output()
        return run

    def texts(self) -> dict[int, str]:
        """The records that are there, as they are on disk."""
        return {int(path.parent.name): path.read_text() for path in sorted(self.results.glob("trials/*/trial.json"))}

    def records(self) -> dict[int, dict]:
        return {number: json.loads(text) for number, text in self.texts().items()}

    def check_whole(self, fleet: Fleet, kept: dict[int, str]) -> None:
        """Every point has one result, those of ``kept`` are untouched, and the hosts are clean."""
        output = self.runs[-1].output()
        texts, records = self.texts(), self.records()
        assert list(records) == list(range(self.trials)), output
        assert {record["status"] for record in records.values()} == {"complete"}, output
        points = [record["params"]["max_running_requests"] for record in records.values()]
        assert sorted(points) == list(range(1, self.trials + 1)), "a point was launched under two numbers"
        assert [number for number, text in kept.items() if texts[number] != text] == [], "a record was changed"
        for record in records.values():
            assert record["start"] < record["end"], record
            assert record["phases"][-1]["name"] == "unattributed", record
        assert {host: fleet.containers(host) for host in ALL_HOSTS} == {host: [] for host in ALL_HOSTS}
