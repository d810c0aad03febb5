"""What it costs to find that nothing is to do: a play over many hosts that all hold the model."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - preheat.fleet.hf_swarm: {{repo_id: {repo}, cache_dir: {cache}, endpoint: {endpoint}}}
"""


def run(hosts: int, *, folder: Path, repo: str, cache: Path, endpoint: str, python: str) -> tuple[float, float]:
    """(seconds, megabytes of memory at the peak) of a play over so many hosts, all of them this machine."""
    inventory = folder / f"inventory-{hosts}"
    lines = [f"h{number} ansible_connection=local ansible_python_interpreter={python}" for number in range(hosts)]
    inventory.write_text("\n".join(lines) + "\n")
    play = folder / "noop.yml"
    play.write_text(PLAY.format(repo=repo, cache=cache, endpoint=endpoint))
    # All hosts are one machine here, and all give the same address.
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(inventory),
        str(play),
        "-f",
        str(hosts),
    ]
    begin = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        peak = [0.0]
        threading.Thread(target=_watch, args=(process, str(inventory), peak), daemon=True).start()
        said = process.communicate()[0]
    if process.returncode or "changed=1" in said:
        raise SystemExit(f"the play was no no-op:\n{said[-3000:]}")
    return time.monotonic() - begin, peak[0]


def _watch(process: subprocess.Popen, inventory: str, peak: list[float]) -> None:
    while process.poll() is None:
        total = 0
        for folder in Path("/proc").iterdir():
            try:
                # The workers are forks with the same command line, in sessions of their own.
                if folder.name.isdigit() and inventory in (folder / "cmdline").read_text():
                    facts = (folder / "smaps_rollup").read_text()
                    total += int(facts.split("\nPss:")[1].split()[0])
            except (OSError, IndexError):
                continue
        peak[0] = max(peak[0], total / 1000)
        time.sleep(1)
