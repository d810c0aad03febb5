"""Workers that meet in a folder."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import STALE_SECONDS, Rendezvous

HOSTS = ["a", "b", "c"]


@pytest.fixture
def meet(tmp_path):
    """Rendezvous of every host, by name."""
    return {host: Rendezvous(tmp_path, host, HOSTS) for host in HOSTS}


def test_members_are_those_that_joined_in_the_inventory_s_order(meet):
    assert meet["a"].missing() == HOSTS
    meet["b"].say(have=["x"])
    meet["a"].say(have=[])
    assert list(meet["c"].members().items()) == [("a", {"have": []}), ("b", {"have": ["x"]})]
    assert meet["c"].missing() == ["c"]


def test_what_a_host_says_replaces_what_it_said(meet):
    meet["a"].say(have=[])
    assert meet["b"].members()["a"] == {"have": []}
    meet["a"].say(have=["x"])
    assert meet["b"].members()["a"] == {"have": ["x"]}


def test_a_host_that_is_gone_is_no_member_and_not_waited_for(meet):
    meet["a"].say(gone="unreachable")
    assert meet["b"].members() == {}
    assert meet["b"].missing() == ["b", "c"]
    assert meet["b"].gone() == {"a": "unreachable"}


def test_a_silent_host_counts_as_gone_for_others_until_it_speaks(tmp_path, meet):
    import time

    meet["a"].say(have=[])
    late = Rendezvous(tmp_path, "b", HOSTS, clock=lambda: time.time() + STALE_SECONDS + 1)
    assert late.members() == {}
    own = Rendezvous(tmp_path, "a", HOSTS, clock=lambda: time.time() + STALE_SECONDS + 1)
    assert list(own.members()) == ["a"]


def test_the_first_makes_it_for_all(meet):
    made = []

    def make(host):
        made.append(host)
        return {"by": host}

    results = []
    threads = [
        threading.Thread(target=lambda host=host: results.append(meet[host].once("x", lambda: make(host))))
        for host in HOSTS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert results == [{"by": made[0]}] * 3


def test_facts_are_gathered_from_all_that_are_not_gone(meet):
    meet["c"].say(gone="unreachable")
    results = {}
    threads = [
        threading.Thread(target=lambda host=host: results.update({host: meet[host].gather("x", {"of": host}, 20)}))
        for host in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(results.values()) == [{"a": {"of": "a"}, "b": {"of": "b"}}] * 2


def test_who_does_not_come_is_not_waited_for_for_ever(meet):
    assert meet["a"].gather("x", {"of": "a"}, 0) == {"a": {"of": "a"}}


def test_the_seed_stays_until_it_is_gone_or_cannot_read_the_hub(meet):
    for host in HOSTS:
        meet[host].say(have=[])
    assert meet["a"].seed(lambda: "b") == "b"
    assert meet["c"].seed(lambda: "c") == "b"
    meet["b"].say(gone="lost")
    assert meet["c"].seed(lambda: "c") == "c"
    meet["c"].say(have=[], hub_error={"reason": "unauthorized"})
    assert meet["a"].seed(lambda: None) is None
    assert meet["a"].seed(lambda: "a") == "a"


def test_what_is_published_is_whole(tmp_path, meet):
    meet["a"].publish("torrents", "e1", b"data")
    (tmp_path / "torrents" / "e2.1234.tmp").write_bytes(b"half")
    assert meet["b"].published("torrents") == {"e1"}
    assert meet["b"].read("torrents", "e1") == b"data"
