from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_end


@pytest.mark.parametrize(
    ("elapsed", "waiting", "slots", "seconds", "left"),
    [
        ([], 4, 2, 10.0, 20.0),
        ([4.0], 0, 2, 10.0, 6.0),
        ([4.0, 8.0], 2, 2, 10.0, 16.0),
        ([4.0, 8.0], 1, 2, 10.0, 12.0),
        ([30.0], 1, 1, 10.0, 10.0),  # longer than the others: it may end at any time
        ([], 0, 2, 10.0, None),
        ([], 3, 0, 10.0, None),  # no slot is left
        ([4.0], 3, 2, None, None),
    ],
)
def test_the_end_is_estimated_by_the_slot_that_is_free_first(elapsed, waiting, slots, seconds, left):
    found = sweep_end.estimated(1000.0, elapsed, waiting, slots, seconds)
    assert found == (None if left is None else 1000.0 + left)


SHARED = [
    {"name": f"a/{index}", "set": "a/0", "members": [{"host": "a", "gpus": [{"uuid": "0"}, {"uuid": "1"}]}]}
    for index in (0, 1)
]


@pytest.mark.parametrize(
    ("begun", "needs", "waiting", "left"),
    [
        ({"a/0": 4.0, "a/1": 2.0}, [1, 1], 0, 8.0),
        ({"a/0": 4.0}, [2, 2], 1, 16.0),  # they cannot run at once
        ({"a/0": 4.0, "a/1": 2.0}, [2, 2], 0, 16.0),  # the second has been claimed, and waits for its GPUs
        ({"a/0": 4.0, "elsewhere/0": 2.0}, [2, 2], 0, 8.0),  # of another controller
        ({}, [2, 2], 2, 20.0),
        ({}, [], 0, None),
    ],
)
def test_slots_that_share_gpus_take_turns(begun, needs, waiting, left):
    noted = [{"slot": slot, "begun": 1000.0 - elapsed} for slot, elapsed in begun.items()]
    found = sweep_end.with_leases(1000.0, noted, waiting, 10.0, needs=needs, slots=SHARED)
    assert found == (None if left is None else 1000.0 + left)
