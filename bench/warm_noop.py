"""What it costs to find that nothing is to do: a play over many hosts that all hold the model."""

from __future__ import annotations

from pathlib import Path

import controller

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - preheat.fleet.hf_swarm: {{repo_id: {repo}, cache_dir: {cache}, endpoint: {endpoint}}}
"""


def run(hosts: int, *, folder: Path, repo: str, cache: Path, endpoint: str, python: str) -> tuple[float, float]:
    """(seconds, megabytes of memory at the peak) of a play over so many hosts, all of them this machine."""
    inventory = folder / f"inventory-{hosts}"
    # All hosts are one machine here, and all give the same address.
    lines = [f"h{number} ansible_connection=local ansible_python_interpreter={python}" for number in range(hosts)]
    inventory.write_text("\n".join(lines) + "\n")
    play = folder / "noop.yml"
    play.write_text(PLAY.format(repo=repo, cache=cache, endpoint=endpoint))
    cost = controller.play(play, inventory, "-f", str(hosts))
    if "changed=1" in cost.said:
        raise SystemExit(f"the play was no no-op:\n{cost.said[-3000:]}")
    return cost.seconds, cost.peak_bytes / 1e6
