# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plugin: which hosts are asked for the flags of their image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import image_flags

DOCUMENTATION = r"""
name: hosts_to_ask
short_description: Which hosts are asked for the flags of their image
version_added: "0.1.0"
author:
  - The preheat maintainers (@preheat)
description:
  - One host for each image whose flags the controller does not know yet, of those that M(preheat.fleet.host_preflight)
    found to have the image and preheat's Python.
positional: _input, hosts, hostvars
options:
  _input:
    description: The plan of a sweep; an empty one asks nobody.
    type: dict
    required: true
  hosts:
    description: The hosts of the play.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's C(hostvars), with C(gpu_host_preflight_result) of each host.
    type: dict
    required: true
"""

EXAMPLES = r"""
pattern: "{{ plan | preheat.fleet.hosts_to_ask(groups['gpu_hosts'], hostvars) }}"
"""

RETURN = r"""
_value:
  description: A pattern for the C(hosts) of a play; one that matches no host if there is nobody to ask.
  type: str
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"hosts_to_ask": image_flags.hosts_to_ask}
