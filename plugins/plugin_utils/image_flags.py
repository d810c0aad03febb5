# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which flags the images of a fleet accept: each image is asked once; the controller keeps the answer by its id."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import durable_files

# An answer of sglang_flag_info, as a variable of the host that was asked.
ANSWER = "_sglang_server_flags"
NO_HOST = "all,!all"  # a pattern: an empty list would be taken for all hosts


def folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preheat" / "flags"


def load(image_id: str) -> list[dict[str, Any]]:
    """The flags that an image accepts; [] if it was never asked."""
    try:
        kept = json.loads((folder() / f"{_name(image_id)}.json").read_text())
        return kept["flags"] if kept["image_id"] == image_id else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def keep(image_id: str, flags: list[dict[str, Any]]) -> None:
    """A folder that cannot be written is no reason to fail: the image is asked again then."""
    with contextlib.suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        known = json.dumps({"image_id": image_id, "flags": flags})
        durable_files.write_whole(folder() / f"{_name(image_id)}.json", known)


def _name(image_id: str) -> str:
    return image_id.rpartition(":")[2]


def hosts_to_ask(plan: Mapping[str, Any], hosts: Iterable[str], hostvars: Mapping[str, Any]) -> str:
    """The pattern of the hosts to ask: one for each image that nobody knows, with preheat's Python."""
    found: dict[str, str] = {}
    for host in hosts if plan and plan.get("check_flags", True) else []:
        facts = (hostvars[host].get("gpu_host_preflight_result") or {}).get("facts") or {}
        image_id = _image_id(plan, facts)
        if image_id and image_id not in found and facts.get("venv_exists") and not load(image_id):
            found[image_id] = host
    return ",".join(found.values()) or NO_HOST


def answers(
    plan: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]], asked: Mapping[str, Mapping[str, Any] | None]
) -> dict[str, Any]:
    """What each host's image accepts, ``{flags, reason}``; None where nobody knows it. New answers are kept.

    ``facts`` of host_preflight and ``asked``, the answers of sglang_flag_info, are by host. Hosts of whose image
    nothing is known, as they lack it still, count as having the one that others have by its name.
    """
    said = [answer for answer in asked.values() if answer]
    known = {answer["image_id"]: answer for answer in said if answer.get("image_id")}
    for image_id, answer in known.items():
        if answer["flags"]:
            keep(image_id, answer["flags"])
    ids = {host: _image_id(plan, found) for host, found in facts.items()}
    for image_id in {*ids.values()} - {None, *known}:
        if flags := load(str(image_id)):
            known[str(image_id)] = {"flags": flags}
    other = next(iter([*known.values(), *said]), None)
    return {host: known.get(str(image_id), other) for host, image_id in ids.items()}


def _image_id(plan: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
    return ((facts.get("images") or {}).get(plan["image"]) or {}).get("id")
