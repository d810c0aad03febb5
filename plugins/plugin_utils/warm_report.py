# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all hosts of a play hold: rows of a table, the table, and the same as a document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.preflight_findings import gigabytes

Row = dict[str, Any]

SCHEMA_VERSION = 1
COLUMNS = ("host", "model", "state", "from Hub", "from peers", "seconds", "MB/s", "verified")
NUMBERS = ("from Hub", "from peers", "seconds", "MB/s")
LOST = "This host failed before the models came to their turn, or was unreachable; see above."


def rows(results: Mapping[str, list[dict[str, Any]] | None], failures: Mapping[str, str], check: bool) -> list[Row]:
    """One row for each host and model, hosts in the given order.

    results: what hf_model or hf_swarm returned for each model; None for a host that was lost, empty for one that did
    not come to it (then failures says why).
    """
    found = []
    for host, held in results.items():
        if not held:
            message = LOST if held is None else failures.get(host) or LOST
            found.append(_row(host, {}, "failed", _error("lost" if held is None else "not_begun", message)))
        for result in held or []:
            failed = bool(result.get("failed"))
            error = _error(result.get("reason", "module_failed"), result.get("msg", ""), result.get("remedy", ""))
            state = "failed" if failed else _state(result, check)
            found.append(_row(host, result, state, error if failed else None))
    return found


def _error(reason: str, message: str, remedy: str = "") -> dict[str, str]:
    return {"reason": reason, "message": message, "remedy": remedy}


def _state(result: dict[str, Any], check: bool) -> str:
    """complete (nothing was to be done), fetched, repaired or linked; in check mode what would be done."""
    names = ("damaged", "to fetch", "to link") if check else ("repaired", "fetched", "linked")
    does = (result.get("repaired"), result.get("bytes_to_fetch"), result.get("changed"))
    return next((name for name, is_so in zip(names, does, strict=True) if is_so), "complete")


def _row(host: str, result: dict[str, Any], state: str, error: dict[str, str] | None) -> Row:
    item = result.get("__model_cache_model") or {}
    return {
        "host": host,
        "repo_id": result.get("repo_id") or item.get("repo_id"),
        "revision": result.get("revision") or item.get("revision") or ("main" if item else None),
        "commit": result.get("commit"),
        "state": state,
        "source": result.get("source"),
        "bytes_total": result.get("bytes_total", 0),
        "bytes_to_fetch": result.get("bytes_to_fetch", 0),
        "bytes_from_hub": result.get("bytes_from_hub", result.get("bytes_fetched", 0)),
        "bytes_from_peers": result.get("bytes_from_peers", 0),
        "bytes_from_seed": result.get("bytes_from_seed", 0),
        "seconds": result.get("seconds"),
        "mb_per_second": result.get("mb_per_second"),
        "verified": result.get("verified"),
        "repaired": list(result.get("repaired", [])),
        "error": error,
    }


def table(found: list[Row]) -> list[str]:
    """Lines as wide as their longest cells; numbers to the right."""
    cells = [dict(zip(COLUMNS, COLUMNS, strict=True)), *map(_cells, found)]
    widths = {name: max(len(line[name]) for line in cells) for name in COLUMNS}
    return [
        "  ".join(
            line[name].rjust(widths[name]) if name in NUMBERS else line[name].ljust(widths[name]) for name in COLUMNS
        ).rstrip()
        for line in cells
    ]


def _cells(row: Row) -> dict[str, str]:
    model = f"{row['repo_id']}@{row['revision']}" if row["repo_id"] else "-"
    commit = f" {row['commit'][:12]}" if row["commit"] and row["commit"] != row["revision"] else ""
    state = row["state"]
    if row["error"]:
        state += f" ({row['error']['reason']})"
    elif state == "to fetch":
        state += f" {_size(row['bytes_to_fetch'])}"
    elif row["repaired"]:
        state += f" {', '.join(row['repaired'][:3])}" + (" ..." if len(row["repaired"]) > 3 else "")
    moved = row["state"] not in ("failed", "damaged", "to fetch", "to link")
    values = (
        row["host"],
        model + commit,
        state,
        _size(row["bytes_from_hub"]) if moved else "",
        _size(row["bytes_from_peers"]) if moved else "",
        f"{row['seconds']:.1f}" if moved and row["seconds"] is not None else "",
        f"{row['mb_per_second']:.1f}" if moved and row["mb_per_second"] else "",
        row["verified"] or "",
    )
    return dict(zip(COLUMNS, values, strict=True))


def _size(size_bytes: int) -> str:
    return gigabytes(size_bytes) if size_bytes else "0"


def failed_hosts(found: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["host"] for row in found if row["error"]))


def document(found: list[Row], way: str, end: float) -> dict[str, Any]:
    """What is written for programs. end: epoch seconds on the controller."""
    moved = {name: sum(row[name] for row in found) for name in ("bytes_from_hub", "bytes_from_peers")}
    return {
        "schema_version": SCHEMA_VERSION,
        "end": round(end, 3),
        "way": way,
        **moved,
        "failed_hosts": failed_hosts(found),
        "rows": found,
    }
