#!/usr/bin/env python3
"""What a sweep loses beside its trials, and how many of a grid's trials a search needs.

    bench/sweep.py [--no-lab] [--slots 16] [--trials 400] [--seeds 10]

Four parts, the first three on the real study, claims and samplers with a simulated clock (nothing is launched):

1. Slots of unequal speed claim trials of unequal length until none is left: the time until the last one has ended
   over the least that any order could take. Simulated are the clock, the lengths (log-normal, sigma 0.25) and the
   speeds (0.7 to 1.4 of the mean, evenly). Slots claim in the order of the points and know no lengths, so what is lost
   is the end, when some slots have nothing to claim: about one trial of the slowest slot. More trials for each slot
   make it less.
2. A grid whose points need 1, 2 or 4 GPUs, on two hosts of 8: the time until the last one has ended over the least that
   their GPU-seconds take. Slots that share sets of 4 GPUs, beside slots that have 4 each.
3. TPE, with the settings that preheat gives it and several slots at once, on a grid of 288 points with an invented
   response surface (`tokens_per_second`; noise of 1 %; some points run out of memory): how many trials are launched
   until the best one measured is truly within 2 % of the grid's best, as a share of the grid.
4. tune.yml on the hosts of the lab with the light engine, over SSH: wall time of a slot from its first trial's start to
   its last trial's end, gaps included, less the time that modules ran on the host (a wrapper around the hosts' Python
   writes down when each began and ended), for each trial. Left out, and null, where the lab is not up.

The last line is a JSON object: makespan_over_bound and tpe_trials_share are medians over seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".collections"))

import controller
import yaml
from tables import table

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    study,
    study_journal,
    sweep_plan,
    sweep_search,
    sweep_slots,
)

ROOT = controller.ROOT
OBJECTIVE = {"metric": "output_tokens_per_second", "direction": "maximize"}
GPU = {"index": 0, "uuid": "GPU-0", "name": "simulated"}

SPEEDS = (0.7, 1.4)
SIGMA = 0.25
MAKESPAN_SEEDS = 5
MIXED_SIZES = (1, 2, 4)
MIXED_TRIALS = 144

SURFACE = {
    "chunked_prefill_size": [512, 1024, 2048, 4096, 8192, 16384],
    "max_running_requests": [16, 32, 64, 128, 256, 512],
    "mem_fraction_static": {"low": 0.80, "high": 0.92, "step": 0.04},
    "attention_backend": ["triton", "flashinfer"],
}
NEAR = 0.02
NOISE = 0.01
TPE_SLOTS = 4

HOSTS = {"gpu1": "172.30.213.11", "gpu2": "172.30.213.12"}
SHIM, SHIM_LOG = "/opt/preheat-bench-python", "/tmp/preheat-bench-python.log"
LAB_POINTS = [1024, 2048, 4096, 8192, 16384, 1536, 3072]


def plan_of(folder: str, space: dict, **search) -> dict:
    """A plan as the playbook would make it: the search with the role's defaults."""
    options = {"sweep_search": sweep_plan.role_options("sweep")["sweep_search"]}
    coerced, problems = sweep_plan.check_types(options, {"sweep_search": search})
    assert not problems, problems
    return {"name": "bench", "sweep_dir": folder, "objective": OBJECTIVE, "slo": {}, "server": {"space": space},
            "search": coerced["sweep_search"], "slot_gpus": 1}  # fmt: skip


def record_of(plan: Mapping, claim: Mapping, tokens_per_second: float | None) -> dict:
    """A finished trial that measured so much; None: it ran out of memory."""
    failed = tokens_per_second is None
    values = {"value": tokens_per_second, "score": tokens_per_second, "samples": [tokens_per_second], "also": []}
    return records.new_record(
        sweep=plan["name"],
        status="failed" if failed else "complete",
        error={"class": "out_of_memory", "message": "simulated"} if failed else None,
        objective=None if failed else {**OBJECTIVE, **values},
        eligible=not failed,
        **{key: claim[key] for key in ("number", "kind", "attempt", "params", "server_parameters")},
    )


def simulate(
    plan: Mapping,
    speeds: Mapping[str, float],
    seconds_of: Callable[[Mapping], float],
    measure: Callable[[Mapping], float | None],
    enough: Callable[[dict], bool] = lambda record: False,
) -> dict:
    """Slots work off the plan's study; ``{makespan, trials, claim_seconds}``, the last of the real clock for each.

    Ends early once a finished trial is ``enough``; ``trials`` are all that were launched until then.
    """
    feasible, infeasible = sweep_search.planned(plan["server"], plan["search"], plan["slot_gpus"])
    study_journal.open_study(dict(plan), feasible, infeasible)
    workers = {slot: study.SweepStudy(plan["sweep_dir"]) for slot in speeds}
    now, launched, spent = 0.0, 0, 0.0
    idle, running = list(speeds), []
    shared, waiting = {slot["name"] for slot in plan.get("slots") or [] if slot.get("set")}, {}
    while True:
        for slot in list(idle) * (2 if shared else 1):  # who waits may go on after another slot has looked
            if slot not in idle:
                continue
            began = time.perf_counter()
            claim = waiting.get(slot) or workers[slot].claim(slot)
            if claim and slot in shared and workers[slot].lease_gpus(slot, claim) is None:
                waiting[slot], claim = claim, None
            spent += time.perf_counter() - began
            if claim is None:
                continue
            waiting.pop(slot, None)
            idle.remove(slot)
            launched += 1
            heapq.heappush(running, (now + seconds_of(claim) / speeds[slot], slot, launched, claim))
        if not running:
            break
        now, slot, _order, claim = heapq.heappop(running)
        record = record_of(plan, claim, measure(claim))
        began = time.perf_counter()
        workers[slot].finish(claim, record)
        spent += time.perf_counter() - began
        if enough(record):
            break
        idle.append(slot)
    return {"makespan": now, "trials": launched, "claim_seconds": spent / launched}


def makespan(slots: int, trials: int, seed: int) -> dict:
    """One simulated sweep: ``{over_bound, claim_seconds}``."""
    chance = random.Random(seed)
    low, high = SPEEDS
    speeds = {f"host{i}/0": low + (high - low) * i / max(1, slots - 1) for i in range(slots)}
    lengths = [600 * chance.lognormvariate(0, SIGMA) for _ in range(trials)]
    with tempfile.TemporaryDirectory(prefix="preheat-bench-") as folder:
        plan = plan_of(f"{folder}/bench", {"x": list(range(trials))}, sampler="grid", baseline=False)
        done = simulate(plan, speeds, lambda claim: lengths[claim["number"]], lambda claim: 1.0)
    assert done["trials"] == trials
    bound = max(sum(lengths) / sum(speeds.values()), max(lengths) / max(speeds.values()))
    return {"over_bound": done["makespan"] / bound, "claim_seconds": done["claim_seconds"]}


def mixed_makespan(share: bool, seed: int) -> float:
    """One simulated sweep of points of several sizes: the time it took over what its GPU-seconds take of all GPUs."""
    chance = random.Random(seed)
    lengths = [600 * chance.lognormvariate(0, SIGMA) for _ in range(MIXED_TRIALS)]
    gpus = {host: [{"index": i, "uuid": f"{host}-{i}", "name": "simulated"} for i in range(8)] for host in "ab"}
    slots = sweep_slots.slots(gpus, max(MIXED_SIZES), 1, least_gpus=min(MIXED_SIZES) if share else 0)
    space = {"tp_size": list(MIXED_SIZES), "x": list(range(MIXED_TRIALS // len(MIXED_SIZES)))}
    busy = 0.0

    def seconds_of(claim: Mapping) -> float:
        nonlocal busy
        busy += lengths[claim["number"]] * claim["gpus"]
        return lengths[claim["number"]]

    with tempfile.TemporaryDirectory(prefix="preheat-bench-") as folder:
        plan = plan_of(f"{folder}/bench", space, sampler="grid", baseline=False)
        plan |= {"slots": slots, "slot_gpus": max(MIXED_SIZES)}
        done = simulate(plan, {slot["name"]: 1.0 for slot in slots}, seconds_of, lambda claim: 1.0)
    assert done["trials"] == MIXED_TRIALS
    return done["makespan"] / (busy / sum(map(len, gpus.values())))


def tokens_per_second(params: Mapping) -> float | None:
    """The invented surface. None: out of memory.

    More requests at once help until the KV cache that mem_fraction_static leaves is full, then preemptions cost; larger
    prefill chunks help prefill and delay decoding, the more so the more requests run; both backends have another best
    chunk. A large chunk beside a large static fraction leaves too little for activations.
    """
    chunk, running = params["chunked_prefill_size"], params["max_running_requests"]
    fraction, backend = params["mem_fraction_static"], params["attention_backend"]
    if fraction > 0.9 and chunk > 4096:
        return None
    fits = 220 * (fraction - 0.55) / 0.33
    batching = running / (running + 40)
    preempted = 1 / (1 + (max(0.0, running - fits) / fits) ** 1.5)
    best_chunk = math.log2(3000 if backend == "triton" else 6000) - 0.25 * math.log2(running / 64)
    chunking = math.exp(-((math.log2(chunk) - best_chunk) ** 2) / 9)
    return 9000 * batching * preempted * chunking * (1.0 if backend == "triton" else 1.06)


def grid_of_surface() -> list[float]:
    """The values of the grid's points that can run, best first; how many points there are is in ``grid_size``."""
    points = sweep_search.known_points({"space": SURFACE}, {"baseline": False, "enqueue": [], "sampler": "grid"})
    values = [tokens_per_second(point["params"]) for point in points]
    return sorted((value for value in values if value is not None), reverse=True)


def grid_size() -> int:
    return math.prod(len(choice) if isinstance(choice, list) else 4 for choice in SURFACE.values())


def search_until_near(sampler: str, seed: int) -> int:
    """Trials that a sampler launches until the best one measured is within NEAR of the grid's best."""
    goal = (1 - NEAR) * grid_of_surface()[0]
    chance = random.Random(seed)
    best: list = [-math.inf, None]

    def measure(claim: Mapping) -> float | None:
        true = tokens_per_second(claim["params"])
        return None if true is None else true * (1 + NOISE * chance.gauss(0, 1))

    def enough(record: dict) -> bool:
        found = record["objective"] and record["objective"]["value"]
        if found and found > best[0]:
            best[:] = found, tokens_per_second(record["params"])
        return best[1] is not None and best[1] >= goal

    with tempfile.TemporaryDirectory(prefix="preheat-bench-") as folder:
        plan = plan_of(
            f"{folder}/bench", SURFACE, sampler=sampler, trials=grid_size(), seed=seed, baseline=False
        )  # fmt: skip
        slots = {f"host{i}/0": 1.0 for i in range(TPE_SLOTS)}
        return simulate(plan, slots, lambda claim: 600 * chance.lognormvariate(0, SIGMA), measure, enough)["trials"]


def on_host(host: str, command: str) -> str:
    ssh = ROOT / ".lab/ssh"
    options = ["-i", str(ssh / "id_ed25519"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5",
               "-o", f"UserKnownHostsFile={ssh / 'known_hosts'}"]  # fmt: skip
    done = subprocess.run(
        ["ssh", *options, f"root@{HOSTS[host]}", command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(f"{host}: {done.stderr.strip()[-500:]}")
    return done.stdout


def overhead() -> list[dict]:
    """One run of tune.yml: for each slot ``{slot, trials, wall, modules, calls}``. OSError if the lab is not up."""
    shim = f"""#!/bin/sh
begun=$(date +%s.%N); /opt/preheat/venv/bin/python "$@"; code=$?
echo $begun $(date +%s.%N) >>{SHIM_LOG}; exit $code"""
    for host in HOSTS:
        on_host(host, f"rm -f {SHIM_LOG}; cat >{SHIM} <<'END'\n{shim}\nEND\nchmod +x {SHIM}")
    try:
        with tempfile.TemporaryDirectory(prefix="preheat-bench-") as folder:
            inventory = Path(folder) / "inventory"
            inventory.symlink_to(ROOT / "tests/lab/inventory")
            sweep = yaml.safe_load((ROOT / "tests/lab/sweep.yml").read_text()) | {
                "sweep_name": "bench-sweep",
                "sweep_image": "preheat-lab/light-engine:latest",
                "sweep_results_dir": folder,
                "sglang_server_python": SHIM,
            }
            sweep["sweep_server"] = {**sweep["sweep_server"], "space": {"chunked_prefill_size": LAB_POINTS}}
            file = Path(folder) / "sweep.json"
            file.write_text(json.dumps(sweep))
            controller.play(ROOT / "tune.yml", inventory, "-e", f"@{file}")
            found = records.load_trials(Path(folder) / "bench-sweep")
        rows = []
        for host in HOSTS:
            own = [record for record in found if record["slot"]["members"][0]["host"] == host]
            assert own, f"{host} ran no trial"
            assert all(record["status"] == "complete" for record in own)
            begin, end = min(record["start"] for record in own), max(record["end"] for record in own)
            spans = [tuple(map(float, line.split())) for line in on_host(host, f"cat {SHIM_LOG}").splitlines()]
            inside = [(a, b) for a, b in spans if begin <= a and b <= end]
            worked = sum(b - a for a, b in inside)
            rows.append(
                {"slot": host, "trials": len(own), "wall": end - begin, "modules": worked, "calls": len(inside)}
            )
        return rows
    finally:
        for host in HOSTS:
            with contextlib.suppress(OSError):
                on_host(host, f"rm -f {SHIM} {SHIM_LOG}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-lab", action="store_true", help="leave out what needs the lab")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()

    rows, figures = [], {}
    for trials in sorted({given.slots * 4, given.slots * 10, given.trials}):
        ran = [makespan(given.slots, trials, seed) for seed in range(MAKESPAN_SEEDS)]
        over = [one["over_bound"] for one in ran]
        claim = statistics.median(one["claim_seconds"] for one in ran)
        rows.append(
            [trials, f"{trials / given.slots:.0f}", f"{statistics.median(over):.3f}", f"{max(over):.3f}", claim]
        )
        if trials == given.trials:
            figures["makespan_over_bound"] = round(statistics.median(over), 4)
    table(
        f"{given.slots} simulated slots of unequal speed, {MAKESPAN_SEEDS} seeds: makespan over the lower bound",
        ["trials", "for each slot", "median", "worst", "claim and tell (s, real)"],
        rows,
    )

    ran = {share: [mixed_makespan(share, seed) for seed in range(MAKESPAN_SEEDS)] for share in (True, False)}
    figures["mixed_makespan_over_bound"] = round(statistics.median(ran[True]), 4)
    sizes = ", ".join(map(str, MIXED_SIZES))
    table(
        f"{MIXED_TRIALS} points of {sizes} GPUs on 2 simulated hosts of 8, {MAKESPAN_SEEDS} seeds: makespan over bound",
        ["slots", "median", "worst"],
        [[name, f"{statistics.median(ran[share]):.3f}", f"{max(ran[share]):.3f}"]
         for name, share in (("share sets of 4", True), ("have 4 each", False))],
    )  # fmt: skip

    values, size = grid_of_surface(), grid_size()
    near = sum(value >= (1 - NEAR) * values[0] for value in values)
    rows = []
    with ProcessPoolExecutor() as pool:
        for sampler in ("tpe", "random"):
            counts = list(pool.map(search_until_near, [sampler] * given.seeds, range(given.seeds)))
            shares = [count / size for count in counts]
            rows.append([sampler, *(f"{f(shares):.1%}" for f in (min, statistics.median, max))])
            if sampler == "tpe":
                figures["tpe_trials_share"] = round(statistics.median(shares), 4)
    table(
        f"Trials until within 2 % of the best of {size} points ({near} of them are), {given.seeds} seeds,"
        f" {TPE_SLOTS} slots at once: share of the grid",
        ["sampler", "least", "median", "most"],
        rows,
    )

    figures["overhead_seconds_per_trial"] = None
    try:
        rows = [] if given.no_lab else overhead()
    except (OSError, SystemExit) as error:
        rows = []
        print(f"\nThe overhead over SSH was not measured: {error}", file=sys.stderr)
    if rows:
        trials = sum(row["trials"] for row in rows)
        own = sum(row["wall"] - row["modules"] for row in rows)
        figures["overhead_seconds_per_trial"] = round(own / trials, 3)
        table(
            "tune.yml on the lab, light engine, over SSH: what is not the modules' own work",
            ["slot", "trials", "wall (s)", "on the host (s)", "calls", "overhead per trial (s)", "per call"],
            [[row["slot"], row["trials"], row["wall"], row["modules"], row["calls"],
              (row["wall"] - row["modules"]) / row["trials"], (row["wall"] - row["modules"]) / max(1, row["calls"])]
             for row in rows],
        )  # fmt: skip
    print("\n" + json.dumps(figures))


if __name__ == "__main__":
    main()
