#!/usr/bin/env python3
"""How fast a fleet gets warm: the swarm beside its alternatives, with and without faults. Needs root.

    bench/warm.py [--hosts 8] [--shards 16] [--shard-mib 16] [--hub-mbit 100] [--lan-mbit 200] [--quick]

Prints tables; the last line is a JSON object. last_host_over_limit is the time until the last host is complete over
max(size / hub, size / LAN). --quick leaves out the alternatives and the faults.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/lab/hub"))

import warm_baselines as baselines
import warm_fleet
import warm_noop
import warm_swarm
from hub import Hub
from tables import table

REPO = "bench/model"


def swarm(fleet, size: int, fault=None) -> dict:
    """One run. fault(run) is called once it has begun, and returns the host that it killed."""
    fleet.start()
    run = warm_swarm.SwarmRun(fleet, REPO).start()
    lost = fault(run) if fault else None
    outcome = run.wait()
    left = [host for host in fleet.hosts if host is not lost]
    failed = set(outcome.errors) - ({lost.name} if lost else set())
    if failed:
        print({host: str(outcome.errors[host]) for host in failed})
    return {
        "seconds": max((report["at"] for report in outcome.reports.values()), default=0.0),
        "hub_reads": fleet.hub_bytes(REPO) / size,
        "wrong": warm_swarm.wrong_blobs(fleet, REPO, left),
        "failed": len(failed),
    }


def kill_seed(share: float):
    def fault(run):
        while run.progress() < share:
            time.sleep(0.05)
        seed = next(host for host in run.hosts if host.name == run.seed())
        seed.kill()
        return seed

    return fault


def kill_leecher(run):
    while run.progress() < 0.4:
        time.sleep(0.05)
    victim = next(host for host in run.hosts if host.name != run.seed())
    victim.kill()
    return victim


def compare(fleet, size: int, limit: float, python: str, quick: bool) -> dict:
    result = swarm(fleet, size)
    rows = [["swarm", result["seconds"], result["seconds"] / limit, result["hub_reads"], result["wrong"]]]
    ways = {
        "download, then rsync chain": baselines.download_then_rsync_chain,
        "every host from the Hub": baselines.every_host_from_the_hub,
    }
    for name, way in {} if quick else ways.items():
        fleet.start()
        seconds = way(fleet, REPO, python)
        if seconds is None:
            rows.append([name, "rsync is not installed", "", "", ""])
        else:
            reads, wrong = fleet.hub_bytes(REPO) / size, warm_swarm.wrong_blobs(fleet, REPO)
            rows.append([name, seconds, seconds / limit, reads, wrong])
    table(
        f"{len(fleet.hosts)} hosts, {size / 1e6:.0f} MB; physical limit {limit:.1f} s",
        ["way", "seconds to the last host", "over limit", "Hub reads", "wrong files"],
        rows,
    )
    return result


def faults(fleet, size: int, plain: float) -> list[dict]:
    cases = [(f"seed killed at {share:.0%}", kill_seed(share)) for share in (0.3, 0.6, 0.9)]
    cases.append(("a leecher killed at 40%", kill_leecher))
    results = [(name, swarm(fleet, size, fault)) for name, fault in cases]
    table(
        "Faults: the survivors",
        ["fault", "seconds", "over the undisturbed run", "Hub reads", "wrong files", "failed hosts"],
        [[n, r["seconds"], r["seconds"] / plain, r["hub_reads"], r["wrong"], r["failed"]] for n, r in results],
    )
    return [result for _name, result in results]


def single_host(folder: Path, python: str, mib: int) -> tuple[float, Path, str]:
    """Verified prefetch over `hf download`, over loopback, with the cache it made. In memory, as either is faster than
    many a disk, and only one of them waits for it."""
    root, cache = folder / "single", folder / "single-host"
    warm_fleet.make_model(root, REPO, 8, mib << 17)
    with Hub(root, folder / "single-state") as hub:
        hub.api.describe()
        seconds = {"hf download": [], "hf_model (verified)": []}
        for _ in range(3):
            shutil.rmtree(folder / "plain", ignore_errors=True)
            seconds["hf download"].append(baselines.hf_download(hub.endpoint, REPO, python, folder / "plain"))
            shutil.rmtree(cache, ignore_errors=True)
            seconds["hf_model (verified)"].append(baselines.hf_model(hub.endpoint, REPO, python, cache))
    usual = {name: statistics.median(values) for name, values in seconds.items()}
    table(f"One host, {mib} MiB over loopback", ["way", "seconds", "MB/s"],
          [[name, value, mib * 1.048576 / value] for name, value in usual.items()])  # fmt: skip
    return usual["hf download"] / usual["hf_model (verified)"], cache, str(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("hosts", 8), ("shards", 16), ("shard-mib", 16), ("hub-mbit", 100), ("lan-mbit", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--single-mib", type=int, default=1024)
    parser.add_argument("--noop-hosts", type=int, nargs=2, default=(20, 100))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    python = warm_fleet.host_python()
    folder, memory = (Path(tempfile.mkdtemp(prefix="preheat-bench-", dir=where)) for where in (None, "/dev/shm"))
    try:
        warm_fleet.make_model(folder / "models", REPO, given.shards, given.shard_mib << 20)
        size = sum(path.stat().st_size for path in (folder / "models").rglob("*") if path.is_file())
        limit = size * 8 / 1e6 / min(given.hub_mbit, given.lan_mbit)
        with warm_fleet.Fleet(folder, given.hosts, given.hub_mbit, given.lan_mbit, python) as fleet:
            result = compare(fleet, size, limit, python, given.quick)
            disturbed = [] if given.quick else faults(fleet, size, result["seconds"])
        ratio, cache, root = single_host(memory, python, given.single_mib)
        with Hub(root, memory / "single-state") as hub:
            few, many = (
                warm_noop.run(hosts, folder=folder, repo=REPO, cache=cache, endpoint=hub.endpoint, python=python)
                for hosts in given.noop_hosts
            )
        table("Nothing to do", ["hosts", "seconds", "seconds per host", "MB of memory", "MB per host"],
              [[n, s, s / n, m, m / n] for n, (s, m) in zip(given.noop_hosts, (few, many), strict=True)])  # fmt: skip
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(memory)
    figures = {
        "hub_reads": round(result["hub_reads"], 3),
        "last_host_over_limit": round(result["seconds"] / limit, 2),
        "wrong_blobs": result["wrong"] + sum(run["wrong"] for run in disturbed),
        "prefetch_over_hf_download": round(ratio, 2),
        "noop_seconds_per_host": round(many[0] / given.noop_hosts[1], 3),
    }
    print("\n" + json.dumps(figures))
    if result["wrong"] or result["failed"] or any(run["wrong"] or run["failed"] for run in disturbed):
        sys.exit(1)


if __name__ == "__main__":
    main()
