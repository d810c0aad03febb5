# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: check every variable of a sweep and plan it, before any host is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.preheat.fleet.plugins.module_utils import hf_tree
from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    memory_fit,
    study_sharing,
    sweep_owner,
    sweep_plan,
    sweep_presets,
    sweep_search,
    sweep_space,
    sweep_workloads,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, problem


class ActionModule(ActionBase):
    """Returns ``plan`` and ``problems``; never fails for what it finds."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            {
                "hosts": {"type": "list", "elements": "str", "required": True},
                "sweep": {"type": "bool", "default": True},
            }
        )
        variables = task_vars or {}
        hostvars = variables["hostvars"]
        problems = sweep_plan.unknown_variables(
            {"": variables, **{host: hostvars[host] for host in args["hosts"] if host in hostvars}}
        )
        # A variable given for everything is one problem, not one for each host as well.
        everywhere = {item["variable"] for item in problems if not item["host"]}
        problems = [item for item in problems if not item["host"] or item["variable"] not in everywhere]
        if not args["hosts"]:
            problems.append(
                problem("gpu_hosts", [], "has no hosts.", "Put the GPU hosts into the inventory's group gpu_hosts.")
            )
        if not args["sweep"]:
            return {"changed": False, "plan": {}, "problems": problems}
        problems += sweep_plan.missing_libraries()
        options = sweep_plan.role_options("sweep")
        given = {name: self._templar.template(variables[name]) for name in options if name in variables}
        coerced, mistyped = sweep_plan.check_types(options, given)
        problems += mistyped
        plan: dict[str, Any] = {}
        if not mistyped:
            sweep = {name.removeprefix("sweep_"): value for name, value in coerced.items()}
            problems += sweep_plan.check_sweep(sweep)
            if not problems:
                plan, more = self._plan(sweep, hostvars[args["hosts"][0]])
                problems += more
        return {"changed": False, "plan": plan, "problems": problems}

    def _plan(self, sweep: dict[str, Any], host_variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        server, search = sweep_presets.resolve(sweep["server"])[0], sweep["search"]
        workloads = sweep_workloads.resolved(sweep["workloads"], sweep["slo"])
        sweep = {**sweep, "server": server, "workloads": workloads}
        gpus = sweep_space.gpu_counts(server)
        plan = {
            **{
                key: sweep[key]
                for key in ("name", "model", "image", "server", "workloads", "search", "objective", "slo")
            },
            "host_failures_max": sweep["host_failures_max"],
            "check_flags": sweep["check_flags"],
            "storage": sweep["storage"] or None,
            "environment": server.get("environment") or {},
            "workload_points": sweep_plan.repeated(
                sweep_workloads.workload_points(sweep["workloads"]), search["repeats"]
            ),
            "gpus_least": gpus[0],
            "gpus_most": gpus[-1],
            "points": search["trials"] or len(sweep_search.known_points(server, search)),
            "sweep_dir": str(Path(sweep["results_dir"]).expanduser().resolve() / sweep["name"]),
        }
        if not self._task.check_mode and (other := sweep_owner.other_owner(Path(plan["sweep_dir"]), plan["storage"])):
            return {}, [problem("sweep_name", plan["name"], other, sweep_owner.OWNED_REMEDY)]
        earlier_file = Path(plan["sweep_dir"]) / "sweep.json"
        earlier = json.loads(earlier_file.read_text()) if earlier_file.is_file() else None
        problems = sweep_plan.same_sweep(plan, earlier) if earlier else []
        if plan["storage"] and not problems:
            try:
                earlier = study_sharing.earlier_plan(plan["storage"], plan["name"]) or earlier
            except sweep_owner.StudyError as exc:
                remedy = "See whether it runs there and lets this user in; the password is in PGPASSWORD or ~/.pgpass."
                return {}, [problem("sweep_storage", plan["storage"], str(exc), remedy)]
            problems = sweep_plan.same_sweep(plan, earlier) if earlier else []
        if problems:
            return {}, problems
        unresolved = {"commit": plan["model"]["revision"], "files": [], "bytes_total": 0, "gpu_memory_bytes": 0,
                      "model_shape": None}  # fmt: skip
        # A sweep that was begun stays on the commit it was begun with.
        plan.update({key: earlier.get(key) for key in unresolved} if earlier else unresolved)
        if not earlier:
            problems += self._resolve(plan, host_variables)
        return plan, problems

    def _resolve(self, plan: dict[str, Any], host_variables: Mapping[str, Any]) -> list[Problem]:
        """Pin the commit and learn the size, with one look from the controller at the Hub that the hosts use."""
        model = plan["model"]
        endpoint, token = (host_variables.get(name) or None for name in ("model_cache_endpoint", "model_cache_token"))
        try:
            manifest = hf_tree.resolve(
                repo_id=model["repo_id"],
                revision=model["revision"],
                endpoint=endpoint,
                token=token,
                allow_patterns=model["allow_patterns"],
                ignore_patterns=model["ignore_patterns"],
                allow_pickle=model["allow_pickle"],
            )
        except hf_tree.HubError as exc:
            if hf_tree.COMMIT.fullmatch(model["revision"]):
                return []  # hosts that hold this commit need no Hub
            return [problem("sweep_model", model, exc.message, exc.remedy)]
        # The hash of a file is the name of its blob in a cache.
        files = [{**file, "etag": file.get("sha256") or file["git_sha1"]} for file in manifest["files"]]
        plan.update(commit=manifest["commit"], files=files, bytes_total=manifest["bytes_total"])
        config = hf_tree.config(model["repo_id"], manifest["commit"], endpoint=endpoint, token=token)
        plan["model_shape"] = memory_fit.shape_of(config) if config else None
        # The least that the weights alone take of each GPU when they are spread as far as any point spreads them.
        plan["gpu_memory_bytes"] = plan["bytes_total"] // max(1, plan["gpus_most"])
        return []
