#!/usr/bin/env python3
"""Time to ready by rung of the cache, through serve.yml and as a bare docker run. The lab must be up.

    bench/launch.py [--rounds 1] [--hub-mb-per-second 4] [--model preheat-lab/small-qwen2]

The genuine SGLang on a CPU, on one host of the lab. Rungs: `hub`, nothing there, from a Hub of a set bandwidth (the
bare container downloads by itself); `disk`, with the files of the model out of the page cache; `page_cache`. Each bare
launch repeats the command of preheat beside it, in turns before and after it. The last line is a JSON object:
*_over_bare: serve.yml from its start until the server is ready, over the bare run; own_seconds: what serve.yml takes
beside the fetch and the launch; page_cache_over_hub.
SGLang compiles nothing on a CPU: JIT caches, cold and warm, are in the run on an H100 (docs/performance.md).
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import controller
from tables import table

ROOT = controller.ROOT
HOST, ADDRESS = "gpu1", "172.30.213.11"
ENDPOINT, ADMIN = "http://172.30.213.2:8090", "http://127.0.0.1:8090/__lab__"
CACHE = "/root/.cache/huggingface/hub"
NAME = "bench-launch"
SERVER = {
    "sglang_server_name": NAME,
    "sglang_server_image": "preheat-lab/sglang-cpu:0.5.15",
    "sglang_server_environment": {"SGLANG_USE_CPU_ENGINE": "1"},
    "sglang_server_parameters": {
        "device": "cpu",
        "attention_backend": "torch_native",
        "max_total_tokens": 8192,
        "sleep_on_idle": True,
    },
}
FILES = f"{CACHE}/models--*/blobs/*"
DROP = f"""sync; python3 -c 'import glob, os
for name in glob.glob("{FILES}"):
    with open(name, "rb") as file: os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)'"""
PREPARE = {
    "hub": f"rm -rf {CACHE}",
    "disk": DROP,
    "page_cache": f"cat {FILES} >/dev/null",
}


def on_host(command: str, stdin: bytes = b"") -> str:
    ssh = ROOT / ".lab/ssh"
    options = ["-i", str(ssh / "id_ed25519"), "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={ssh / 'known_hosts'}"]
    done = subprocess.run(["ssh", *options, f"root@{ADDRESS}", command], input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{HOST}: {command[:200]}: {done.stderr.decode()[-2000:]}{done.stdout.decode()[-2000:]}")
    return done.stdout.decode()


def limit_hub(mb_per_second: float | None) -> None:
    body = json.dumps({"mb_per_second": mb_per_second}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{ADMIN}/limit", data=body), timeout=10).close()


class Bench:
    def __init__(self, folder: Path, model: str):
        self.folder, self.model = folder, model
        self.inventory = folder / "inventory"
        self.inventory.symlink_to(ROOT / "tests/lab/inventory")
        self.command: list[str] = []  # preheat's own account of it: what a bare run repeats

    def preheat(self, rung: str) -> dict:
        on_host(PREPARE[rung])
        out, timeline = self.folder / "launch.json", self.folder / "timeline.json"
        variables = {**SERVER, "preheat_hosts": HOST, "sglang_server_repo_id": self.model, "launch_out": str(out)}
        cost = controller.play(
            ROOT / "bench/launch_serve.yml",
            self.inventory,
            *("-e", json.dumps(variables)),
            environment={
                "ANSIBLE_CALLBACKS_ENABLED": "preheat.fleet.timeline",
                "PREHEAT_TIMELINE_FILE": str(timeline),
            },
        )
        on_host(f"docker rm --force {NAME}")
        result = json.loads(out.read_text())
        self.command = result["command"]
        roles = json.loads(timeline.read_text())["summary"]["roles"]
        fetch = roles["preheat.fleet.model_cache"]["seconds"] if rung == "hub" else 0.0
        launch = sum(phase["seconds"] for phase in result["phases"])
        phases = {phase["name"]: round(phase["seconds"], 2) for phase in result["phases"]}
        return {
            "seconds": cost.seconds,
            "fetch_seconds": fetch,
            "launch_seconds": launch,
            "own_seconds": cost.seconds - fetch - launch,
            "cache": result["cache"],
            "phases": phases,
        }

    def bare(self, rung: str) -> float:
        """Seconds from docker run until /health answers 200."""
        on_host(PREPARE[rung])
        command = list(self.command)
        command[command.index("--name") + 1] = f"{NAME}-bare"
        if rung == "hub":  # as without a shared cache: the container downloads for itself
            hub = next(i for i, word in enumerate(command) if word.startswith(f"{CACHE}:"))
            del command[hub - 1 : hub + 1]
            command = [word.replace("_OFFLINE=1", "_OFFLINE=0") for word in command]
            command[2:2] = ["--env", f"HF_ENDPOINT={ENDPOINT}"]
        port = command[command.index("--publish") + 1].split(":")[1]
        # The command names the variables without their values: docker takes these from its own environment.
        values = [f"{name}={value}" for name, value in SERVER["sglang_server_environment"].items()]
        timed = ["env", *values, "python3", "-", f"{NAME}-bare", "/tmp/bench-launch", "--port", port, "--", *command]
        script = (ROOT / "tests/gpu_lab/timed_launch.py").read_bytes()
        said = on_host(shlex.join(timed), script)
        on_host(f"docker rm --force {NAME}-bare; rm -rf /tmp/bench-launch")
        return json.loads(said)["ready_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--hub-mb-per-second", type=float, default=4)
    parser.add_argument("--model", default="preheat-lab/small-qwen2")
    given = parser.parse_args()
    runs: dict[str, list[dict]] = {rung: [] for rung in PREPARE}
    bare: dict[str, list[float]] = {rung: [] for rung in PREPARE}
    with tempfile.TemporaryDirectory(prefix="preheat-launch-") as folder:
        bench = Bench(Path(folder), given.model)
        bench.preheat("page_cache" if on_host(f"ls {CACHE} 2>/dev/null || true") else "hub")  # what comes first is slow
        limit_hub(given.hub_mb_per_second)
        try:
            for turn in range(given.rounds):
                for number, rung in enumerate(PREPARE):
                    # The bare container of the Hub's rung leaves nothing in the host's cache, which the next ones need.
                    if rung == "hub" or (turn + number) % 2:
                        bare[rung].append(bench.bare(rung))
                        runs[rung].append(bench.preheat(rung))
                    else:
                        runs[rung].append(bench.preheat(rung))
                        bare[rung].append(bench.bare(rung))
                    print(json.dumps({"rung": rung, "bare": bare[rung][-1], **runs[rung][-1]}), flush=True)
        finally:
            limit_hub(None)

    def median(rung: str, key: str) -> float:
        return statistics.median(run[key] for run in runs[rung])

    usual = {rung: statistics.median(values) for rung, values in bare.items()}
    table(
        f"Seconds until {given.model} is served, medians of {given.rounds}",
        ["rung", "serve.yml", "the fetch in it", "the launch", "preheat's own", "bare docker run", "serve.yml / bare"],
        [
            [rung, *(median(rung, key) for key in ("seconds", "fetch_seconds", "launch_seconds", "own_seconds")),
             usual[rung], median(rung, "seconds") / usual[rung]]
            for rung in PREPARE
        ],
    )  # fmt: skip
    figures = {f"{rung}_over_bare": round(median(rung, "seconds") / usual[rung], 2) for rung in PREPARE}
    figures["launch_over_bare"] = round(median("page_cache", "launch_seconds") / usual["page_cache"], 2)
    figures["own_seconds"] = round(statistics.median(run["own_seconds"] for rung in runs.values() for run in rung), 2)
    figures["page_cache_over_hub"] = round(median("page_cache", "seconds") / median("hub", "seconds"), 2)
    print("\n" + json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main())
