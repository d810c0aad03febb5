# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the agent of one host of a swarm has been told, and what it must be told next."""

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.swarm_units import etag_of
from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_plan
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import SwarmError
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import Rendezvous


class News:
    """For one agent: one that takes its place has been told nothing. facts: what the host has said of itself."""

    def __init__(self, rendezvous: Rendezvous, sizes: dict[str, int], hub: dict[str, str | None]):
        """hub: {token, endpoint}, which only who reads the Hub is told."""
        self._meet, self._host = rendezvous, rendezvous.host
        self._sizes, self._etags, self._hub = sizes, set(sizes), hub
        self._published: set[str] = set()  # torrents and contents
        self._share: set[str] = set()
        self._source: set[str] = set()  # what it is to read from the Hub
        self._peers: list[list[Any]] | None = None
        self._holders: dict[str, list[list[Any]]] = {}
        self._https = False

    def next(self, members: swarm_plan.Members, facts: dict[str, Any]) -> dict[str, Any]:
        """What the host must be told now, and counts as told; empty if nothing. Raises SwarmError as of_hub does."""
        news: dict[str, Any] = {}
        peers = swarm_plan.peers(members, self._host)
        if peers != self._peers:
            news["peers"] = self._peers = peers
        lacks = self._etags.difference(facts["have"])
        if swarm_plan.needs_https(members) and not self._https:
            news["serve_https"] = self._https = True
        holders = swarm_plan.holders(members, self._host, lacks - self._published - self._source)
        if holders != self._holders:
            news["holders"] = self._holders = holders
        for kind in ("torrents", "contents") if facts["port"] else ("contents",):
            known = self._meet.published(kind) - self._published
            # The units of a file are of use to who has not begun with the whole of it.
            fresh = {name for name in known if etag_of(name) in lacks and etag_of(name) not in self._published}
            if fresh:
                news[kind] = {etag: base64.b64encode(self._meet.read(kind, etag)).decode() for etag in sorted(fresh)}
                self._published |= fresh
        share = swarm_plan.to_share(members, self._host, self._etags) - self._share
        if share:
            news["share"] = sorted(share)
            self._share |= share
        news.update(self.of_hub(members))
        return news

    def of_hub(self, members: swarm_plan.Members) -> dict[str, Any]:
        """What this host is to read from the Hub, if it is the seed. Raises SwarmError if no host can read it."""
        coming = self._source | self._meet.published("contents")
        orphans = [etag for etag in swarm_plan.orphans(members, self._sizes) if etag not in coming]
        if not orphans:
            return {}
        seed = self._meet.seed(lambda: swarm_plan.elect(self._meet.members(), self._sizes))
        if seed is None:
            first = next(iter(members.values()))["hub_error"]
            message = f"No host of the swarm could read the Hub: {first['message']}"
            raise SwarmError(first["reason"], message, first["remedy"])
        if seed != self._host:
            return {}
        return self._from_hub(orphans)

    def rescue(self, etags: set[str]) -> dict[str, Any]:
        """Of the Hub after all, what peers should have brought."""
        return self._from_hub(sorted(etags))

    def _from_hub(self, etags: list[str]) -> dict[str, Any]:
        self._source |= set(etags)
        return {
            "fetch": [etag for etag in etags if etag not in self._published],
            "fill": [etag for etag in etags if etag in self._published],
            **self._hub,
        }

    def is_expected(self, facts: dict[str, Any]) -> bool:
        """Whether the host itself will have news soon: torrents of its own, or the last of its files."""
        lacks = self._etags.difference(facts["have"])
        if self._source & lacks or self._share.difference(facts["serves"]):
            return True
        # Who pulls a whole file will soon have it for others.
        return bool(lacks) and (lacks <= self._published or bool(self._holders))

    def awaited(self, facts: dict[str, Any]) -> set[str]:
        """What the host lacks and peers are to bring."""
        return self._etags.difference(facts["have"]) & (self._published | set(self._holders))

    @property
    def reads_hub(self) -> bool:
        return bool(self._source)
