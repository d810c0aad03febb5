# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a snapshot of a revision consists of, asked of the Hub and of no cache; for modules and for the controller."""

from __future__ import annotations

import re

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import COMMIT, PICKLES, HubFile, Selection, matches
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import (
    TIMEOUT_SECONDS,
    HubClient,
    HubError,
    huggingface_hub,
)

__all__ = ["COMMIT", "HubError", "check_names", "config", "resolve", "select"]

_REPO_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w][\w./+-]*")


def resolve(
    repo_id,
    revision="main",
    *,
    endpoint=None,
    token=None,
    allow_patterns=None,
    ignore_patterns=None,
    allow_pickle=False,
    retries=5,
) -> dict:
    """{commit, files: [{path, size, sha256 or git_sha1}], bytes_total} of a revision. Raises HubError."""
    check_names(repo_id, revision)
    hub = HubClient(endpoint, token, retries)
    commit = revision if COMMIT.fullmatch(revision) else hub.commit(repo_id, revision)
    files = select(repo_id, hub.tree(repo_id, commit), Selection(allow_patterns, ignore_patterns, allow_pickle))
    return {
        "commit": commit,
        "files": [file.summary() for file in files],
        "bytes_total": sum(file.size for file in files),
    }


def config(repo_id, commit, *, endpoint=None, token=None) -> dict:
    """The model's config.json at a commit, read from the Hub; {} where it has none or does not give it."""
    hub = HubClient(endpoint, token, retries=1)

    def ask(asked):
        utils = huggingface_hub().utils
        url = f"{asked}/{repo_id}/resolve/{commit}/config.json"
        headers = utils.build_hf_headers(token=hub.token)
        # httpx, which the library gives, leaves the token out where it is led to another origin.
        answer = utils.get_session().get(url, headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=True)
        utils.hf_raise_for_status(answer)
        return answer.json()

    try:
        found = hub.patiently(repo_id, commit, ask)
    except (HubError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def select(repo_id: str, files: list[HubFile], selection: Selection) -> list[HubFile]:
    """The selected files, or an error if they would be a model without weights or nothing at all."""
    asked = [pattern for pattern in selection.allow_patterns or [] if matches(pattern, PICKLES)]
    if asked and not selection.allow_pickle:
        raise HubError(
            "pickle_not_allowed",
            f"allow_patterns asks for pickled files ({_some(asked)}), but allow_pickle is false.",
            "Set allow_pickle: true if you trust the publisher (loading them can run their code).",
        )
    chosen = selection.of(files)
    left_out = selection.weights_left_out(files) if selection.allow_patterns is None else []
    if left_out:
        raise HubError(
            "no_weights",
            f"repo_id '{repo_id}' has no weights as safetensors, only {_some(left_out)}.",
            "Set allow_pickle: true if you trust the publisher (loading pickled weights can run their code), "
            "or name the files in allow_patterns.",
        )
    if not chosen:
        given = f"allow_patterns: {selection.allow_patterns}, ignore_patterns: {selection.ignore_patterns}"
        raise HubError(
            "nothing_selected",
            f"Of {len(files)} files of repo_id '{repo_id}' the patterns select none ({given}).",
            f"The repo holds {_some([file.path for file in files])}; pickled weights also need allow_pickle: true.",
        )
    return chosen


def check_names(repo_id: str, revision: str | None) -> None:
    """They become parts of paths and URLs."""
    if not _REPO_ID.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id:
        raise HubError("bad_name", f"repo_id '{repo_id}' is no name of a Hub repo.", "Write it as ORG/NAME.")
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise HubError("bad_name", f"revision '{revision}' is no name of a revision.", "Give a branch, tag or commit.")


def _some(paths: list[str]) -> str:
    more = f", and {len(paths) - 5} more" if len(paths) > 5 else ""
    return (", ".join(paths[:5]) or "no files") + more
