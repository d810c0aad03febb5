#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: page_cache
short_description: A model's weights in a host's page cache, so that the next launch reads them from RAM
version_added: "0.1.0"
description:
  - Reads the weights of a model that a server would load, with a few readers and large reads, and says how much of them
    was in RAM before and after. What is resident already is not read again.
  - Nothing is pinned. The kernel drops page cache when programs need memory, so this is of use shortly before a launch.
  - No network, and no Python library beyond the standard one.
author:
  - The preheat maintainers (@preheat)
attributes:
  check_mode:
    support: full
    description: Says what would be read. A model that is not there yet counts as if it had been fetched.
  diff_mode:
    support: none
    description: There is no text to compare.
  idempotent:
    support: full
    description: Weights that are resident are left alone.
options:
  path:
    description:
      - Directory of the model, such as RV(preheat.fleet.hf_model#module:snapshot_path). Links are followed.
    type: path
    required: true
  budget_bytes:
    description:
      - How many bytes of these weights may lie in RAM; what is more is left on the disk, with a warning.
      - V(0) takes what is available (C(MemAvailable), and what is left in the cgroups that this process is in and that
        have a limit), less a tenth of the host's memory, which is 2 GiB at least.
    type: int
    default: 0
  readers:
    description: How many reads are under way at the same time.
    type: int
    default: 4
seealso:
  - module: preheat.fleet.hf_model
  - module: preheat.fleet.sglang_server
"""

EXAMPLES = r"""
- name: Hold a model
  preheat.fleet.hf_model:
    repo_id: Qwen/Qwen3-8B
  register: model

- name: Bring its weights into RAM, 64 GiB of them at most
  preheat.fleet.page_cache:
    path: "{{ model.snapshot_path }}"
    budget_bytes: "{{ '64 GiB' | human_to_bytes }}"
"""

RETURN = r"""
files:
  description: How many files the weights are in.
  returned: success
  type: int
  sample: 5
bytes_total:
  description: Their size.
  returned: success
  type: int
  sample: 16381470720
budget_bytes:
  description: How many of these bytes might lie in RAM.
  returned: success
  type: int
  sample: 191279493120
bytes_to_read:
  description: What was to be read, by budget and what was resident.
  returned: success
  type: int
  sample: 12012345344
bytes_read:
  description: What was read from the disk, as far as the kernel tells; 0 in check mode.
  returned: success
  type: int
  sample: 12012345344
bytes_left:
  description: What the budget left on the disk.
  returned: success
  type: int
  sample: 0
resident_fraction_before:
  description: The share of the weights that was in RAM, 0 to 1; null where the kernel does not tell this user.
  returned: success
  type: float
  sample: 0.27
resident_fraction_after:
  description: The same afterwards. In check mode as it was before.
  returned: success
  type: float
  sample: 1.0
seconds:
  description: How long reading took.
  returned: success
  type: float
  sample: 5.6
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils.memory_budget import file_budget_bytes
from ansible_collections.preheat.fleet.plugins.module_utils.page_cache_preload import Preload
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_model import weight_files


def argument_spec():
    return {
        "path": {"type": "path", "required": True},
        "budget_bytes": {"type": "int", "default": 0},
        "readers": {"type": "int", "default": 4},
    }


def check(params):
    """What is wrong with the arguments, or None."""
    for name, least in (("budget_bytes", 0), ("readers", 1)):
        if params[name] < least:
            return f"{name} is {params[name]}: give {least} or more."
    return None


def preload(params, check_mode, warn):
    """The result of the module; ValueError where there is nothing to read."""
    if not (os.path.isdir(params["path"]) or check_mode):
        raise ValueError(
            f"path '{params['path']}' is no directory. Fetch the model with preheat.fleet.hf_model (playbook warm.yml) "
            "and give its snapshot_path."
        )
    paths = weight_files(params["path"])
    if not paths and not check_mode:
        raise ValueError(
            f"path '{params['path']}' holds no weights: give the directory of a model, as a server loads it."
        )
    budget = params["budget_bytes"] or file_budget_bytes()
    plan = Preload(paths, budget)
    before = plan.fraction(plan.resident_bytes_before)
    if plan.bytes_left:
        warn(
            f"{plan.bytes_left} of the {plan.bytes_total} bytes of weights in {params['path']} stay on the disk: "
            f"budget_bytes is {budget}"
            + (", all that is given." if params["budget_bytes"] else ", what the host can spare.")
        )
    result = {
        "changed": bool(plan.bytes_to_read) or not paths,
        "files": len(paths),
        "bytes_total": plan.bytes_total,
        "budget_bytes": budget,
        "bytes_to_read": plan.bytes_to_read,
        "bytes_read": 0,
        "bytes_left": plan.bytes_left,
        "resident_fraction_before": before,
        "resident_fraction_after": before,
        "seconds": 0.0,
    }
    if plan.bytes_to_read and not check_mode:
        result.update(plan.run(params["readers"]))
    return result


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    problem = check(module.params)
    if problem:
        module.fail_json(msg=problem)
    try:
        module.exit_json(**preload(module.params, module.check_mode, module.warn))
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
