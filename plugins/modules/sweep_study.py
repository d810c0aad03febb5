#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin sweep_study; it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sweep_study
short_description: Open a folder of results and queue the trials that are still to run
version_added: 0.1.0
description:
  - Builds the study (Optuna's, in a journal or in PostgreSQL) from the records of finished trials.
  - Refuses while another controller runs the same sweep. With a storage in the plan it takes part instead.
  - Removes the C(status.json) and C(status.txt) of an earlier run.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.controller
options:
  plan:
    description: The plan that M(preheat.fleet.preflight_verdict) returned.
    type: dict
    required: true
  retry_failed:
    description: Queue trials again that failed in an earlier run.
    type: bool
    default: false
attributes:
  check_mode:
    support: none
    description: Does not run in check mode.
"""

EXAMPLES = r"""
- name: Queue the trials
  preheat.fleet.sweep_study:
    plan: "{{ verdict.plan }}"
  register: study
"""

RETURN = r"""
waiting:
  description: How many trials are to run, those included that the sampler will still ask for.
  returned: success
  type: int
  sample: 4
recorded:
  description: How many trials have their record.
  returned: success
  type: int
  sample: 0
sweep_dir:
  description: The folder of results.
  returned: success
  type: str
  sample: /home/ops/results/demo
"""
