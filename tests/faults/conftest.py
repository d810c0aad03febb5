"""The lab with three hosts, made whole again after each test; and the last line that `make test-faults` promises."""

from __future__ import annotations

import subprocess

import pytest
from lab_fleet import SPARE_HOSTS, Fleet
from sweep_under_faults import SweepUnderFaults, lab_up


@pytest.fixture(scope="session")
def fleet():
    """The three hosts; afterwards the two that `make lab` leaves."""
    lab_up()
    yield Fleet()
    for host in SPARE_HOSTS:
        subprocess.run(["docker", "rm", "-f", f"preheat-lab-{host}"], capture_output=True, check=True)


@pytest.fixture
def sweep(fleet, tmp_path):
    """Makes a sweep; whatever becomes of it, no controller of it outlives the test."""
    made = []

    def make(**options) -> SweepUnderFaults:
        made.append(SweepUnderFaults(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        for run in one.runs:
            run.kill()


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        count = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error")}
        print(f"{count['passed']} passed, {count['failed'] + count['error']} failed")
