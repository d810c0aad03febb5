#!/usr/bin/env python3
"""Time to ready on each rung of the cache: one configuration launched through preheat, and as a bare docker run.

usage: ladder.py ROUND HUB_CACHE OUT_FOLDER PARAMETERS SECONDS -- ANSIBLE_PLAYBOOK_COMMAND...

PARAMETERS are the server's, as JSON; the command is that of launch.yml, to which the variables of each launch are
added. Round 1 begins with a launch that finds the JIT caches as they are: cold, where nothing was launched before.
Round 0 is the same launch and the rung of GPU memory alone: beside the page cache, servers that take their weights from
SGLang's weight-cache daemon. Its first launch starts the daemon.
Writes OUT/rungs.jsonl, one launch a line, and for each launch its result and log. Begins no launch that would not end
within SECONDS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
# What a launch is expected to take at most, with its play. With cold JIT caches a model of 22.5 GB needed over 240 s.
LAUNCH_SECONDS = 75
JIT_COLD_SECONDS = 330
# Variables that the command which preheat tells takes from its caller's environment: it has their names alone.
ENVIRONMENT = {
    "SGLANG_SKIP_SGL_KERNEL_VERSION_CHECK": "1",
    "SGLANG_WEIGHT_CACHE_SOCKET_TEMPLATE": "/dev/shm/sglang_weight_cache_{device_uuid}.sock",
    "SGLANG_WEIGHT_CACHE_READY_TEMPLATE": "/dev/shm/sglang_weight_cache_{device_uuid}.ready",
}


def weight_files(cache: Path) -> list[Path]:
    return [file for file in cache.glob("models--*/blobs/*") if file.is_file()]


def drop(cache: Path) -> None:
    """Take the model's files, and nothing else, out of the page cache."""
    os.sync()
    for file in weight_files(cache):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(cache: Path) -> None:
    for file in weight_files(cache):
        with file.open("rb", buffering=0) as opened:
            while opened.read(1 << 24):
                pass


class Ladder:
    def __init__(self, given: argparse.Namespace):
        self.out, self.play, self.cache = given.out, given.command, given.cache
        self.parameters = json.loads(given.parameters)
        self.deadline = time.monotonic() + given.seconds
        self.launched: list[str] = []  # preheat's own account of its command: what a bare run repeats
        self.out.mkdir(parents=True, exist_ok=True)

    def note(self, **line) -> None:
        text = json.dumps(line)
        with (self.out / "rungs.jsonl").open("a") as file:
            file.write(text + "\n")
        print(time.strftime("[%H:%M:%S]"), text, flush=True)

    def time_is_up(self, name: str, needed: float) -> bool:
        if time.monotonic() + needed < self.deadline:
            return False
        print(f"{name}: left out, the time is up", flush=True)
        return True

    def preheat(self, name: str, rung: str, needed: float = LAUNCH_SECONDS, **more: str) -> None:
        if self.time_is_up(name, needed):
            return
        variables = {"launch_name": name, "launch_out": str(self.out), "launch_parameters": self.parameters, **more}
        start = time.monotonic()
        done = subprocess.run([*self.play, "-e", json.dumps(variables)], capture_output=True, text=True, check=False)
        play_seconds = time.monotonic() - start
        kept = self.out / f"{name}.json"
        if done.returncode or not kept.exists():
            print(f"{name} failed\n{done.stdout[-3000:]}{done.stderr[-2000:]}", flush=True)
            self.note(name=name, rung=rung, way="preheat", ready_seconds=None, play_seconds=round(play_seconds, 3))
            self.remove(name)
            return
        result = json.loads(kept.read_text())
        self.launched = result["command"]
        phases = result["phases"]
        self.note(
            name=name,
            rung=rung,
            way="preheat",
            ready_seconds=round(sum(phase["seconds"] for phase in phases), 3),
            task_seconds=round(result["task"]["end"] - result["task"]["start"], 3),
            play_seconds=round(play_seconds, 3),
            cache=result["cache"],
            phases={phase["name"]: round(phase["seconds"], 3) for phase in phases},
        )
        self.remove(name)

    def bare(self, name: str, rung: str) -> None:
        """The same container by hand: preheat's own account of its command, under another name."""
        if not self.launched or self.time_is_up(name, LAUNCH_SECONDS):
            return
        command = list(self.launched)
        command[command.index("--name") + 1] = name
        port = command[command.index("--publish") + 1].split(":")[1]
        timed = [sys.executable, str(HERE / "timed_launch.py"), name, str(self.out), "--port", port, "--", *command]
        subprocess.run(timed, stdout=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT}, check=False)
        result = json.loads((self.out / f"{name}.json").read_text())
        self.note(
            name=name, rung=rung, way="bare", ready_seconds=result.get("ready_seconds"), error=result.get("error")
        )
        self.remove(name)

    @staticmethod
    def remove(name: str) -> None:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)

    def climb(self, turn: int) -> None:
        if turn < 2:
            read(self.cache)
            self.preheat("jit-as-found-preheat", "page_cache", JIT_COLD_SECONDS)
        if turn == 0:
            self.climb_gpu()
            return
        for rung, prepare in (("disk", drop), ("page_cache", read)):
            prepare(self.cache)
            self.preheat(f"{rung}-preheat-{turn}", rung)
            prepare(self.cache)
            self.bare(f"{rung}-bare-{turn}", rung)

    def climb_gpu(self) -> None:
        daemon = "ladder-weights"
        self.preheat("gpu-first-preheat", "gpu", launch_weight_cache=daemon)
        for turn in (1, 2):
            self.preheat(f"gpu-preheat-{turn}", "gpu", launch_weight_cache=daemon)
            self.bare(f"gpu-bare-{turn}", "gpu")
        self.remove(daemon)
        for turn in (1, 2):
            self.preheat(f"page_cache-preheat-{turn}", "page_cache")
            self.bare(f"page_cache-bare-{turn}", "page_cache")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to ready on each rung.")
    parser.add_argument("round", type=int)
    parser.add_argument("cache", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("parameters")
    parser.add_argument("seconds", type=float)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    Ladder(given).climb(given.round)


if __name__ == "__main__":
    main()
