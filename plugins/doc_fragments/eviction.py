# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # What of a Hub cache may be evicted; the arguments are those of hf_prune.ARGUMENTS.
    DOCUMENTATION = r"""
options:
  budget_bytes:
    description:
      - What the models in the cache may occupy, as a number of bytes or as V(500GB) (Ansible's units, 1 KB is 1024
        bytes). V(0) is no limit.
    type: bytes
    default: 0
  keep:
    description:
      - Models that are kept. As long as the revision that is named is not complete in the cache, all of the repo's are.
    type: list
    elements: dict
    default: []
    suboptions:
      repo_id:
        description: The repo, C(ORG/NAME).
        type: str
        required: true
      revision:
        description: Branch, tag or commit.
        type: str
        default: main
  keep_used_within_seconds:
    description: What was used or written within so many seconds is kept.
    type: int
    default: 3600
  ignore_containers:
    description: Shell patterns of names of containers that need nothing of the caches.
    type: list
    elements: str
    default: []
"""
