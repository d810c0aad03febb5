# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What all hosts are to hold: asked of the Hub once, by the controller, and the root of trust on every host."""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile, Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient
from ansible_collections.preheat.fleet.plugins.module_utils.hf_tree import COMMIT, check_names, select


def resolve(
    repo_id: str,
    revision: str,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    selection: Selection | None = None,
    retries: int = 5,
) -> dict[str, Any]:
    """{commit, listing (all files of the commit), paths (the selected ones)}. Raises HubError."""
    check_names(repo_id, revision)
    hub = HubClient(endpoint, token, retries)
    commit = revision if COMMIT.fullmatch(revision) else hub.commit(repo_id, revision)
    listing = hub.tree(repo_id, commit)
    chosen = select(repo_id, listing, selection or Selection())
    return {
        "commit": commit,
        "listing": [dataclasses.asdict(file) for file in listing],
        "paths": [file.path for file in chosen],
    }


def sizes(manifest: dict[str, Any]) -> dict[str, int]:
    """{etag: bytes} of what is to be held, in the order to fetch it: small files first, then by path."""
    paths = set(manifest["paths"])
    files = [file for file in (HubFile(**entry) for entry in manifest["listing"]) if file.path in paths]
    ordered = sorted(files, key=lambda file: (file.size > SMALL_BYTES, file.path))
    return {file.etag: file.size for file in ordered}


SMALL_BYTES = 1 << 20
