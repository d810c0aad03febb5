"""Controllers that are killed, and two at once."""

from __future__ import annotations

import json
import os
import random
import time

KILLS = 10


def test_a_controller_killed_at_random_instants(fleet, sweep, capsys):
    """Some kills fall before the trials, most among them; the sweep is the same all the time."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    chance = random.Random(seed)
    with capsys.disabled():
        print(f"\nFAULTS_SEED={seed}")
    under_test = sweep(trials=24)
    kept: dict[int, str] = {}
    for _ in range(KILLS):
        run = under_test.start()
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0.5, 12.0))  # while it plans, inspects, warms
        else:
            run.wait_for(r"trial \d+ .* begins")
            time.sleep(chance.uniform(0.0, 4.0))
        run.kill()
        assert set(run.begun()).isdisjoint(kept), f"a recorded trial was launched again:\n{run.output()}"
        texts = under_test.texts()
        assert {number: texts[number] for number in kept} == kept, "a record was changed"
        kept = texts
        print(f"killed with {len(kept)} of 24 recorded")
        if len(kept) == 24:
            break
    assert run.process.returncode == -9, "it was killed, it did not end"
    last = under_test.run()
    assert sorted(last.begun()) == sorted(set(range(24)) - set(kept))
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
