#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sweep_report
short_description: Build the report of a sweep from its results
description:
  - Reads the records of a sweep's trials and writes C(trials.csv), C(report.json), C(report.html), C(report.md) and, if
    a trial can win, C(best.yml) beside them. Nothing but the results is read, so that a report can be built again at
    any time.
  - C(report.html) is one file that needs no network. C(report.md) says the same in short, for a pull request.
    C(report.json) keeps to the schema in C(docs/report.schema.json).
  - With O(compare) it writes C(comparison.html), C(comparison.md) and C(comparison.json) into O(results_dir) instead.
  - C(best.yml) holds the variables with which C(serve.yml) deploys the best configuration. It is removed if no trial
    can win.
  - Trials are scored anew by the objective and the SLOs in C(sweep.json).
  - A record that is corrupt or of an unknown schema is an error that names the file; it is never skipped.
  - Runs on the controller.
version_added: "0.1.0"
author:
  - The preheat maintainers (@preheat)
attributes:
  action:
    support: full
    description: Has an action plugin and runs on the controller.
  check_mode:
    support: full
    description: Tells whether a file would change and writes none.
  diff_mode:
    support: none
    description: The files are told by their paths.
  idempotent:
    support: full
    description: The same results give the same files.
options:
  sweep_name:
    description: The sweep. Give this and O(results_dir), or O(sweep_dir), or O(compare).
    type: str
  results_dir:
    description: The controller's folder of results, with a folder for each sweep.
    type: path
  sweep_dir:
    description: The folder of the sweep's results.
    type: path
  compare:
    description: The sweeps to compare, each the name of a folder in O(results_dir). Nothing else is reported then.
    type: list
    elements: str
  savings:
    description: What the report computes the savings for. 0 is as measured, or as the report says where nothing was.
    type: dict
    default: {}
    suboptions:
      experiments:
        description: How many benchmarks of one configuration with one workload.
        type: int
        default: 50
      workloads:
        description: How many workloads share a launch.
        type: int
        default: 0
      hosts:
        description: How many hosts share the launches.
        type: int
        default: 0
      fetch_seconds:
        description: How long a host takes to fetch the weights.
        type: float
        default: 0
      benchmark_seconds:
        description: How long one benchmark takes.
        type: float
        default: 0
      hub_mb_per_second:
        description: The rate at which the weights would be fetched, where no fetch was measured.
        type: float
        default: 86
requirements:
  - altair >= 6 and vl-convert-python (on the controller)
seealso:
  - module: preheat.fleet.sglang_server
"""

EXAMPLES = r"""
- name: Build the report again
  preheat.fleet.sweep_report:
    results_dir: "{{ playbook_dir }}/results"
    sweep_name: qwen3-8b-h100
  delegate_to: localhost
  run_once: true

- name: Compare two sweeps
  preheat.fleet.sweep_report:
    results_dir: "{{ playbook_dir }}/results"
    compare: [qwen3-8b-h100, qwen3-8b-h200]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
report:
  description: Path of the page.
  returned: success
  type: str
  sample: /home/me/preheat/results/qwen3-8b-h100/report.html
comparison:
  description:
    - What is in C(comparison.json). C(comparable) is true if all sweeps have the same objective and workloads. Only
      then is C(ratio) there, the best value over that of the first sweep.
  returned: with O(compare)
  type: dict
  sample: {comparable: true, sweeps: [{sweep: a, value: 1392.9, ratio: 1.0}, {sweep: b, value: 1520.3, ratio: 1.09}]}
best:
  description: Path of the best configuration, or null if no trial can win.
  returned: without O(compare)
  type: str
  sample: /home/me/preheat/results/qwen3-8b-h100/best.yml
best_number:
  description: The number of the best trial, or null.
  returned: without O(compare)
  type: int
  sample: 3
best_params:
  description: The best trial's point of the search space, or null.
  returned: without O(compare)
  type: dict
  sample: {chunked_prefill_size: 8192}
objective:
  description: The objective, with the value of the best trial if there is one.
  returned: without O(compare)
  type: dict
  sample: {metric: output_tokens_per_second_per_gpu, direction: maximize, value: 1392.9}
counts:
  description: Trials by status, those that can win, and all.
  returned: without O(compare)
  type: dict
  sample: {complete: 6, failed: 2, pruned: 0, infeasible: 0, eligible: 5, total: 8}
trials_left:
  description: How many trials of the plan have no record yet.
  returned: without O(compare)
  type: int
  sample: 0
summary:
  description: The result in a few lines.
  returned: success
  type: list
  elements: str
  sample: ["sweep demo: 8 trials (6 complete, 2 failed)", "best: trial 3 (chunked_prefill_size=8192)"]
"""
