"""GPU leases: never two trials on one GPU, whoever comes first is served first, and nobody waits for ever."""

from __future__ import annotations

import heapq
import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.preheat.fleet.plugins.module_utils import gpu_nvidia
from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    study,
    study_journal,
    sweep_slots,
    sweep_space,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_gpus import StudyGpus
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import StudyError

V100 = gpu_nvidia.parse_topology((Path(__file__).parents[2] / "data/gpu/nvidia_topo_v100_x8.txt").read_text())


def gpus(count):
    return [{"index": index, "uuid": f"GPU-{index}", "name": "H100"} for index in range(count)]


def slots(count, least=1, topology=None):
    return sweep_slots.slots({"h": gpus(count)}, count, 1, {"h": topology or {}}, least_gpus=least)


class Attributes:
    """What StudyGpus uses of a study."""

    def __init__(self):
        self.user_attrs = {}

    def set_user_attr(self, name, value):
        self.user_attrs[name] = json.loads(json.dumps(value))


class Trial:
    def __init__(self, slot):
        self.user_attrs = {"slot": slot}


def test_slots_of_a_set_that_points_can_share():
    found = slots(8, least=2)
    assert [slot["name"] for slot in found] == ["h/0", "h/1", "h/2", "h/3"]
    assert {slot["set"] for slot in found} == {"h/0"}
    assert all(len(slot["members"][0]["gpus"]) == 8 for slot in found)
    two_sets = sweep_slots.slots({"h": gpus(8)}, 4, 1, least_gpus=1)
    assert [slot["set"] for slot in two_sets] == ["h/0"] * 4 + ["h/1"] * 4
    assert len({slot["name"] for slot in two_sets}) == 8


@pytest.mark.parametrize("arguments", [{"least_gpus": 4}, {"least_gpus": 3}, {"least_gpus": 1, "exclusive_host": True}])
def test_slots_that_share_nothing(arguments):
    (found,) = sweep_slots.slots({"h": gpus(4)}, 4, 1, **arguments)
    assert "set" not in found
    study_gpus = StudyGpus(Attributes(), [found])
    study_gpus.release("h/0")
    assert not study_gpus.is_awaited("h/0", lambda: [Trial("h/0")])
    assert [gpu["index"] for gpu in study_gpus.lease("h/0", 2, [])] == [0, 1]


def test_near_gpus_are_leased_and_pairs_stay_whole():
    study_gpus = StudyGpus(Attributes(), slots(8, topology=V100))
    for number in range(8):
        study_gpus.release(f"h/{number}")

    def lease(number, count):
        return sorted(gpu["index"] for gpu in study_gpus.lease(f"h/{number}", count, []))

    one = lease(0, 1)
    assert lease(1, 1) == {0: [3], 3: [0], 1: [2], 2: [1], 4: [7], 7: [4], 5: [6], 6: [5]}[one[0]], "its neighbour"
    assert lease(2, 2) in ([0, 3], [1, 2], [4, 7], [5, 6]), "two NVLinks between them"


def test_nothing_is_leased_until_every_slot_of_the_set_is_swept_out():
    study_gpus = StudyGpus(Attributes(), slots(2))
    study_gpus.release("h/0")
    assert study_gpus.lease("h/0", 1, []) is None, "what a dead run left on h/1 may have any GPU"
    study_gpus.release("h/1")
    assert study_gpus.lease("h/0", 1, []) is not None


def test_gpus_of_a_slot_that_broke_off_are_lost_and_nobody_waits_for_them():
    study_gpus = StudyGpus(Attributes(), slots(4))
    for number in range(4):
        study_gpus.release(f"h/{number}")
    study_gpus.lease("h/0", 2, [])
    assert study_gpus.lease("h/1", 4, []) is None
    with pytest.raises(StudyError, match="fewer than 4 GPUs remain"):
        study_gpus.lease("h/1", 4, ["h/0"])
    assert [gpu["index"] for gpu in study_gpus.lease("h/1", 2, ["h/0"])] == [2, 3]


@given(
    st.integers(1, 8),
    st.lists(st.integers(1, 8), min_size=1, max_size=25),
    st.integers(0, 999),
    st.sampled_from([{}, V100]),
)
def test_never_two_on_a_gpu_first_come_first_served_and_all_are_served(count, wanted, seed, topology):
    """Slots act in any order: claim, ask for their GPUs, end."""
    chance = random.Random(seed)  # every slot acts again and again
    points = [min(one, count) for one in wanted]
    found = slots(count, min(points), topology)
    attributes = Attributes()
    leases = {slot["name"]: StudyGpus(attributes, found) for slot in found}
    queue = list(enumerate(points))
    claimed, running, served, claims = {}, {}, [], []
    for _step in itertools.count():
        assert _step < 2000, "somebody waits for ever"
        name = chance.choice(list(leases))
        if name in running:
            if chance.random() < 0.3:
                claimed.pop(name)
                running.pop(name)
        elif name in claimed:
            number, need = claimed[name]
            if (got := leases[name].lease(name, need, [])) is not None:
                assert len(got) == need
                running[name] = {gpu["uuid"] for gpu in got}
                served.append(number)
                every = [uuid for held in running.values() for uuid in held]
                assert len(every) == len(set(every)), "two trials on one GPU"
        else:
            leases[name].release(name)
            if queue and not leases[name].is_awaited(name, lambda: map(Trial, claimed)):
                claimed[name] = queue.pop(0)
                claims.append(claimed[name][0])
        if not queue and not claimed:
            break
    assert served == claims == list(range(len(points)))


def simulate(tmp_path, plan, seconds_of):
    """The real study, a pretended clock; ``(makespan, [(begin, end, uuids)])``."""
    study_journal.open_study(plan, sweep_space.grid(plan["server"]), [])
    workers = {slot["name"]: study.SweepStudy(plan["sweep_dir"]) for slot in plan["slots"]}
    now, claimed, ends, spans, order = 0.0, {}, [], [], itertools.count()
    while True:
        busy = {name for *_rest, name in ends}
        for _round in range(2):  # who waits may go on after another slot has looked
            for name, worker in workers.items():
                if name in busy:
                    continue
                claim = claimed.get(name) or worker.claim(name)
                if claim is None:
                    continue
                claimed[name] = claim
                if (got := worker.lease_gpus(name, claim)) is not None:
                    end = now + seconds_of(claim)
                    spans.append((now, end, {gpu["uuid"] for gpu in got}, claim))
                    heapq.heappush(ends, (end, next(order), name))
                    busy.add(name)
        if not ends:
            return now, spans
        now, _order, name = heapq.heappop(ends)
        claim = claimed.pop(name)
        record = records.new_record(
            sweep="s", status="complete", slot={"name": name, "members": []},
            **{key: claim[key] for key in ("number", "kind", "attempt", "params", "server_parameters")},
        )  # fmt: skip
        records.write_trial(plan["sweep_dir"], record)
        workers[name].finish(claim, record)


@pytest.mark.parametrize("share", [True, False])
def test_a_space_with_several_sizes_keeps_the_gpus_of_a_host_busy(tmp_path, share):
    server = {"base": {}, "space": {"tp_size": [1, 2, 4], "chunked_prefill_size": [1024 * n for n in range(1, 9)]}}
    plan = {
        "name": "s", "sweep_dir": str(tmp_path / "s"), "objective": {"metric": "output_tokens_per_second"},
        "server": server, "slot_gpus": 4,
        "slots": sweep_slots.slots({"h": gpus(8)}, 4, 1, {"h": V100}, least_gpus=1 if share else 0),
    }  # fmt: skip
    makespan, spans = simulate(tmp_path, plan, lambda claim: 100.0 + claim["number"] % 7)
    assert sorted(claim["number"] for *_rest, claim in spans) == list(range(24))
    for one, other in itertools.combinations(spans, 2):
        if one[0] < other[1] and other[0] < one[1]:
            assert not one[2] & other[2], "two trials on one GPU at one time"
    assert all(len(held) == claim["gpus"] for _begin, _end, held, claim in spans)
    busy = sum((end - begin) * len(held) for begin, end, held, _claim in spans) / 8
    # 8 trials of each size: fixed slots of four leave GPUs idle beside 16 of the 24.
    assert makespan < 1.3 * busy if share else makespan > 1.6 * busy


def test_how_many_run_at_once():
    assert sweep_slots.at_once(slots(8), [1, 2, 4, 8]) == 2
    assert sweep_slots.at_once(slots(8), [1, 1, 4]) == 4, "two GPUs each, on average"
    assert sweep_slots.at_once(slots(8, least=8), [8]) == 1
    assert sweep_slots.at_once(slots(8), []) == 8
    assert sweep_slots.at_once(sweep_slots.slots({"a": [], "b": []}, 0, 2), [0]) == 4


@given(st.integers(1, 8).flatmap(lambda count: st.tuples(st.just(count), st.integers(1, count))))
def test_the_nearest_of_the_free(sizes):
    count, need = sizes
    free = gpus(8)[:count]
    chosen = sweep_slots.nearest(free, need, V100)
    assert len(chosen) == need
    assert sweep_slots.spread(chosen, V100) == pytest.approx(
        min(sweep_slots.spread(group, V100) for group in itertools.combinations(free, need))
    )
