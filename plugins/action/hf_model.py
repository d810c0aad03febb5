# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: hf_model, and lines that say how a long download goes.

A module cannot print while it runs. So a download of some size runs in the background of the host, as one of Ansible's
own asynchronous jobs, and is asked about. What is small, or there already, costs one call of the module as before.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.preheat.fleet.plugins.plugin_utils.progress import Meter, interval_seconds

PROGRESS_BYTES = 64 << 20
POLL_SECONDS = 2.0
LIMIT_SECONDS = 7 * 86400  # a job has to have one
LOST_SECONDS = 120.0  # how long the host may not answer, while it goes on by itself
JOB_KEYS = ("ansible_job_id", "started", "finished", "results_file", "stdout", "stderr", "stdout_lines", "stderr_lines")


class ActionModule(ActionBase):
    """Runs the module at once, or in the background."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        args = dict(self._task.args)
        if self._task.async_val:  # the task's author asks about it
            return self._module("hf_model", {**args, "progress_bytes": 0}, wrap_async=True)
        # Hashing what is there twice would take longer than what is seldom to be repaired.
        threshold = 0 if args.get("verify") == "full" else PROGRESS_BYTES
        result = self._module("hf_model", {"progress_bytes": threshold, **args})
        if not result.get("deferred"):
            return result
        return self._follow(args, result)

    def _module(self, name: str, args: dict[str, Any], **how: Any) -> dict[str, Any]:
        name = name if "." in name else f"preheat.fleet.{name}"
        return self._execute_module(module_name=name, module_args=args, task_vars=self._vars, **how)

    def _follow(self, args: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
        """Fetch in the background. plan: what the module found missing."""
        here = {"repo_id": plan["repo_id"], "cache_dir": plan["cache_dir"]}
        before = self._look(here)["size_bytes"]
        if "token_file" in plan:
            del args["token"]
            args["token_file"] = plan["token_file"]
        job = self._start({**args, "progress_bytes": 0})
        if "ansible_job_id" not in job:
            return job
        total, resumed = plan["bytes_to_fetch"], plan.get("bytes_resumed", 0)
        host = self._vars["inventory_hostname"]
        pause = interval_seconds(len(self._vars.get("ansible_play_batch") or [host]))
        meter, done = Meter(resumed), resumed
        said = answered = moved = time.monotonic()
        while True:
            time.sleep(POLL_SECONDS)
            try:
                status = self._job(job, "status")
                if status.get("finished") or status.get("failed"):
                    return self._ended(job, status, here)
                answered = time.monotonic()
                if answered - said < pause:
                    continue
                repo = self._look(here)
            except AnsibleConnectionFailure:
                if time.monotonic() - answered > LOST_SECONDS:
                    raise
                continue
            # Whatever was there is not counted; what was damaged has gone meanwhile.
            earlier, done = done, min(total, max(0, resumed + repo["size_bytes"] - before))
            said = time.monotonic()
            if repo["downloading"] or done != earlier:
                moved = said
            elif said - moved > LOST_SECONDS:
                return self._lost(here, "nothing downloads there any more")
            text = meter.line(done, total, "hub and seed" if plan.get("bytes_in_seed") else "hub")
            Display().display(f"{time.strftime('%H:%M:%S')} {host} {plan['repo_id']}: {text}")

    def _start(self, args: dict[str, Any]) -> dict[str, Any]:
        self._task.async_val = LIMIT_SECONDS
        try:
            return self._module("hf_model", args, wrap_async=True)
        finally:
            self._task.async_val = 0

    def _job(self, job: dict[str, Any], mode: str) -> dict[str, Any]:
        folder = self._remote_expand_user(self.get_shell_option("async_dir", default="~/.ansible_async"))
        args = {"jid": job["ansible_job_id"], "mode": mode, "_async_dir": folder}
        return self._module("ansible.legacy.async_status", args)

    def _ended(self, job: dict[str, Any], status: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
        if status.get("failed") and "could not find job" in str(status.get("msg")):
            return self._lost(here, str(status["msg"]))
        self._job(job, "cleanup")
        return {key: value for key, value in status.items() if key not in JOB_KEYS}

    def _lost(self, here: dict[str, Any], why: str) -> dict[str, Any]:
        remedy = "Run again: what has been fetched is kept, and the download goes on from there."
        message = f"The job that fetched {here['repo_id']} in the background is gone ({why}); did the host restart?"
        return {"failed": True, "reason": "job_lost", "remedy": remedy, "msg": f"{message} {remedy}", **here}

    def _look(self, here: dict[str, Any]) -> dict[str, Any]:
        """What the repo occupies on the host, parts of files included, and whether it is being downloaded."""
        repos = self._module("hf_cache_info", here).get("repos") or [{"size_bytes": 0, "downloading": False}]
        return repos[0]
