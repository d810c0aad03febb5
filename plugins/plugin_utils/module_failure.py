# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module that an action plugin ran on a host said when it failed."""

from __future__ import annotations

from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import SwarmError


def swarm_error(result: dict[str, Any]) -> SwarmError:
    """The error of a module's result that failed. Of a crash, which has no message, the last line of its traceback."""
    trace = result.get("exception")
    trace = getattr(getattr(trace, "event", None), "formatted_traceback", trace)  # text before ansible-core 2.19
    details = str(trace or result.get("module_stderr") or result.get("module_stdout") or "").strip()
    crash = f"The module crashed: {details.splitlines()[-1].strip()}" if details else "The module said nothing"
    message = str(result.get("message") or result.get("msg") or crash)
    return SwarmError(result.get("reason", "module"), f"{message.rstrip('.')}.", result.get("remedy", ""), details)
