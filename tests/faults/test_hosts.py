"""Hosts that vanish for a while or for good, and engines that are restarted, in mid-trial."""

from __future__ import annotations

import subprocess

import pytest
from sweep_under_faults import lab_up

VICTIM = "gpu3"


def on_victim(*command: str) -> None:
    """Run a command in the host's container from outside: its SSH may be cut."""
    subprocess.run(["docker", "exec", f"preheat-lab-{VICTIM}", *command], capture_output=True, check=True)


@pytest.fixture
def network():
    """The host's network: ``cut`` drops every packet in silence, as a pulled cable does."""

    class Network:
        is_cut = False

        def cut(self) -> None:
            for chain, interface in (("INPUT", "-i"), ("OUTPUT", "-o")):
                on_victim("iptables", "-I", chain, interface, "eth0", "-j", "DROP")
            self.is_cut = True

        def restore(self) -> None:
            if self.is_cut:
                for chain, interface in (("INPUT", "-i"), ("OUTPUT", "-o")):
                    on_victim("iptables", "-D", chain, interface, "eth0", "-j", "DROP")
            self.is_cut = False

    network = Network()
    yield network
    network.restore()


def in_mid_trial(run) -> int:
    """Wait until the victim's server is measured; the trial's number."""
    return int(run.wait_for(rf"{VICTIM}/0 trial (\d+) .*: ready in")[1])


def test_a_host_whose_network_is_cut_and_restored(fleet, sweep, network):
    under_test = sweep(trials=12, benchmark_seconds=3.0)
    run = under_test.start()
    lost = in_mid_trial(run)
    network.cut()
    run.ended()
    network.restore()
    kept = under_test.texts()
    assert len(kept) == 12, run.output()
    record = under_test.records()[lost]
    assert record["slot"]["members"][0]["host"] != VICTIM, "its trial ran elsewhere"
    assert record["attempt"] == 2
    assert fleet.containers(VICTIM) != [], "what nobody could stop is still there"
    last = under_test.run()
    assert last.begun() == []
    under_test.check_whole(fleet, kept)


def test_an_engine_that_is_restarted(fleet, sweep):
    under_test = sweep(trials=12, benchmark_seconds=3.0)
    run = under_test.start()
    struck = in_mid_trial(run)
    on_victim("lab-engine", "stop")
    on_victim("lab-engine", "start")
    assert run.ended() == 0, run.output()
    assert under_test.records()[struck]["attempt"] == 2
    under_test.check_whole(fleet, {})
    assert under_test.run().begun() == []


def test_a_host_that_dies_for_good_and_one_in_its_place(fleet, sweep):
    under_test = sweep(trials=12, benchmark_seconds=3.0)
    run = under_test.start()
    lost = in_mid_trial(run)
    subprocess.run(["docker", "kill", f"preheat-lab-{VICTIM}"], capture_output=True, check=True)
    try:
        run.ended()
    finally:
        lab_up()  # the same disks in a new container
    kept, records = under_test.texts(), under_test.records()
    assert list(records) == list(range(12)), run.output()
    assert records[lost]["slot"]["members"][0]["host"] != VICTIM
    assert f"{VICTIM}/0 trial {lost} (12 in all): the host was lost" in run.output()
    assert f"slot {VICTIM}/0 broke off: " in run.output(), "the summary says what is lost"
    assert under_test.run().begun() == []
    under_test.check_whole(fleet, kept)
