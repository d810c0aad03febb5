# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hf_model returns. Pure."""

from __future__ import annotations

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import DAMAGED
from ansible_collections.preheat.fleet.plugins.module_utils.hf_plan import Done, Plan
from ansible_collections.preheat.fleet.plugins.module_utils.hf_remove import Removal


def of_snapshot(plan: Plan, done: Done, snapshot_path) -> dict:
    all_hashed = plan.hashed or all(file.etag in done.verified for file in plan.files)
    sources = [name for name, size in (("hub", done.bytes_fetched), ("seed", done.bytes_from_seed)) if size]
    rate = done.bytes_fetched / 1e6 / done.seconds if done.bytes_fetched and done.seconds else 0.0
    return {
        "changed": plan.changed,
        "commit": plan.commit,
        "snapshot_path": str(snapshot_path),
        "files": [{**file.summary(), "found": plan.states[file.path]} for file in plan.files],
        "repaired": [file.path for file in plan.files if plan.states[file.path] == DAMAGED],
        "leftovers": plan.leftovers,
        "bytes_total": plan.bytes_total,
        "bytes_to_fetch": plan.bytes_to_fetch,
        "bytes_resumed": plan.bytes_resumed,
        "bytes_fetched": done.bytes_fetched,
        "bytes_in_seed": plan.bytes_in_seed,
        "bytes_from_seed": done.bytes_from_seed,
        "mb_per_second": round(rate, 1),
        "source": "+".join(sources) or "cache",
        "verified": "hash" if all_hashed else "size",
        "checked_against": plan.origin,
        "warnings": plan.warnings,
        "diff": _difference(plan),
    }


def _difference(plan: Plan) -> dict:
    todo = sorted(plan.to_do, key=lambda file: file.path)
    before = {"commit": plan.commit, "files": {file.path: plan.states[file.path] for file in todo}}
    after = {"commit": plan.commit, "files": {file.path: file.etag for file in todo}}
    if plan.ref:
        before["refs"] = {plan.ref: plan.ref_before}
        after["refs"] = {plan.ref: plan.commit}
    if plan.leftovers:
        before["leftovers"] = plan.leftovers
        after["leftovers"] = []
    return {"before": before, "after": after}


def of_removal(removal: Removal) -> dict:
    return {
        "changed": bool(removal.paths),
        "removed": {"commits": removal.commits, "refs": removal.refs, "bytes_freed": removal.bytes_freed},
        "diff": {"before": {"commits": removal.commits, "refs": removal.refs}, "after": {"commits": [], "refs": []}},
    }
