#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin sweep_plan; it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sweep_plan
short_description: Check every variable of a sweep and plan it
version_added: 0.1.0
description:
  - Checks the variables of all roles of preheat for unknown names, and those of the sweep for types and rules.
  - Pins the model to a commit, with one look at the Hub, and expands workloads.
  - Never fails for what it finds; M(preheat.fleet.preflight_verdict) does, together with what the hosts reported.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.controller
options:
  hosts:
    description: Inventory hosts whose variables are checked for unknown names.
    type: list
    elements: str
    required: true
  sweep:
    description: Whether a sweep is wanted; otherwise only the names of variables are checked.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Changes nothing.
"""

EXAMPLES = r"""
- name: Plan the sweep
  preheat.fleet.sweep_plan:
    hosts: "{{ groups['gpu_hosts'] }}"
  register: plan
"""

RETURN = r"""
plan:
  description: The sweep with its commit, files, workload points and folder of results; empty if there are problems.
  returned: always
  type: dict
  sample: {name: demo, points: 4, gpus_most: 1}
problems:
  description: What is wrong, each with C(host), C(variable), C(value), C(message) and C(remedy).
  returned: always
  type: list
  elements: dict
  sample: []
"""
