"""What an agent is told, each thing once. With a real rendezvous; what the hosts hold is written there."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import SwarmError
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_news import News
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import Rendezvous

A, B = "a" * 64, "b" * 64
SIZES = {A: 10, B: 20}
HUB = {"token": "t", "endpoint": "e"}
REFUSED = {"reason": "gated_repo", "message": "It is gated.", "remedy": "Ask for access."}


class Fleet:
    def __init__(self, folder):
        self.meets = {host: Rendezvous(folder, host, ["h1", "h2"]) for host in ("h1", "h2")}
        self.news = News(self.meets["h1"], SIZES, HUB)
        self.facts = {}

    def say(self, host, have=(), **more):
        facts = {"have": list(have), "initial": [], "torrent": True, "address": host, "port": 1, "serves": [], **more}
        self.facts[host] = facts
        self.meets[host].say(**facts)

    def next(self):
        return self.news.next(self.meets["h1"].members(), self.facts["h1"])

    @property
    def expects(self):
        return self.news.is_expected(self.facts["h1"])


@pytest.fixture
def fleet(tmp_path):
    fleet = Fleet(tmp_path)
    fleet.say("h1")
    fleet.say("h2", have=[B])  # which holds most, and so is the seed
    return fleet


def test_peers_are_told_when_they_change(fleet):
    assert fleet.next() == {"peers": [["h2", 1]]}
    assert fleet.next() == {}
    fleet.say("h2", have=[B], gone="complete")
    assert fleet.next()["peers"] == []


def test_a_torrent_is_told_once_to_who_lacks_the_file(fleet):
    fleet.next()
    fleet.meets["h2"].publish("torrents", B, b"torrent")
    assert not fleet.expects
    assert fleet.next() == {"torrents": {B: base64.b64encode(b"torrent").decode()}}
    assert fleet.next() == {}
    assert fleet.news.awaited(fleet.facts["h1"]) == {B}
    fleet.say("h1", have=[B])
    assert fleet.news.awaited(fleet.facts["h1"]) == set()


def test_units_are_of_no_use_beside_the_whole(fleet):
    fleet.next()
    for name in (f"{B}-0-digest", B, f"{B}-1-digest"):
        fleet.meets["h2"].publish("torrents", name, b"torrent")
        assert list(fleet.next().get("torrents", {})) == ([name] if name != f"{B}-1-digest" else [])


def test_who_has_no_libtorrent_is_told_who_holds_whole_files(fleet):
    fleet.say("h1", port=0)
    fleet.say("h2", have=[B], serves=[B], https_port=7)
    fleet.meets["h2"].publish("torrents", B, b"torrent")
    assert fleet.next() == {"peers": [["h2", 1]], "serve_https": True, "holders": {B: [["h2", 7]]}}
    assert fleet.next() == {}
    assert fleet.expects  # it will soon have the file for others


def test_what_was_held_before_is_shared_with_who_lacks_it(fleet):
    fleet.say("h1", have=[A], initial=[A])
    assert fleet.next()["share"] == [A]
    assert fleet.expects
    fleet.say("h1", have=[A], initial=[A], serves=[A])
    assert (fleet.next(), fleet.expects) == ({}, False)


def test_the_seed_alone_reads_the_hub(fleet):
    assert (fleet.news.of_hub(fleet.meets["h1"].members()), fleet.news.reads_hub) == ({}, False)
    seed = News(fleet.meets["h2"], SIZES, HUB)
    assert seed.of_hub(fleet.meets["h2"].members()) == {"fetch": [A], "fill": [], **HUB}
    assert seed.of_hub(fleet.meets["h2"].members()) == {}
    assert seed.reads_hub
    assert seed.is_expected(fleet.facts["h2"])


def test_nobody_can_read_the_hub(fleet):
    for host in ("h1", "h2"):
        fleet.say(host, hub_error=REFUSED)
    with pytest.raises(SwarmError, match="No host of the swarm could read the Hub: It is gated") as caught:
        fleet.next()
    assert (caught.value.reason, caught.value.remedy) == ("gated_repo", "Ask for access.")


def test_of_what_peers_did_not_bring_the_hub_fills_what_has_begun(fleet):
    fleet.meets["h2"].publish("torrents", B, b"torrent")
    fleet.next()
    assert fleet.news.rescue({A, B}) == {"fetch": [A], "fill": [B], **HUB}
    assert fleet.news.reads_hub
