#!/usr/bin/env python3
"""Time to ready on each rung of the cache: the best trial's launch through preheat, and as a bare docker run.

usage: ladder.py RESULTS_FOLDER OUT_FOLDER SECONDS -- ANSIBLE_PLAYBOOK_COMMAND...

RESULTS_FOLDER is a sweep's; the command is that of launch.yml, to which the variables of each launch are added. Writes
OUT/rungs.jsonl, one launch a line, and for each launch its result and log. Begins no launch after SECONDS.
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
# With less time left than this, a launch is not begun.
LAUNCH_SECONDS = 70
JIT_COLD_SECONDS = 180


def best_trial(results: Path) -> dict:
    """The record with the highest objective among those that may win."""
    records = [json.loads(file.read_text()) for file in sorted(results.glob("trials/*/trial.json"))]
    eligible = [record for record in records if record["eligible"]]
    if not eligible:
        sys.exit(f"ERROR: none of the {len(records)} trials in {results} may win: there is no launch to repeat")
    return max(eligible, key=lambda record: record["objective"]["value"])


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
        self.out, self.play = given.out, given.command
        self.deadline = time.monotonic() + given.seconds
        self.trial = best_trial(given.results)
        self.out.mkdir(parents=True, exist_ok=True)

    def cache(self) -> Path:
        mount = self.trial["command"][self.trial["command"].index("--volume") + 1]
        return Path(mount.split(":")[0])

    def note(self, **line) -> None:
        text = json.dumps(line)
        with (self.out / "rungs.jsonl").open("a") as file:
            file.write(text + "\n")
        print(time.strftime("[%H:%M:%S]"), text, flush=True)

    def time_is_up(self, name: str, needed: float = LAUNCH_SECONDS) -> bool:
        if time.monotonic() + needed < self.deadline:
            return False
        print(f"{name}: left out, the time is up", flush=True)
        return True

    def preheat(self, name: str, rung: str, jit_cache_dir: str | None = None) -> None:
        if self.time_is_up(name, JIT_COLD_SECONDS if jit_cache_dir else LAUNCH_SECONDS):
            return
        gpus = [gpu["uuid"] for gpu in self.trial["slot"]["members"][0]["gpus"]]
        variables = {"launch_name": name, "launch_out": str(self.out), "launch_gpus": gpus}
        variables |= {"launch_parameters": self.trial["server_parameters"], "launch_model": self.trial["model"]}
        if jit_cache_dir:
            variables["launch_jit_cache_dir"] = jit_cache_dir
        start = time.monotonic()
        done = subprocess.run([*self.play, "-e", json.dumps(variables)], capture_output=True, text=True, check=False)
        play_seconds = time.monotonic() - start
        kept = self.out / f"{name}.json"
        if done.returncode or not kept.exists():
            print(f"{name} failed\n{done.stdout[-3000:]}{done.stderr[-2000:]}", flush=True)
            self.remove(name)
            return
        result = json.loads(kept.read_text())
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
        """The same container by hand: the trial's own account of its command, under another name."""
        if self.time_is_up(name):
            return
        command = list(self.trial["command"])
        command[command.index("--name") + 1] = name
        port = command[command.index("--publish") + 1].split(":")[1]
        timed = [sys.executable, str(HERE / "timed_launch.py"), name, str(self.out), "--port", port, "--", *command]
        subprocess.run(timed, stdout=subprocess.DEVNULL, check=False)
        result = json.loads((self.out / f"{name}.json").read_text())
        self.note(
            name=name, rung=rung, way="bare", ready_seconds=result.get("ready_seconds"), error=result.get("error")
        )
        self.remove(name)

    @staticmethod
    def remove(name: str) -> None:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)

    def climb(self) -> None:
        self.round(1)
        read(self.cache())
        self.preheat("jit-cold-preheat", "page_cache", jit_cache_dir=str(self.out.parent / "jit-empty"))
        self.round(2)

    def round(self, turn: int) -> None:
        cache = self.cache()
        for rung, prepare in (("disk", drop), ("page_cache", read)):
            prepare(cache)
            self.preheat(f"{rung}-preheat-{turn}", rung)
            prepare(cache)
            self.bare(f"{rung}-bare-{turn}", rung)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to ready on each rung.")
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("command", nargs="+")
    Ladder(parser.parse_args()).climb()


if __name__ == "__main__":
    main()
