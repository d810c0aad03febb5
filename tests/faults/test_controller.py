"""Controllers that are killed, and two at once."""

from __future__ import annotations

import json
import os
import random
import time

from sweep_under_faults import ALL_HOSTS

KILLS = 10
TRIALS = 24


def test_a_controller_killed_at_random_instants(fleet, sweep, capsys):
    """Some kills fall before the trials, most among them, from the first to the last."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    with capsys.disabled():
        print(f"\nFAULTS_SEED={seed}")
    chance = random.Random(seed)
    under_test = sweep(trials=TRIALS)
    kept: dict[int, str] = {}
    for recorded in sorted(chance.randrange(TRIALS - 5) for _ in range(KILLS)):
        run = under_test.start()
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0.5, 12.0))  # while it plans, inspects, warms
        else:
            run.wait_for(r"trial \d+ .* begins")
            run.wait_until(lambda least=recorded: len(under_test.texts()) >= least, f"{recorded} records")
            time.sleep(chance.uniform(0.0, 3.0))
        assert run.process.poll() is None, f"it ended before it was killed:\n{run.output()}"
        run.kill()
        assert set(run.begun()).isdisjoint(kept), f"a recorded trial was launched again:\n{run.output()}"
        texts = under_test.texts()
        assert {number: texts[number] for number in kept} == kept, "a record was changed"
        kept = texts
        with capsys.disabled():
            print(f"killed with {len(kept)} of {TRIALS} recorded")
    assert kept, "no kill fell among the trials"
    last = under_test.run()
    assert sorted(last.begun()) == sorted(set(range(TRIALS)) - set(kept))
    under_test.check_whole(fleet, kept)


def test_a_second_controller_refuses_at_once_and_names_the_first(fleet, sweep):
    under_test = sweep(trials=6, benchmark_seconds=2.0)
    first = under_test.start()
    first.wait_for(r"trial \d+ .* begins")
    owner = json.loads((under_test.results / "owner.json").read_text())
    second = under_test.start()
    assert second.ended() != 0
    output = " ".join(second.output().split())
    assert f"another controller (process {owner['pid']}) runs this sweep" in output, second.output()
    assert "nothing was downloaded or launched" in output, second.output()
    assert first.process.poll() is None, "the first goes on"
    assert first.ended() == 0, first.output()
    under_test.check_whole(fleet, {})


def test_two_controllers_share_a_sweep_and_one_is_killed(fleet, sweep, database):
    """Each has hosts and results of its own; what the dead one ran is run by the other, and nothing twice."""
    shared = {"trials": 16, "benchmark_seconds": 3.0, "storage": database}
    one, other = (sweep(controller=name, hosts=hosts, **shared)
                  for name, hosts in (("one", ["gpu1", "gpu2"]), ("other", ["gpu3"])))  # fmt: skip
    doomed, lasting = one.start(), other.start()
    lasting.wait_for(r"gpu3/0 trial \d+ .* complete")
    doomed.wait_for(r"trial \d+ .* complete")
    doomed.kill()
    kept = one.texts()
    assert lasting.ended() == 0, lasting.output()
    assert sorted(lasting.begun()) == sorted(set(range(16)) - set(kept)), lasting.output()
    rerun = one.run()
    assert rerun.begun() == []
    one.check_whole(fleet, kept)
    other.check_whole(fleet, {})
    # A controller that is killed while a server stops has told the other how it measured, not how long that took.
    measured = [{number: (record["attempt"], record["start"], record["slot"], record["workloads"], record["objective"])
                 for number, record in each.records().items()} for each in (one, other)]  # fmt: skip
    assert measured[0] == measured[1]


def test_a_controller_stands_by_for_the_hosts_of_another(fleet, sweep, database):
    # Long enough that the second one comes before the first has ended.
    shared = {"trials": 6, "benchmark_seconds": 15.0, "storage": database}
    one, other = (sweep(controller=name, **shared) for name in ("one", "other"))
    doomed = one.start()
    doomed.wait_for(r"trial \d+ .* begins")
    standby = other.start()
    for host in ALL_HOSTS:
        standby.wait_for(rf"{host}/0: another controller drives it \(preheat faults .* {doomed.process.pid}\)")
    assert standby.begun() == []
    doomed.kill()
    kept = one.texts()
    assert standby.ended() == 0, standby.output()
    assert sorted(standby.begun()) == sorted(set(range(6)) - set(kept))
    other.check_whole(fleet, kept)
