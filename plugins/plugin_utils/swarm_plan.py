# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who does what in a swarm. Pure: from what the living hosts hold.

A member: {have: [etags], initial: [etags it held when it joined], torrent: whether it has libtorrent, address, port (of
libtorrent, 0 without it), https_port (0 if not open), serves: [etags that it gives over HTTPS], hub_error}.
"""

from __future__ import annotations

import hashlib
from typing import Any

CONTRIBUTORS = 4  # hosts that share a file they held before: all of them would only read their disks in vain
HOLDERS = 16  # hosts that one is told to ask for a file

Members = dict[str, dict[str, Any]]


def lacked(members: Members, etags: set[str]) -> set[str]:
    """What some host still needs."""
    return {etag for facts in members.values() for etag in etags.difference(facts["have"])}


def orphans(members: Members, sizes: dict[str, int]) -> list[str]:
    """What no host has, in the order to fetch it."""
    held = {etag for facts in members.values() for etag in facts["have"]}
    return [etag for etag in sizes if etag not in held]


def elect(members: Members, sizes: dict[str, int]) -> str | None:
    """The host that shall read the Hub, of those that can: rather one with libtorrent, and the one that holds most."""
    able = [host for host, facts in members.items() if not facts.get("hub_error")]

    def merit(host: str) -> tuple[bool, int]:
        return bool(members[host].get("torrent")), sum(sizes[etag] for etag in members[host]["have"])

    return max(able, key=merit, default=None)


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
    """[address, port] of the others that run an agent; port 0 is one without libtorrent."""
    return [[facts["address"], facts["port"]] for name, facts in members.items() if name != host and _runs(facts)]


def _runs(facts: dict[str, Any]) -> bool:
    return bool(facts.get("address"))


def needs_https(members: Members) -> bool:
    """Whether some host has no other way than whole files over HTTPS."""
    return any(_runs(facts) and not facts["port"] for facts in members.values())


def holders(members: Members, host: str, etags: set[str]) -> dict[str, list[list[Any]]]:
    """{etag: [[address, port]]} of those files that this host must take over HTTPS, and who gives them.

    That is all for a host without libtorrent; for another one what only such hosts have.
    """
    found: dict[str, list[list[Any]]] = {}
    for etag in sorted(etags):
        giving = [facts for name, facts in members.items() if name != host and etag in facts.get("serves", ())]
        if members[host]["port"] and any(facts["port"] for facts in giving):
            continue
        open_ones = [[facts["address"], facts["https_port"]] for facts in giving if facts.get("https_port")]
        if open_ones:
            start = int(hashlib.sha256(f"{host} {etag}".encode()).hexdigest()[:6], 16) % len(open_ones)
            found[etag] = (open_ones[start:] + open_ones[:start])[:HOLDERS]
    return found


def all_complete(members: Members, etags: set[str]) -> bool:
    return not lacked(members, etags)
