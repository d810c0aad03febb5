# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host was warmed with and what its Hub cache holds, in its local facts."""

from __future__ import annotations

import os
import time

from ansible_collections.preheat.fleet.plugins.module_utils import local_facts
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import free_bytes
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_inventory import inventory

# What is noted of a model that is held.
MODEL = (
    "repo_id", "revision", "commit", "source", "bytes_total", "bytes_fetched", "bytes_from_hub", "bytes_from_peers",
    "seconds", "mb_per_second", "verified",
)  # fmt: skip


def keep(params: dict, check_mode: bool = False) -> dict:
    """Note what is held, and have Ansible find it; what cannot be written is a notice.

    params: those of the module host_facts.
    """
    path, notices, changed, linked = params["path"], [], False, not params["link_dir"]
    try:
        change = _change(params, round(time.time(), 3))
        if not check_mode and (change or not os.path.exists(path)):
            local_facts.note(path, change or dict)
    except OSError as error:
        notices.append(f"The facts were not written: {error}.")
    try:
        if params["link_dir"]:
            changed = local_facts.link(path, params["link_dir"], check_mode)
            linked = True
    except OSError as error:
        notices.append(f"ansible_local.preheat does not find the facts in {path}: {error}.")
    return {"changed": changed, "facts": local_facts.read(path), "linked": linked, "notice": " ".join(notices)}


def _change(params: dict, now: float):
    """What makes the new facts of the old ones; None where there is nothing to note. Raises OSError where the cache may
    not be read."""
    found: dict = {}
    if params["cache_dir"]:
        repos, free = inventory(params["cache_dir"], Selection()), free_bytes(params["cache_dir"])
        cache = local_facts.cache_state(params["cache_dir"], repos, free, now)
        found["cache"] = {**cache, "budget_bytes": params["budget_bytes"]}
    if params["warm"] is None:
        return (lambda facts: {**facts, **found}) if found else None
    return lambda facts: {**facts, **found, "warm": _warm(facts.get("warm"), params["warm"], found.get("cache"), now)}


def _warm(before: dict | None, models: list, cache: dict | None, now: float) -> dict:
    """These models first, then those of earlier warm-ups that the cache still has."""
    noted = [{"time": now, **{key: model[key] for key in MODEL if key in model}} for model in models]
    names = {(model.get("repo_id"), model.get("revision")) for model in noted}
    earlier = [
        model
        for model in (before or {}).get("models") or []
        if (model.get("repo_id"), model.get("revision")) not in names and (cache is None or _has(cache, model))
    ]
    return {"time": now, "models": noted + earlier}


def _has(cache: dict, model: dict) -> bool:
    return any(
        revision["commit"] == model.get("commit")
        for repo in cache["repos"]
        if repo["repo_id"] == model.get("repo_id")
        for revision in repo["revisions"]
    )
