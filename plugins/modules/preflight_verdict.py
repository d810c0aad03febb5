#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin preflight_verdict; it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_verdict
short_description: Judge what the plan and the hosts reported
version_added: 0.1.0
description:
  - Fails with all problems of all hosts in one message, before anything is downloaded or launched.
  - Among them are parameters that the image's SGLang does not accept. What it does not accept of a preset is left out.
  - Otherwise puts points and slots into the plan, and prints what the sweep will cost.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.controller
options:
  plan:
    description: The plan that M(preheat.fleet.sweep_plan) returned.
    type: dict
    default: {}
  problems:
    description: The problems that M(preheat.fleet.sweep_plan) returned.
    type: list
    elements: dict
    default: []
  hosts:
    description: >-
      Inventory hosts; each has its report in C(gpu_host_preflight_result). Some were asked for the flags of their image
      (M(preheat.fleet.sglang_flag_info), in C(_sglang_server_flags)); answers are kept in C(~/.cache/preheat/flags).
    type: list
    elements: str
    required: true
  slot_gpus:
    description: GPUs of a slot; 0 for as many as the largest point needs and every host has.
    type: int
    default: 0
  cpu_slots_per_host:
    description: Servers side by side on a host when the sweep runs on CPUs.
    type: int
    default: 1
  exclusive_host:
    description: One slot on every host, so that no other trial of the sweep disturbs what is measured.
    type: bool
    default: false
  allow_unequal_gpus:
    description: Accept hosts whose GPUs have different names; without it they are a problem.
    type: bool
    default: false
  image_brought:
    description: Whether hosts have got the image since an earlier verdict, so that its flags could be asked for.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Changes nothing.
"""

EXAMPLES = r"""
- name: Judge
  preheat.fleet.preflight_verdict:
    plan: "{{ plan.plan }}"
    problems: "{{ plan.problems }}"
    hosts: "{{ groups['gpu_hosts'] }}"
"""

RETURN = r"""
plan:
  description: The plan with C(feasible) and C(infeasible) points, C(slots) and the number of C(launches).
  returned: success
  type: dict
  sample: {launches: 4, slot_gpus: 1}
unasked:
  description: Hosts of whose image nobody knows the flags, as no host has it together with preheat's Python.
  returned: success, with a plan
  type: list
  elements: str
  sample: []
forecast:
  description:
    - What the sweep will cost. Hours are those of the launches that are left, by past trials of the sweep, or of
      another one of the same model in the folder of results, or else by what C(assumptions) says.
  returned: success, with a plan
  type: dict
  sample:
    points: 4
    launches: 4
    recorded: 0
    workloads: 2
    workload_points: 3
    slots: 2
    hosts: 2
    infeasible: {}
    hours: 0.2
    cache_saves_hours: 0.1
    sharing_saves_hours: 0.05
    assumptions: []
"""
