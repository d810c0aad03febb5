"""What a run of ansible-playbook costs the controller."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Cost:
    """seconds: of the clock; cpu_seconds: of the processor, of all processes that the run waited for,
    modules on this machine included; peak_bytes: of memory, shared pages counted once."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    said: str


def play(playbook: Path | str, inventory: Path, *args: str, environment: dict[str, str] | None = None) -> Cost:
    """Run a playbook; SystemExit with what it said if it fails. The inventory's path must be that of no other run."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(playbook), "-i", str(inventory), *args]
    before, begin = os.times(), time.monotonic()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        peak = [0]
        threading.Thread(target=_watch, args=(process, str(inventory), peak), daemon=True).start()
        said = process.communicate()[0]
    seconds, after = time.monotonic() - begin, os.times()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said[-3000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(seconds, cpu, peak[0], said)


def _watch(process: subprocess.Popen, inventory: str, peak: list[int]) -> None:
    while process.poll() is None:
        total = 0
        for folder in Path("/proc").iterdir():
            try:
                # The workers are forks with the same command line, in sessions of their own.
                if folder.name.isdigit() and inventory in (folder / "cmdline").read_text():
                    facts = (folder / "smaps_rollup").read_text()
                    total += int(facts.split("\nPss:")[1].split()[0]) * 1024
            except (OSError, IndexError):
                continue
        peak[0] = max(peak[0], total)
        time.sleep(1)
