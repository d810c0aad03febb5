#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin run_trials; it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_trials
short_description: Run the trials of a sweep on one slot
version_added: 0.1.0
description:
  - Claims trials until none is left; several slots share the queue, with a storage also those of several controllers.
  - Stands by while another controller drives the slot.
  - For each trial makes sure of the snapshot, launches a server, runs every workload, records the results durably and
    removes the container.
  - A trial that fails is recorded with its cause. When the host is lost the trial goes back into the queue.
  - Replaces C(status.json) and C(status.txt) in the folder of results at every change, see C(docs/status.schema.json);
    says on the terminal how the sweep goes, after trials at most every 5 seconds and else every minute, when something
    changes. Up to eight slots say every phase, more of them only with C(-v).
  - The token for the Hub is taken from the variable C(model_cache_token), so that no verbose run shows it.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.controller
options:
  plan:
    description: The plan that M(preheat.fleet.preflight_verdict) returned.
    type: dict
    required: true
  slot:
    description: One of the plan's slots.
    type: dict
    required: true
  python:
    description: Python of the virtual environment on the host.
    type: str
    required: true
  docker_host:
    description: Docker endpoint on the host.
    type: str
    required: true
  cache_dir:
    description: The host's Hub cache.
    type: str
    required: true
  jit_cache_dir:
    description: Root of the JIT caches on the host.
    type: str
  dataset_dir:
    description: The host's folder of dataset files, each named by its hash (SHA-256).
    type: str
  endpoint:
    description: Hub endpoint.
    type: str
  gpu_access:
    description: How containers get their GPUs, see M(preheat.fleet.sglang_server).
    type: str
    default: auto
  facts_file:
    description: File on the hosts in which launches are noted, see M(preheat.fleet.sglang_server).
    type: str
  weight_cache:
    description: Keep the weights in GPU memory between trials, see M(preheat.fleet.sglang_server).
    type: bool
    default: false
  preload:
    description: Bring the weights into the page cache before each launch, see M(preheat.fleet.page_cache).
    type: bool
    default: false
  preload_budget_bytes:
    description: How many bytes of them at most; V(0) for what the host can spare.
    type: int
    default: 0
  ready_timeout_seconds:
    description: How long a launch may take.
    type: int
    required: true
attributes:
  check_mode:
    support: none
    description: Does not run in check mode.
"""

EXAMPLES = r"""
- name: Run trials until none is left
  preheat.fleet.run_trials:
    plan: "{{ verdict.plan }}"
    slot: "{{ sweep_slot }}"
    python: /opt/preheat/venv/bin/python
    docker_host: unix:///var/run/docker.sock
    cache_dir: ~/.cache/huggingface/hub
    ready_timeout_seconds: 1800
  delegate_to: gpu1
"""

RETURN = r"""
trials:
  description: What this slot ran, C(number) and C(status) of each.
  returned: success
  type: list
  elements: dict
  sample: [{number: 0, status: complete}]
"""
