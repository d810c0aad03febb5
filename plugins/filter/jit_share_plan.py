# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plugin: who gives compiled kernels to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import jit_share

DOCUMENTATION = r"""
name: jit_share_plan
short_description: Who gives compiled kernels to whom
version_added: "0.1.0"
author:
  - The preheat maintainers (@preheat)
description:
  - For each folder of compiled kernels, the host that holds the most of it, and those that could use it and hold less.
positional: _input
options:
  _input:
    description: What M(preheat.fleet.sglang_jit_cache) returned, by host. Hosts that returned nothing are left out.
    type: dict
    required: true
"""

EXAMPLES = r"""
plan: "{{ {'gpu1': of_gpu1, 'gpu2': of_gpu2} | preheat.fleet.jit_share_plan }}"
"""

RETURN = r"""
_value:
  description: A list of C({key, seed, receivers, bytes}).
  type: list
  elements: dict
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"jit_share_plan": jit_share.plan}
