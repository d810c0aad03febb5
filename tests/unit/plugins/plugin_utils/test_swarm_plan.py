"""Who does what in a swarm."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_plan

SIZES = {"aaaaaa1": 10, "bbbbbb2": 20, "cccccc3": 30}
A, B, C = SIZES
ALL = set(SIZES)


def member(have=(), initial=None, **more):
    return {
        "have": list(have),
        "initial": list(have if initial is None else initial),
        "address": "h",
        "port": 1,
        **more,
    }


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"h1": member(), "h2": member()}, [A, B, C]),
        ({"h1": member([A]), "h2": member([C])}, [B]),
        ({"h1": member([A, B, C])}, []),
        ({}, [A, B, C]),
    ],
)
def test_what_nobody_has_is_fetched_in_order(members, expected):
    assert swarm_plan.orphans(members, SIZES) == expected


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"h1": member(), "h2": member()}, "h1"),  # the first, if they hold the same
        ({"h1": member([A]), "h2": member([C])}, "h2"),  # the one that holds most bytes, not most files
        ({"h1": member([A, B]), "h2": member([C], hub_error={"reason": "x"})}, "h1"),
        ({"h1": member([A]), "h2": member([A, B])}, "h2"),
        ({"h1": member([A, B]), "h2": member([A], torrent=True)}, "h2"),  # it can share pieces
        ({"h1": member(hub_error={"reason": "x"})}, None),
        ({}, None),
    ],
)
def test_the_seed_is_who_holds_most_and_can_read_the_hub(members, expected):
    assert swarm_plan.elect(members, SIZES) == expected


def test_only_what_somebody_lacks_is_shared_and_by_a_few():
    holders = {f"h{number}": member([A, B]) for number in range(10)}
    members = {**holders, "new": member([A])}
    sharing = {host: swarm_plan.to_share(members, host, {A, B}) for host in holders}
    assert sum(share == {B} for share in sharing.values()) == swarm_plan.CONTRIBUTORS
    assert sum(not share for share in sharing.values()) == 10 - swarm_plan.CONTRIBUTORS


def test_a_file_that_came_in_this_run_is_shared_already():
    members = {"h1": member([A], initial=[]), "h2": member()}
    assert swarm_plan.to_share(members, "h1", ALL) == set()


@pytest.mark.parametrize(
    ("host", "expected"), [("full", True), ("new", True), ("other", False)], ids=["contributes", "lacks", "neither"]
)
def test_who_takes_part(host, expected):
    members = {"new": member([A, B]), "full": member(ALL), "other": member(ALL)}
    members["other"]["initial"] = []
    assert swarm_plan.takes_part(members, host, ALL) is expected


def test_peers_are_the_others_that_run_an_agent():
    members = {"h1": member(), "h2": member(), "h3": member(port=0), "h4": member(address=None)}
    assert swarm_plan.peers(members, "h1") == [["h", 1], ["h", 0]]


def test_https_is_needed_when_a_host_that_runs_has_no_libtorrent():
    assert not swarm_plan.needs_https({"h1": member(), "h2": member(address=None, port=0)})
    assert swarm_plan.needs_https({"h1": member(), "h2": member(port=0)})


def test_files_go_over_https_to_who_has_no_libtorrent_and_from_them():
    members = {
        "with": member(serves=[A], address="w", https_port=11),
        "with2": member(),
        "closed": member(serves=[B], address="c", https_port=0),
        "without": member(serves=[B, C], address="o", port=0, https_port=22),
        "without2": member(port=0),
    }
    assert swarm_plan.holders(members, "without2", ALL) == {A: [["w", 11]], B: [["o", 22]], C: [["o", 22]]}
    # With libtorrent only what nobody shares by it: "closed" has B and libtorrent.
    assert swarm_plan.holders(members, "with2", ALL) == {C: [["o", 22]]}
    assert swarm_plan.holders(members, "without", {A}) == {A: [["w", 11]]}


@pytest.mark.parametrize(("have", "expected"), [([ALL, ALL], True), ([ALL, {A}], False), ([{A}, {B, C}], False)])
def test_all_are_complete_only_if_each_is(have, expected):
    members = {f"h{number}": member(sorted(held)) for number, held in enumerate(have)}
    assert swarm_plan.all_complete(members, ALL) is expected
