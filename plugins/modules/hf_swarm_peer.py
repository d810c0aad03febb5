#!/usr/bin/python
# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_swarm_peer
short_description: One host's part in a swarm; called by hf_swarm
description:
  - Answers one request of M(preheat.fleet.hf_swarm), which is what to use in a playbook.
  - The first request starts an agent, a process of the user that takes files from the Hub or from peers, checks them
    and shares them; the last ends it. It also ends when nobody has asked it anything for the length of its lease.
version_added: "0.1.0"
author:
  - The preheat maintainers (@preheat)
requirements:
  - huggingface_hub >= 1.0
  - libtorrent >= 2.0, if files are to be shared in pieces
attributes:
  check_mode:
    support: full
    description: The request V(inspect), the only one of check mode, changes nothing.
  diff_mode:
    support: none
    description: M(preheat.fleet.hf_swarm) shows the difference.
options:
  request:
    description: What is asked, with its C(action), one of V(inspect), V(start), V(sync), V(finish) and V(stop).
    type: dict
    required: true
  token:
    description: Token for the Hub, for the host that reads it.
    type: str
  secret:
    description: What only hosts of this swarm know.
    type: str
  identity:
    description: Their key and certificate for HTTPS, as PEM.
    type: str
"""

EXAMPLES = r"""
- name: Ask how far the agent of a swarm is
  preheat.fleet.hf_swarm_peer:
    request: {action: sync, run: 0b8a4dc2, cache_dir: /data/hub, said: {}}
"""

RETURN = r"""
answer:
  description: What the host said.
  returned: success
  type: dict
  sample: {have: [], made: [], seen: 0, bytes_done: 0}
no_agent:
  description: Why the agent could not be asked.
  returned: there is no agent
  type: str
  sample: "[Errno 2] No such file or directory"
reason:
  description: What failed, for programs.
  returned: failure
  type: str
  sample: no_space
remedy:
  description: What to do about it.
  returned: failure
  type: str
  sample: Free space there.
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import swarm_peer
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_control import NoAgent


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "request": {"type": "dict", "required": True},
            "token": {"type": "str", "no_log": True},
            "secret": {"type": "str", "no_log": True},
            "identity": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
        no_log=True,  # requests are long, and of no use in the host's log
    )
    request = {**module.params["request"], **{name: module.params[name] for name in ("secret", "identity")}}
    if "said" in request:
        request["said"] = {**request["said"], "token": module.params["token"]}
    try:
        # Not the arguments again, which are as long as the answer.
        module.exit_json(changed=False, invocation={}, answer=swarm_peer.handle(request))
    except NoAgent as error:
        module.exit_json(changed=False, invocation={}, no_agent=str(error))
    except HubError as error:
        module.fail_json(msg=str(error), reason=error.reason, message=error.message, remedy=error.remedy, invocation={})
    except PermissionError as error:
        remedy = "Run the task as the owner of the cache (become), or set model_cache_dir (parameter cache_dir)."
        message = f"The cache may not be written by this user: {error}."
        module.fail_json(
            msg=f"{message} {remedy}", reason="not_writable", message=message, remedy=remedy, invocation={}
        )


if __name__ == "__main__":
    main()
