# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: open a sweep's folder of results and queue the trials that are still to run."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_status
from ansible_collections.preheat.fleet.plugins.plugin_utils.study_journal import open_study


class ActionModule(ActionBase):
    """Returns how many trials wait and how many are finished."""

    TRANSFERS_FILES = False
    _supports_check_mode = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            {"plan": {"type": "dict", "required": True}, "retry_failed": {"type": "bool", "default": False}}
        )
        plan = args["plan"]
        counts = open_study(plan, plan.pop("feasible"), plan.pop("infeasible"), args["retry_failed"])
        sweep_status.forget(plan["sweep_dir"])
        if counts["waiting"]:
            page = f"{plan['sweep_dir']}/{sweep_status.TEXT_FILE}"
            self._display.display(f"{counts['waiting']} trials wait. How it goes: watch cat {page}")
        return {"changed": bool(counts["waiting"]), **counts, "sweep_dir": plan["sweep_dir"]}
