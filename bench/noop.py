#!/usr/bin/env python3
"""What preheat costs where nothing is to do: warm.yml and tune.yml over 1, 10, 100, and 500 hosts of an inventory.

    bench/noop.py [--hosts 1 10 100 500]      the lab must be up; up to 100 hosts it takes 5 minutes

The hosts are many names for the lab's real ones, each with an SSH connection of its own, which is open already. They
share this machine's cores with the controller; of the processor's seconds only those of the controller are counted. As
many forks as hosts, since with fewer the controller spins while it waits for a free one. But 100 at most, because the
hosts' memory is this machine's, too: warm.yml has batches of so many (preheat_serial), and tune.yml, which needs a fork
for each slot, is measured for no more.
warm.yml has one model to check; with the engine image as well it is measured at 100 hosts only. Prints tables; the last
line is a JSON object: seconds_per_host and bytes_per_host (of warm.yml, at 100 hosts or the number nearest to it),
image_seconds_per_host (with the image), most_seconds_per_host (at the most hosts), and growth (what a further host
costs up to the most hosts, over what it costs up to the count before that; 1.0 is linear).
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import controller
from tables import table

ROOT = controller.ROOT
ADDRESSES = ("172.30.213.11", "172.30.213.12")
MODELS = {"model_cache_models": [{"repo_id": "preheat-lab/tiny-llama"}]}
IMAGE = {**MODELS, "engine_image_name": "preheat-lab/light-engine:latest"}
MOST_FORKS = 100
SWEEP = {
    **MODELS,
    "sweep_name": "noop",
    "sweep_model": {"repo_id": "preheat-lab/tiny-llama"},
    "sweep_image": "preheat-lab/light-engine:latest",
    "sweep_server": {"base": {"device": "cpu"}, "space": {"chunked_prefill_size": [512, 2048]}},
    "sweep_workloads": [{"name": "chat", "input_tokens": 16, "output_tokens": 4, "concurrency": [1], "num_prompts": 2}],
    "sweep_objective": {"metric": "output_tokens_per_second"},
}


class Bench:
    def __init__(self, folder: Path):
        self.folder = folder

    def inventory(self, hosts: int) -> Path:
        inventory = self.folder / f"names-{hosts}.ini"
        names = [
            f"h{number:03} ansible_host={ADDRESSES[number % len(ADDRESSES)]} "
            f"ansible_control_path={self.folder}/ssh-%%h-h{number:03}"
            for number in range(hosts)
        ]
        inventory.write_text("\n".join(["[gpu_hosts]", *names, "[lab:children]", "gpu_hosts", ""]))
        return inventory

    def connect(self, hosts: int) -> None:
        """Open the connections, which stay open for ansible.cfg's ControlPersist; not too many at once for sshd."""
        ansible = Path(sys.executable).with_name("ansible")
        command = [ansible, "gpu_hosts", "-i", self.inventory(hosts), "--forks", "20"]
        given = ["-m", "ansible.builtin.raw", "-a", "true", "-e", f"lab_dir={ROOT / '.lab'}"]
        subprocess.run([*command, *given], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)

    def play(self, playbook: str, hosts: int, variables: dict) -> tuple[controller.Cost, dict]:
        """(cost, the timeline's summary) of a playbook over so many names."""
        timeline = self.folder / "timeline.json"
        given = {"lab_dir": str(ROOT / ".lab"), "sweep_results_dir": str(self.folder), "preheat_serial": MOST_FORKS}
        cost = controller.play(
            playbook,
            self.inventory(hosts),
            *("-e", json.dumps({**variables, **given})),
            *("--forks", str(min(hosts, MOST_FORKS))),
            environment={
                "ANSIBLE_CALLBACKS_ENABLED": "preheat.fleet.timeline",
                "PREHEAT_TIMELINE_FILE": str(timeline),
            },
        )
        return cost, json.loads(timeline.read_text())["summary"]

    def measure(self, playbook: str, counts: list[int], variables: dict) -> list[tuple[int, controller.Cost, dict]]:
        rows = []
        for hosts in counts:
            self.connect(hosts)
            cost, summary = self.play(playbook, hosts, variables)
            if re.search(r"h\d+ .*changed=[1-9]", cost.said):
                raise SystemExit(f"{playbook} was no no-op:\n{cost.said[-3000:]}")
            rows.append((hosts, cost, summary))
        table(
            f"{playbook}, nothing to do ({', '.join(variables)})",
            ["hosts", "seconds", "seconds per host", "of the processor", "MB of memory", "tasks per host"],
            [
                [hosts, cost.seconds, cost.seconds / hosts, cost.cpu_seconds / hosts, cost.peak_bytes / 1e6,
                 sum(host["tasks"] for name, host in summary["hosts"].items() if name.startswith("h")) // hosts]
                for hosts, cost, summary in rows
            ],
        )  # fmt: skip
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10, 100, 500])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="preheat-noop-") as folder:
        (Path(folder) / "group_vars").symlink_to(ROOT / "tests/lab/inventory/group_vars")
        bench = Bench(Path(folder))
        bench.play("tune.yml", 2, SWEEP)  # what all the others find done
        warm = bench.measure("warm.yml", given.hosts, MODELS)
        hosts, cost, summary = min(warm, key=lambda row: abs(row[0] - 100))
        [(_, image, _)] = bench.measure("warm.yml", [hosts], IMAGE)
        tune = bench.measure("tune.yml", [hosts for hosts in given.hosts if hosts <= MOST_FORKS], SWEEP)
    table(
        f"Where the time of warm.yml goes, {hosts} hosts",
        ["role", "seconds of a host in it", "tasks per host"],
        [
            [role or "(plays)", total["seconds"] / hosts, total["tasks"] // hosts]
            for role, total in summary["roles"].items()
        ],
    )
    most_hosts, most, _ = warm[-1]
    figures = {
        "hosts": hosts,
        "seconds_per_host": round(cost.cpu_seconds / hosts, 3),
        "image_seconds_per_host": round(image.cpu_seconds / hosts, 3),
        "clock_seconds_per_host": round(cost.seconds / hosts, 3),
        "bytes_per_host": round(cost.peak_bytes / hosts),
        "most_hosts": most_hosts,
        "most_seconds_per_host": round(most.cpu_seconds / most_hosts, 3),
        "growth": growth(warm),
        "tune_growth": growth(tune),
    }
    figures["tune_seconds_per_host"] = next(round(c.cpu_seconds / n, 3) for n, c, _ in tune if n == hosts)
    print("\n" + json.dumps(figures))


def growth(rows: list[tuple[int, controller.Cost, dict]]) -> float | None:
    """What a further host costs up to the largest count, over what it costs up to the one before."""
    if len(rows) < 3:
        return None
    counts = [(hosts, cost.cpu_seconds) for hosts, cost, _ in rows[-3:]]
    before, after = ((s1 - s0) / (n1 - n0) for (n0, s0), (n1, s1) in itertools.pairwise(counts))
    return round(after / before, 2)


if __name__ == "__main__":
    sys.exit(main())
