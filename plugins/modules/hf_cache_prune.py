#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_cache_prune
short_description: Make room in a host's Hugging Face cache, least recently used snapshots first
description:
  - Removes snapshots of models from a host's Hugging Face cache until it fits its budget and the disk has room, the
    least recently used first; and what downloads that ended early have left (parts of files, blobs that no snapshot
    has).
  - Never removed are snapshots that a container uses which has not ended, those that O(keep) names, those of a repo
    that is being downloaded, and those that were used or written lately (O(keep_used_within_seconds)).
  - preheat's own containers name in their command what they load. Of any other container that mounts the cache, or a
    folder that it is in, nothing is known, so it keeps everything; one that mounts a folder inside the cache keeps the
    repo that this belongs to. O(ignore_containers) is for those that see the disk and load nothing, such as exporters
    of metrics.
  - The last use is the time of the last access of its files, which M(preheat.fleet.sglang_server) sets at each launch
    and removal (reading through a read-only mount does not), or the end of preheat's last container with it.
  - Only models are counted and removed, no data sets. With huggingface_hub 2, blobs that repos share are removed with
    the last repo that refers to them.
version_added: "0.1.0"
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.eviction
attributes:
  check_mode:
    support: full
    description: Says what would be removed.
  diff_mode:
    support: full
    description: Shows the snapshots, files and folders that are removed.
  idempotent:
    support: full
    description: What fits is left alone.
options:
  cache_dir:
    description:
      - The cache, which is what E(HF_HUB_CACHE) names for C(huggingface_hub).
      - Without it, the one that C(huggingface_hub) uses for this user and environment.
    type: path
  incoming_bytes:
    description:
      - What is about to be downloaded and must fit as well. If it would not fit although everything were removed that
        may be, no snapshot is.
    type: int
    default: 0
  min_free_bytes:
    description: What must stay free on the disk of the cache.
    type: bytes
    default: 0
  jit_cache_dir:
    description: Folder of compiled kernels (P(preheat.fleet.sglang_server#role)); each first-level folder is a unit.
    type: path
  jit_unused_seconds:
    description:
      - Folders of O(jit_cache_dir) that no container mounts and that were not used for so long are removed. V(0)
        removes none.
    type: int
    default: 0
  docker_host:
    description:
      - Endpoint of the Docker engine, asked for containers. If it does not answer the module fails and removes nothing.
      - Empty for a host without an engine.
    type: str
    default: unix:///var/run/docker.sock
seealso:
  - module: preheat.fleet.hf_cache_info
  - module: preheat.fleet.hf_model
    description: Removes one model with O(preheat.fleet.hf_model#module:state=absent).
"""

EXAMPLES = r"""
- name: Let models occupy 500 GB
  preheat.fleet.hf_cache_prune:
    budget_bytes: 500GB
    keep:
      - repo_id: Qwen/Qwen3-8B
    ignore_containers: [node-exporter]

- name: Remove kernels that nothing has used for a month
  preheat.fleet.hf_cache_prune:
    jit_cache_dir: ~/.cache/preheat/jit
    jit_unused_seconds: 2592000
"""

RETURN = r"""
cache_dir:
  description: The cache.
  returned: always
  type: str
  sample: /data/hub
size_bytes:
  description: What models, and what downloads of them have left, occupied before.
  returned: success
  type: int
  sample: 812397461110
budget_bytes:
  description: The budget in bytes.
  returned: success
  type: int
  sample: 536870912000
freed:
  description:
    - What was removed (in check mode, would be). C(kind) is one of C(revision), C(leftover), C(orphan) (a blob that no
      snapshot has) and C(jit).
  returned: success
  type: list
  elements: dict
  sample:
    - kind: revision
      repo_id: Qwen/Qwen2.5-72B-Instruct
      commit: 495f39366efef23836d0cfae4fbe635880d2be31
      path: /data/hub/models--Qwen--Qwen2.5-72B-Instruct/snapshots/495f39366efef23836d0cfae4fbe635880d2be31
      size_bytes: 145412000000
      last_used: 1793000000.0
freed_bytes:
  description: What that frees, compiled kernels left out.
  returned: success
  type: int
  sample: 145412000000
jit_freed_bytes:
  description: What the compiled kernels free.
  returned: success
  type: int
  sample: 0
kept:
  description: What stays, in the same form; C(why) says what keeps it, if anything does but that there is room.
  returned: success
  type: list
  elements: dict
  sample:
    - kind: revision
      repo_id: Qwen/Qwen3-8B
      commit: b968826d9c46dd6066d109eabc6255188de91218
      path: /data/hub/models--Qwen--Qwen3-8B/snapshots/b968826d9c46dd6066d109eabc6255188de91218
      size_bytes: 16397461110
      last_used: 1793000000.0
      why: used by container sglang-server
evictable_bytes:
  description: The most that could have been freed.
  returned: success
  type: int
  sample: 612000000000
short_bytes:
  description: What is still missing; V(0) if the budget holds and the disk has room.
  returned: success
  type: int
  sample: 0
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import hf_prune, hf_use
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import default_cache_dir
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_engine import EngineError

ARGUMENTS = {
    **hf_prune.ARGUMENTS,
    "cache_dir": {"type": "path"},
    "incoming_bytes": {"type": "int", "default": 0},
    "min_free_bytes": {"type": "bytes", "default": 0},
    "jit_cache_dir": {"type": "path"},
    "jit_unused_seconds": {"type": "int", "default": 0},
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
}


def prune(params: dict, check_mode: bool) -> dict:
    """The module's result. Raises EngineError, PermissionError."""
    now = time.time()
    limits = hf_prune.Limits(
        *(params[name] for name in ("budget_bytes", "min_free_bytes", "incoming_bytes", "keep_used_within_seconds"))
    )
    containers = hf_use.containers(params["docker_host"], params["ignore_containers"]) if params["docker_host"] else []
    plan = hf_prune.plan(params["cache_dir"], limits, params["keep"], containers, now)
    jit: list[hf_prune.Unit] = []
    jit_kept: list[hf_prune.Unit] = []
    if params["jit_cache_dir"] and params["jit_unused_seconds"]:
        jit, jit_kept = hf_prune.plan_jit(params["jit_cache_dir"], params["jit_unused_seconds"], containers, now)
    left = [] if check_mode else hf_prune.apply(params["cache_dir"], plan.freed + jit)
    freed = [unit for unit in plan.freed + jit if unit not in left]
    left_bytes = sum(unit.size_bytes for unit in left)
    return {
        "changed": bool(freed),
        "size_bytes": plan.size_bytes,
        "budget_bytes": params["budget_bytes"],
        "freed": [unit.summary() for unit in freed],
        "freed_bytes": plan.freed_bytes - left_bytes,
        "jit_freed_bytes": sum(unit.size_bytes for unit in jit),
        "kept": [unit.summary() for unit in [*plan.kept, *left, *jit_kept]],
        "evictable_bytes": plan.evictable_bytes,
        "short_bytes": plan.short_bytes + left_bytes if plan.wanted_bytes else 0,
        "diff": {
            "before": {unit.path: f"{unit.size_bytes} bytes, {unit.kind}" for unit in freed},
            "after": {},
        },
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    params["cache_dir"] = params["cache_dir"] or default_cache_dir()
    try:
        result = prune(params, module.check_mode)
    except EngineError as error:
        module.fail_json(
            msg=f"The Docker engine at docker_host '{params['docker_host']}' does not say what it runs ({error}), so "
            "nothing was removed. Start it, run the task as a user who may use it, or set docker_host to '' on a host "
            "without one.",
            cache_dir=params["cache_dir"],
        )
    except PermissionError as error:
        module.fail_json(
            msg=f"The cache may not be changed by this user: {error}. Run the task as its owner (become).",
            cache_dir=params["cache_dir"],
        )
    if not module._diff:
        result.pop("diff")
    module.exit_json(cache_dir=params["cache_dir"], **result)


if __name__ == "__main__":
    main()
