#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Keep what preheat did on a host as a local fact of Ansible
description:
  - Notes the last warm-up and the state of the Hub cache in a file of the host that any playbook which gathers facts
    reads as C(ansible_local.preheat). M(preheat.fleet.sglang_server) notes its launches there.
  - The file lies in preheat's own folder; in Ansible's folder of facts, which belongs to root, lies a link to it. So
    root is needed once.
  - Facts are good to have and nothing depends on them, so what cannot be written is a notice, never a failure.
version_added: "0.1.0"
author:
  - The preheat maintainers (@preheat)
attributes:
  check_mode:
    support: full
    description: Writes nothing.
  diff_mode:
    support: none
    description: Facts are no configuration.
  idempotent:
    support: none
    description: Facts have times. They do not count as a change; the link does.
options:
  path:
    description: The file.
    type: path
    required: true
  link_dir:
    description:
      - Folder in which a link to it is made; Ansible reads C(/etc/ansible/facts.d) unless it is told otherwise.
      - Without it there is no link.
    type: path
  warm:
    description:
      - What M(preheat.fleet.hf_model) or M(preheat.fleet.hf_swarm) answered, one entry for each model. Of each is noted
        what RV(facts) names.
    type: list
    elements: dict
  cache_dir:
    description: Hub cache whose state is noted.
    type: path
  budget_bytes:
    description: Its budget.
    type: bytes
    default: 0
seealso:
  - module: preheat.fleet.hf_cache_info
"""

EXAMPLES = r"""
- name: Note what is in the cache
  preheat.fleet.host_facts:
    path: /opt/preheat/preheat.fact
    link_dir: /etc/ansible/facts.d
    cache_dir: ~/.cache/huggingface/hub

- name: Read it, in any playbook
  ansible.builtin.setup:
    gather_subset: [local]

- name: Show when the host was last warmed
  ansible.builtin.debug:
    var: ansible_facts.ansible_local.preheat.warm
"""

RETURN = r"""
facts:
  description:
    - What is in the file. C(warm) has its C(time) and C(models) (with C(repo_id), C(commit), C(source), bytes, seconds,
      C(mb_per_second), C(verified)); C(launches) are the last five, newest first, with C(phases) in seconds; C(cache)
      is the state of the Hub cache. All times are epoch seconds of the host.
  returned: always
  type: dict
  sample:
    schema_version: 1
    warm:
      time: 1793000000.0
      models:
        - repo_id: Qwen/Qwen3-8B
          commit: b968826d9c46dd6066d109eabc6255188de91218
          source: swarm
          bytes_total: 16397461110
          seconds: 190.2
          mb_per_second: 86.2
          verified: hash
notice:
  description: Why the file could not be written, or the link not be made; empty if both could.
  returned: always
  type: str
  sample: ""
linked:
  description: Whether Ansible finds the file.
  returned: always
  type: bool
  sample: true
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import local_facts
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import free_bytes
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_inventory import inventory

# What is noted of a model that is held.
MODEL = (
    "repo_id", "revision", "commit", "source", "bytes_total", "bytes_fetched", "bytes_from_hub", "bytes_from_peers",
    "seconds", "mb_per_second", "verified",
)  # fmt: skip


def sections(params: dict, now: float) -> dict:
    """What is to be noted. Raises OSError where the cache may not be read."""
    found: dict = {}
    if params["warm"] is not None:
        models = [{key: model[key] for key in MODEL if key in model} for model in params["warm"]]
        found["warm"] = {"time": round(now, 3), "models": models}
    if params["cache_dir"]:
        repos = inventory(params["cache_dir"], Selection())
        free = free_bytes(params["cache_dir"])
        found["cache"] = local_facts.cache_state(params["cache_dir"], repos, free, now)
        found["cache"]["budget_bytes"] = params["budget_bytes"]
    return found


def keep(params: dict, check_mode: bool) -> dict:
    path, notices, changed, linked = params["path"], [], False, not params["link_dir"]
    try:
        noted = sections(params, time.time())
        if not check_mode and (noted or not os.path.exists(path)):
            local_facts.note(path, lambda facts: {**facts, **noted})
    except OSError as error:
        notices.append(f"The facts were not written: {error}.")
    try:
        if params["link_dir"]:
            changed = local_facts.link(path, params["link_dir"], check_mode)
            linked = True
    except OSError as error:
        notices.append(f"ansible_local.preheat does not find the facts in {path}: {error}.")
    return {"changed": changed, "facts": local_facts.read(path), "linked": linked, "notice": " ".join(notices)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "link_dir": {"type": "path"},
            "warm": {"type": "list", "elements": "dict"},
            "cache_dir": {"type": "path"},
            "budget_bytes": {"type": "bytes", "default": 0},
        },
        supports_check_mode=True,
    )
    module.exit_json(**keep(module.params, module.check_mode))


if __name__ == "__main__":
    main()
