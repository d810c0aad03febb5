#!/usr/bin/env python3
"""How long report.yml takes for a large sweep, and how large its page is.

    bench/report.py [--trials 500] [--keep FOLDER] [--profile]

The trials are invented (tests/unit/synthetic_trials.py): three parameters, two hosts, five workload points each, one in
ten failed. report.yml runs as a user runs it, the report's files of an earlier run taken away. --profile says instead
where the time of building goes. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".collections"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/unit"))

import synthetic_trials as synthetic
from tables import table

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    report_files,
    report_model,
)

ROOT = Path(__file__).resolve().parents[1]
NAME = "synthetic"


def make(folder: Path, trials: int) -> None:
    """A sweep of invented trials, in the folder of its name, with a log beside each record."""
    for number in range(trials):
        trial = synthetic.large_trial(number, random.Random(number))
        records.write_trial(folder / NAME, trial, {"server.log": "ready\n"})
    (folder / NAME / "sweep.json").write_text(json.dumps(synthetic.plan(points=trials)))


def profile(folder: Path) -> None:
    profiler = cProfile.Profile()
    with profiler:
        model = report_model.build(synthetic.plan(), records.load_trials(folder / NAME))
        report_files.contents(folder / NAME, synthetic.plan(), model, "best.yml")
    pstats.Stats(profiler).sort_stats("cumulative").print_stats(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="folder for the results, which is kept")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="preheat-bench-") as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        make(folder, given.trials)
        if given.profile:
            profile(folder)
            return
        for name in ("trials.csv", "report.json", "report.html", "report.md", "best.yml"):
            (folder / NAME / name).unlink(missing_ok=True)
        command = [
            Path(sys.executable).with_name("ansible-playbook"),
            "report.yml",
            "-e",
            json.dumps({"sweep_name": NAME, "sweep_results_dir": str(folder)}),
        ]
        begun = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begun
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        sizes = {path.name: path.stat().st_size for path in sorted((folder / NAME).glob("*")) if path.is_file()}
        del sizes["sweep.json"]
    table(
        f"report.yml with {given.trials} trials: {seconds:.1f} s",
        ["file", "bytes"],
        [[*item] for item in sizes.items()],
    )
    print(
        "\n"
        + json.dumps(
            {
                "trials": given.trials,
                "seconds": round(seconds, 2),
                "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
                "html_bytes": sizes["report.html"],
            }
        )
    )


if __name__ == "__main__":
    main()
