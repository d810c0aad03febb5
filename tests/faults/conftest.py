"""The lab with three hosts, made whole again after each test; and the last line that `make test-faults` promises."""

from __future__ import annotations

import subprocess

import postgresql_server
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


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server; its password is in the environment."""
    if not postgresql_server.PROGRAMS:
        pytest.skip("no PostgreSQL server is installed; scripts/ensure_postgresql.sh does that")
    server = postgresql_server.PostgresqlServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", server.password)
        yield server
    server.remove()


@pytest.fixture
def database(postgresql):
    """The URL of an empty database."""
    return postgresql.new_database()


@pytest.fixture
def sweep(fleet, tmp_path):
    """Makes a sweep; whatever becomes of it, no controller of it outlives the test."""
    made = []

    def make(controller: str = "", **options) -> SweepUnderFaults:
        folder = tmp_path / controller
        folder.mkdir(exist_ok=True)
        made.append(SweepUnderFaults(folder, **options))
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
