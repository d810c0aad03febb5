#!/usr/bin/env python3
"""Runs all benchmarks, one after the other, and renews their table in docs/performance.md. The lab must be up.

bench/all.py [NAME ...]      with names, only these; the rows of the others stay as they are
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/performance.md"
KEPT = ROOT / "docs/bench.json"
BEGIN, END = "<!-- written by make bench: begin -->", "<!-- written by make bench: end -->"
# What each figure means, and what it should be; the order of the table.
FIGURES = {
    "warm": {
        "hub_reads": ("bytes read from the Hub by 8 hosts, over the model's", "1.00"),
        "last_host_over_limit": ("time to the last of 8 hosts over max(size / Hub, size / LAN)", "<= 1.3"),
        "wrong_blobs": ("files with a wrong hash, with and without faults", "0"),
        "prefetch_over_hf_download": ("verified prefetch of one host over `hf download`: throughput", ">= 1.5"),
    },
    "noop": {
        "seconds_per_host": ("controller seconds of a warm.yml with nothing to do, per host at 100 hosts", "<= 0.5"),
        "image_seconds_per_host": ("the same with the engine image to check as well", ""),
        "bytes_per_host": ("memory of the controller, per host at 100 hosts", ""),
        "most_seconds_per_host": ("controller seconds per host at 500 hosts, in batches of 100", "<= 0.5"),
        "growth": (
            "what a further host costs between 100 and 500 hosts, over what it costs between 10 and 100",
            "1 is linear",
        ),
        "tune_seconds_per_host": ("`seconds_per_host` of a tune.yml with nothing to do", ""),
        "tune_growth": ("its growth between 10 and 100 hosts, over that between 1 and 10", "1 is linear"),
    },
    "launch": {
        "hub_over_bare": ("`serve.yml` until ready, over a bare `docker run` that downloads for itself", ""),
        "disk_over_bare": ("the same from the disk, over `docker run` on the same cache", ""),
        "page_cache_over_bare": ("the same from the page cache", ""),
        "launch_over_bare": ("of that the launch alone, from the page cache", "1"),
        "own_seconds": ("what `serve.yml` takes beside the fetch and the launch", ""),
    },
    "sweep": {
        "makespan_over_bound": ("16 unequal slots: time of a sweep over its lower bound", "<= 1.05"),
        "mixed_makespan_over_bound": ("points of 1, 2 and 4 GPUs: time of a sweep over its lower bound", ""),
        "overhead_seconds_per_trial": ("controller seconds of a trial beside the modules' own work", "<= 2"),
        "tpe_trials_share": ("trials of TPE until within 2 % of the grid's best, over the grid's", "<= 0.30"),
    },
    "saving": {
        "origin_hours_no_cache": ("50 experiments of the origin without a cache, hours", "6.14"),
        "origin_hours_shared_cache": ("and with a shared one, by its own parts", "2.95 published"),
    },
    "report": {
        "seconds": ("`report.yml` with 500 trials", "<= 10"),
        "html_bytes": ("its `report.html`", "<= 5 MB"),
    },
}


def run(name: str) -> dict:
    """The figures of a benchmark: the last line that it prints."""
    print(f"\n#### bench-{name}", flush=True)
    with subprocess.Popen([sys.executable, ROOT / f"bench/{name}.py"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        last = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line if line.strip() else last
    if process.returncode:
        raise SystemExit(f"bench-{name} ended with {process.returncode}")
    return json.loads(last)


def measured() -> dict:
    """What the figures of a benchmark are kept with: the day, the machine, the versions."""
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 1e6
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GB of memory, Linux {platform.release().split('-')[0]}",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("ansible-core", "optuna", "huggingface_hub", "altair")},
        },
    }


def table(lines: dict[str, dict]) -> str:
    said = ["| benchmark | figure | what it is | measured | aim | on |", "|---|---|---|---|---|---|"]
    for name, figures in FIGURES.items():
        line = lines.get(name, {})
        for key, (meaning, aim) in figures.items():
            value = line.get("figures", {}).get(key)
            shown = "not measured" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
            said.append(f"| `{name}` | `{key}` | {meaning} | {shown} | {aim} | {line.get('date', '')} |")
    machines = dict.fromkeys(line["machine"] for line in lines.values())
    versions = dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in line["versions"].items()) for line in lines.values()
    )
    return "\n".join([f"Machine: {'; '.join(machines)}. Versions: {'; '.join(versions)}.", "", *said])


def main() -> None:
    lines = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in sys.argv[1:] or FIGURES:
        lines[name] = {**measured(), "figures": run(name)}
        KEPT.write_text(json.dumps(lines, indent=1, sort_keys=True) + "\n")
        before, rest = PAGE.read_text().split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{table(lines)}\n{END}{after}")


if __name__ == "__main__":
    main()
