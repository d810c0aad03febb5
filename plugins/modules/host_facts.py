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
    reads as C(ansible_local.preheat). M(preheat.fleet.sglang_server) notes its launches there, and
    M(preheat.fleet.hf_model) what it holds, if they are told the file.
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
      - Models that were noted before stay, as long as they are in O(cache_dir).
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
    - What is in the file. C(warm) has its C(time) and C(models) (with C(time), C(repo_id), C(commit), C(source), bytes,
      seconds, C(mb_per_second), C(verified)), the last one first; C(launches) are the last five, newest first, with
      C(phases) in seconds; C(cache) is the state of the Hub cache. All times are epoch seconds of the host.
  returned: always
  type: dict
  sample:
    schema_version: 1
    warm:
      time: 1793000000.0
      models:
        - time: 1793000000.0
          repo_id: Qwen/Qwen3-8B
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

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils.warm_facts import keep


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
