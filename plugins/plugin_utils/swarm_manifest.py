# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What all hosts are to hold: asked of the Hub once, by the controller, and the root of trust on every host."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HUB, HubFile, Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_tree import COMMIT, check_names, select


def resolve(
    repo_id: str,
    revision: str,
    *,
    endpoint: str | None = None,
    fallbacks: Iterable[str] = (),
    token: str | None = None,
    selection: Selection | None = None,
    retries: int = 5,
) -> dict[str, Any]:
    """{commit, listing (all files of the commit), paths (the selected ones)}. Raises HubError."""
    check_names(repo_id, revision)
    hub = HubClient(endpoint, token, retries, fallbacks=fallbacks)
    commit = revision if COMMIT.fullmatch(revision) else hub.commit(repo_id, revision)
    listing = hub.tree(repo_id, commit)
    chosen = select(repo_id, listing, selection or Selection())
    return {
        "commit": commit,
        "listing": [dataclasses.asdict(file) for file in listing],
        "paths": [file.path for file in chosen],
    }


def recorded(said: dict[str, dict[str, Any]], repo_id: str, selection: Selection) -> dict[str, Any] | None:
    """The manifest from what hosts have recorded of the Hub, where that cannot be asked: see swarm_peer.recorded().

    With hosts, the names of those that have recorded it; None if none has. Raises HubError where they contradict each
    other: which of them is right, only the Hub could say.
    """
    knowing = {host: facts for host, facts in said.items() if facts["commit"]}
    if not knowing:
        return None
    first, facts = next(iter(knowing.items()))
    listing = [HubFile(**entry) for entry in facts["listing"]]
    for host, other in knowing.items():
        if other["commit"] != facts["commit"]:
            raise HubError(
                "hub_unreachable",
                f"The Hub cannot be asked, and {first} has commit {facts['commit']}, but {host} {other['commit']}.",
                "Name the commit as revision.",
            )
        if _bytes_of(HubFile(**entry) for entry in other["listing"]) != _bytes_of(listing):
            raise HubError(
                "hub_unreachable",
                f"The Hub cannot be asked, and {first} and {host} have recorded different files for the same commit "
                f"{facts['commit']}.",
                f"Remove trees/{facts['commit']}.json from the cache of the one that was altered, or connect the "
                "controller to the Hub.",
            )
    chosen = select(repo_id, listing, selection)
    return {
        "commit": facts["commit"],
        "listing": [dataclasses.asdict(file) for file in listing],
        "paths": [file.path for file in chosen],
        # As good as the best of them: all list the same.
        "origin": HUB if any(other["origin"] == HUB for other in knowing.values()) else facts["origin"],
        "hosts": sorted(knowing),
    }


def _bytes_of(listing: Iterable[HubFile]) -> set[tuple[str, int, str]]:
    return {(file.path, file.size, file.etag) for file in listing}


def sizes(manifest: dict[str, Any]) -> dict[str, int]:
    """{etag: bytes} of what is to be held, in the order to fetch it: small files first, then by path."""
    paths = set(manifest["paths"])
    files = [file for file in (HubFile(**entry) for entry in manifest["listing"]) if file.path in paths]
    ordered = sorted(files, key=lambda file: (file.size > SMALL_BYTES, file.path))
    return {file.etag: file.size for file in ordered}


SMALL_BYTES = 1 << 20
