#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_cache_info
short_description: What a host's Hugging Face cache holds
description:
  - Lists the model repos in a host's Hugging Face cache with their revisions, sizes, completeness and last use.
  - Completeness is checked against the Hub's listing that M(preheat.fleet.hf_model) and C(huggingface_hub) 2.x keep in
    the cache, by name and size; without one, against the index of the weights' shards.
  - No network, and no Python library beyond the standard one.
version_added: "0.1.0"
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.info
  - preheat.fleet.huggingface
options:
  repo_id:
    description: Only this repo, C(ORG/NAME).
    type: str
seealso:
  - module: preheat.fleet.hf_model
"""

EXAMPLES = r"""
- name: See what is cached
  preheat.fleet.hf_cache_info:
  register: cache

- name: Name the snapshots that are not whole
  ansible.builtin.debug:
    msg: "{{ cache.repos | map(attribute='revisions') | flatten | rejectattr('complete') | map(attribute='path') }}"
"""

RETURN = r"""
cache_dir:
  description: The cache that was looked at.
  returned: always
  type: str
  sample: /data/hub
repos:
  description: The model repos, by name. Empty if the cache does not exist.
  returned: always
  type: list
  elements: dict
  contains:
    repo_id:
      description: The repo.
      type: str
      sample: Qwen/Qwen3-8B
    path:
      description: Its folder.
      type: str
      sample: /data/hub/models--Qwen--Qwen3-8B
    size_bytes:
      description: What it occupies, leftovers included; files that revisions share count once.
      type: int
      sample: 16397461110
    leftover_bytes:
      description: What killed downloads have left.
      type: int
      sample: 0
    downloading:
      description: Whether some process fetches a file of it.
      type: bool
      sample: false
    refs:
      description: Commits by branch or tag.
      type: dict
      sample: {main: b968826d9c46dd6066d109eabc6255188de91218}
    last_used:
      description: When a file of it was last read or written (epoch seconds), as exactly as the file system notes it.
      type: float
      sample: 1793000000.0
    revisions:
      description:
        - The snapshots. C(complete) is V(true), V(false), or V(null) if there was nothing to check it against;
          C(checked_against) is C(listing), C(index) or C(none).
      type: list
      elements: dict
      sample:
        - commit: b968826d9c46dd6066d109eabc6255188de91218
          refs: [main]
          path: /data/hub/models--Qwen--Qwen3-8B/snapshots/b968826d9c46dd6066d109eabc6255188de91218
          files: 14
          size_bytes: 16397461110
          complete: true
          checked_against: listing
          missing: []
          damaged: []
          last_modified: 1793000000.0
          last_used: 1793000000.0
size_bytes:
  description: Size of all these repos.
  returned: always
  type: int
  sample: 16397461110
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import default_cache_dir
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_inventory import inventory


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "repo_id": {"type": "str"},
            "cache_dir": {"type": "path"},
            "allow_patterns": {"type": "list", "elements": "str"},
            "ignore_patterns": {"type": "list", "elements": "str"},
            "allow_pickle": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    cache_dir = params["cache_dir"] or default_cache_dir()
    selection = Selection(params["allow_patterns"], params["ignore_patterns"], params["allow_pickle"])
    try:
        repos = inventory(cache_dir, selection, params["repo_id"])
    except PermissionError as error:
        module.fail_json(
            msg=f"The cache may not be read by this user: {error}. Run the task as its owner, or set cache_dir.",
            cache_dir=cache_dir,
        )
    module.exit_json(
        changed=False, cache_dir=cache_dir, repos=repos, size_bytes=sum(repo["size_bytes"] for repo in repos)
    )


if __name__ == "__main__":
    main()
