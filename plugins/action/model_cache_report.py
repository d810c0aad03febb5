# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: one table of what all hosts of the play hold, and the same as a file on the controller."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.preheat.fleet.plugins.plugin_utils import durable_files, warm_report

ARGUMENTS: dict[str, Any] = {
    "way": {"type": "str", "choices": ["hub", "swarm"], "required": True},
    "report_file": {"type": "path"},
}


class ActionModule(ActionBase):
    """Reads what the role model_cache has left in the variables of the hosts."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(ARGUMENTS)
        results, failures = self._gather(task_vars or {})
        rows = warm_report.rows(results, failures, self._task.check_mode)
        failed = warm_report.failed_hosts(rows)
        lines = ["", *warm_report.table(rows)]
        lines += [f"{row['host']}: {row['error']['message']}" for row in rows if row["error"]]
        lines += [f"Repeat for what failed: the same command with --limit {','.join(failed)}"] if failed else []
        Display().display("\n".join(lines))
        path = args["report_file"]
        if path and not self._task.check_mode:
            path = self._write(path, warm_report.document(rows, args["way"], time.time()))
        return {"changed": False, "rows": rows, "failed_hosts": failed, "report_file": path or None}

    def _gather(self, variables: dict[str, Any]) -> tuple[dict[str, list[dict[str, Any]] | None], dict[str, str]]:
        """What every host of the play has; of a batch (serial), the hosts that have had their turn."""
        results: dict[str, list[dict[str, Any]] | None] = {}
        failures: dict[str, str] = {}
        for host in variables["ansible_play_hosts_all"]:
            known = variables["hostvars"][host]
            if host in variables["ansible_play_hosts"]:
                if "_model_cache_held" in known:
                    results[host] = known["_model_cache_held"]["results"]
                    failures[host] = known["_model_cache_held"].get("failure", "")
            else:
                results[host] = None
        return results, failures

    def _write(self, path: str, document: dict[str, Any]) -> str:
        target = Path(path).expanduser().absolute()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            durable_files.write_durably(target, json.dumps(document, indent=1) + "\n")
        except OSError as error:
            raise AnsibleActionFail(
                f"model_cache_report_file '{path}' cannot be written: {error}. Name another file, or '' for none."
            ) from error
        return str(target)
