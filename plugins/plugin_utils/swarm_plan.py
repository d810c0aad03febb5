# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who does what in a swarm. Pure: from what the living hosts hold.

A member: {have: [etags], initial: [etags it held when it joined], address, port, hub_error}.
"""

from __future__ import annotations

from typing import Any

CONTRIBUTORS = 4  # hosts that share a file they held before: all of them would only read their disks in vain

Members = dict[str, dict[str, Any]]


def lacked(members: Members, etags: set[str]) -> set[str]:
    """What some host still needs."""
    return {etag for facts in members.values() for etag in etags.difference(facts["have"])}


def orphans(members: Members, sizes: dict[str, int]) -> list[str]:
    """What no host has, in the order to fetch it."""
    held = {etag for facts in members.values() for etag in facts["have"]}
    return [etag for etag in sizes if etag not in held]


def elect(members: Members, sizes: dict[str, int]) -> str | None:
    """The host that shall read the Hub: the one that holds most, of those that can."""
    able = [host for host, facts in members.items() if not facts.get("hub_error")]
    return max(able, key=lambda host: sum(sizes[etag] for etag in members[host]["have"]), default=None)


def to_share(members: Members, host: str, etags: set[str]) -> set[str]:
    """What this host is to share of the files that it held before."""
    wanted = lacked(members, etags)
    return {etag for etag in members[host]["initial"] if etag in wanted and host in _contributors(members, etag)}


def _contributors(members: Members, etag: str) -> list[str]:
    holders = [host for host, facts in members.items() if etag in facts["initial"]]
    start = int(etag[:6], 16) % len(holders)
    return (holders[start:] + holders[:start])[:CONTRIBUTORS]


def takes_part(members: Members, host: str, etags: set[str]) -> bool:
    """Whether this host lacks something, or has something for others."""
    return not etags.issubset(members[host]["have"]) or bool(to_share(members, host, etags))


def peers(members: Members, host: str) -> list[list[Any]]:
    """[address, port] of the others that run an agent."""
    return [[facts["address"], facts["port"]] for name, facts in members.items() if name != host and facts.get("port")]


def all_complete(members: Members, etags: set[str]) -> bool:
    return not lacked(members, etags)
