#!/usr/bin/env python3
"""Mutation score of the code that decides: a sample of small changes, each of which some unit test should notice.

In copies, so the checkout is never changed. The last line is the score; above it the mutants that
survived, as diffs. The sample is the same until the code changes.

Usage: mutation.py [--sample N] [--seed N] [NAME...]     N mutants of each of scoring, planning, verification
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db

ROOT = Path(__file__).resolve().parents[1]
CONTROLLER, HOST, TESTS = "plugins/plugin_utils", "plugins/module_utils", "tests/unit/plugins"
# {name: {module: the tests that are to notice}}
SUBJECTS = {
    "scoring": {
        f"{CONTROLLER}/scoring.py": (f"{TESTS}/plugin_utils/test_scoring.py",),
        f"{CONTROLLER}/trial_ranking.py": (f"{TESTS}/plugin_utils/test_trial_ranking.py",),
        f"{CONTROLLER}/sweep_statistics.py": (f"{TESTS}/plugin_utils/test_sweep_statistics.py",),
    },
    "planning": {
        f"{CONTROLLER}/sweep_space.py": (f"{TESTS}/plugin_utils/test_sweep_space.py",),
        f"{CONTROLLER}/sweep_slots.py": (f"{TESTS}/plugin_utils/test_sweep_slots.py",),
        f"{CONTROLLER}/memory_fit.py": (f"{TESTS}/plugin_utils/test_memory_fit.py",),
    },
    "verification": {
        f"{HOST}/hf_cache.py": (f"{TESTS}/module_utils/test_hf_cache.py", f"{TESTS}/modules/test_hf_model.py"),
        f"{HOST}/hf_snapshot.py": (f"{TESTS}/modules/test_hf_model.py", f"{TESTS}/modules/test_hf_model_seed.py"),
        f"{HOST}/hf_completion.py": (f"{TESTS}/modules/test_hf_model.py", f"{TESTS}/modules/test_hf_model_seed.py"),
    },
}  # fmt: skip
# `|` is a union of types nearly everywhere here, which is never evaluated.
LEFT_OUT = ("core/ReplaceBinaryOperator_BitOr", "core/RemoveDecorator")
PYTEST = "-m pytest -q -x --no-header -p no:cacheprovider -p no:randomly"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sample", type=int, default=30, help="mutants of each (default: %(default)s)")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("names", nargs="*", choices=[[], *SUBJECTS], metavar="NAME")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="preheat-mutation-") as folder:
        Path(folder).chmod(0o755)  # some tests run as a user who owns nothing
        os.chdir(copy(Path(folder) / "plan"))
        work = [
            (mutant, tests)
            for name in given.names or SUBJECTS
            for mutant, tests in sample(SUBJECTS[name], random.Random(f"{given.seed} {name}"), given.sample)
        ]
        limits = {tests: limit_seconds(tests) for tests in {tests for _mutant, tests in work}}
        killed = 0
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), context, initializer=enter_copy, initargs=(folder,)) as pool:
            jobs = [pool.submit(mutate_and_test, [mutant], command(tests), limits[tests]) for mutant, tests in work]
            for number, job in enumerate(as_completed(jobs), 1):
                result = job.result()
                killed += result.is_killed
                if not result.is_killed:
                    print(result.diff, flush=True)
                print(f"{number} of {len(jobs)}, {killed} noticed", file=sys.stderr, flush=True)
    print(f"mutation score: {100 * killed / len(work):.1f} % ({killed} of {len(work)} mutants were noticed)")


def copy(folder: Path) -> Path:
    """A copy of the checkout in a new folder, less what git ignores."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ":!docs/example-*"]
    files = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(os.path.lexists, (str(ROOT / file) for file in files if file)):
        target = folder / Path(name).relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, target, follow_symlinks=False)
    return folder


def enter_copy(folder: str) -> None:
    """Each worker changes files of its own."""
    os.chdir(copy(Path(folder) / str(os.getpid())))


def sample(modules: dict[str, tuple[str, ...]], source: random.Random, size: int) -> list[tuple]:
    """[(mutant, its tests)]: size of all that these modules have, each as likely as the others."""
    with use_db("session.sqlite", WorkDB.Mode.create) as found:
        init([Path(module) for module in modules], found, {})
        mutants = [mutant for item in found.work_items for mutant in item.mutations]
    mutants = [mutant for mutant in mutants if not mutant.operator_name.startswith(LEFT_OUT)]
    mutants.sort(key=lambda mutant: (str(mutant.module_path), mutant.operator_name, mutant.occurrence))
    return [(mutant, modules[str(mutant.module_path)]) for mutant in source.sample(mutants, min(size, len(mutants)))]


def command(tests: tuple[str, ...]) -> str:
    return shlex.join([sys.executable, *shlex.split(PYTEST), *tests])


def limit_seconds(tests: tuple[str, ...]) -> float:
    """How long the tests may take with a mutant, by how long they take without; they have to pass without."""
    begin = time.monotonic()
    done = subprocess.run(shlex.split(command(tests)), check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\nERROR: without a mutant these tests have to pass.")
    return 30 + 5 * (time.monotonic() - begin)


if __name__ == "__main__":
    main()
