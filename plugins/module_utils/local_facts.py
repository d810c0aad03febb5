# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preheat did on this host, in a file that Ansible reads as a local fact (C(ansible_local.preheat)).

The file lies where preheat may write; only a link to it lies in Ansible's folder of facts, which is root's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid

SCHEMA_VERSION = 1
LAUNCHES = 5
NAME = "preheat.fact"


def note(path: str, change) -> None:
    """Replace the facts by what change(facts) makes of them. Raises OSError.

    One writer at a time; who reads sees the old ones or the new. A file that cannot be understood is begun anew: it
    holds nothing that cannot be measured again.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        facts = {**change(read(path)), "schema_version": SCHEMA_VERSION}
        temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with open(temporary, "w", encoding="utf-8") as stream:
                json.dump(facts, stream, indent=1, sort_keys=True)
                stream.write("\n")
            # Ansible would run it if it were executable.
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def read(path: str) -> dict:
    try:
        with open(path, encoding="utf-8") as stream:
            facts = json.load(stream)
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) and facts.get("schema_version") == SCHEMA_VERSION else {}


def link(path: str, folder: str, check_mode: bool = False) -> bool:
    """Have Ansible's folder of facts point to the file; whether that changed something. Raises OSError."""
    name = os.path.join(folder, NAME)
    if os.path.realpath(name) == os.path.realpath(path):
        return False
    if not check_mode:
        os.makedirs(folder, exist_ok=True)
        temporary = f"{name}.{uuid.uuid4().hex[:8]}.tmp"
        os.symlink(path, temporary)
        os.replace(temporary, name)
    return True


def with_launch(facts: dict, report: dict, start: float) -> dict:
    """The facts with what sglang_server reports of a launch; a launch that is waited for in slices is one.

    start: epoch seconds of this host.
    """
    launches = [entry for entry in facts.get("launches") or [] if isinstance(entry, dict)]
    container, model = report.get("container") or {}, report.get("model") or {}
    found = {
        "container": container.get("name"),
        "container_id": container.get("id"),
        "image": container.get("image"),
        "image_digest": container.get("image_digest"),
        "repo_id": model.get("repo_id"),
        "commit": model.get("commit"),
        "ready": bool(report.get("ready")),
        "error_class": (report.get("error") or {}).get("class"),
    }
    earlier = next((entry for entry in launches if _is_same(entry, found)), {})
    phases = dict(earlier.get("phases") or {})
    now: dict[str, float] = {}
    for phase in report.get("phases") or []:
        now[phase["name"]] = round(now.get(phase["name"], 0.0) + phase["seconds"], 3)
    phases.update(now)
    entry = {
        **found,
        "start": earlier.get("start", round(start, 3)),
        "phases": phases,
        "seconds": round(sum(phases.values()), 3),
        "cache": {**(earlier.get("cache") or {}), **(report.get("cache") or {})},
    }
    others = [other for other in launches if other is not earlier]
    return {**facts, "launches": [entry, *others][:LAUNCHES]}


def _is_same(entry: dict, found: dict) -> bool:
    if found["container_id"]:
        return entry.get("container_id") == found["container_id"]
    # One that failed has no id any more; it is the one of its name that was not finished.
    return entry.get("container") == found["container"] and not entry.get("ready") and entry.get("error_class") is None


def cache_state(cache_dir: str, repos: list[dict], free_bytes: int, now: float) -> dict:
    """The facts about a Hub cache, from hf_inventory's answer."""
    return {
        "cache_dir": cache_dir,
        "time": round(now, 3),
        "size_bytes": sum(repo["size_bytes"] for repo in repos),
        "free_bytes": free_bytes,
        "repos": [
            {
                "repo_id": repo["repo_id"],
                "size_bytes": repo["size_bytes"],
                "last_used": repo["last_used"],
                "revisions": [
                    {name: revision[name] for name in ("commit", "refs", "complete")} for revision in repo["revisions"]
                ],
            }
            for repo in repos
        ],
    }
