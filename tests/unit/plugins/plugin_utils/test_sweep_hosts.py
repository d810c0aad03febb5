"""When failures are a host's fault, and which waiting trial suits a host best."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_hosts


def row(*attempts):
    """Attempts as ``host class``, in order; the numbers of those that count against host a."""
    ended = [
        sweep_hosts.Ended(number, text.split()[0], text.split()[1] if " " in text else None)
        for number, text in enumerate(attempts)
    ]
    return [one.number for one in sweep_hosts.faults_in_a_row(ended, "a")]


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([], []),
        (["a", "b"], []),
        (["a module_failed", "a image_missing", "a model_missing"], [0, 1, 2]),
        (["a module_failed", "b", "a host_lost", "b crashed"], [0, 2]),
        (["a module_failed", "a", "a module_failed"], [2]),
        (["a module_failed", "a"], []),
        # By the parameters' fault: the host did its part.
        (["a module_failed", "a bad_flag"], []),
        (["a out_of_memory", "a out_of_memory", "a invalid"], []),
        (["a module_failed", "a out_of_memory", "a module_failed"], [2]),
        # Crashes count where others have none, and ended something well.
        (["b", "a crashed", "a timeout", "a crashed"], [1, 2, 3]),
        (["a crashed", "a crashed"], []),
        (["b out_of_memory", "a crashed"], []),
        (["b", "c crashed", "a crashed", "a timeout"], [3]),
        (["b", "b crashed", "a module_failed", "a crashed"], []),
    ],
)
def test_failures_that_can_be_the_hosts_fault(attempts, expected):
    assert row(*attempts) == expected


def test_the_reason_counts_classes():
    ended = [sweep_hosts.Ended(n, "a", name) for n, name in enumerate(["crashed", "host_lost", "crashed"])]
    assert sweep_hosts.reason(ended) == "failures in a row there: crashed x 2, host_lost"


def test_shapes_are_what_is_compiled_for():
    plain = {"tp_size": 2, "chunked_prefill_size": 2048, "schedule_policy": "lpm", "mem_fraction_static": 0.8}
    assert sweep_hosts.shape(plain) == sweep_hosts.shape({"tp_size": 2, "chunked_prefill_size": 512})
    assert sweep_hosts.shape(plain) != sweep_hosts.shape({**plain, "tp_size": 1})
    assert sweep_hosts.shape(plain) != sweep_hosts.shape({**plain, "attention_backend": "triton"})


@pytest.mark.parametrize(
    ("last", "own", "others", "expected"),
    [
        (None, "", "", 0),  # nothing is warm anywhere: the first
        ("z", "zy", "", 3),  # what the slot had last
        ("q", "qy", "", 1),  # what its host has
        (None, "", "x", 1),  # what no host has
        (None, "", "xyz", 0),  # what others have
        ("x", "x", "xyz", 0),
    ],
)
def test_the_warmest_of_waiting_trials(last, own, others, expected):
    assert sweep_hosts.preferred(["x", "y", "x", "z"], last, set(own), set(others)) == expected
