#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_model
short_description: Hold a snapshot of a Hugging Face Hub repo in a host's cache, complete and verified
description:
  - Makes sure that one revision of a repo, pinned to its commit, is in the host's Hugging Face cache, complete, so that
    anything that uses C(huggingface_hub) finds it offline; or that it is not there.
  - Every file is hashed before it takes its place in the cache (SHA-256 for LFS files, git's SHA-1 for others, against
    the Hub's listing). Files that have the wrong size are fetched again; so are those with wrong bytes with
    O(verify=full).
  - C(refs/REVISION) is written last. What a killed download left of a file, of this module or of C(huggingface_hub), is
    not fetched again; what is of no use is removed. Downloads share C(huggingface_hub)'s own locks, so that several
    processes fetch each file once.
  - Files come in ranges over several connections of plain HTTP, not over Xet, whose transfers may hang. A connection
    that brings nothing for O(stall_seconds) is cut, and the rest asked for anew, at the next endpoint if there are
    several.
  - Given a commit whose snapshot is complete, no request goes to the Hub; given a branch or tag, one. If the Hub cannot
    be reached then, a complete snapshot of the commit that was recorded last is used, with a warning.
version_added: "0.1.0"
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.huggingface
requirements:
  - huggingface_hub >= 1.0 (the role P(preheat.fleet.gpu_host#role) installs it)
attributes:
  check_mode:
    support: full
    description: Returns the files and bytes that would be fetched. Writes nothing, not even to the cache's bookkeeping.
  diff_mode:
    support: full
    description: Shows the files that are fetched or removed, and the refs that move.
  idempotent:
    support: full
    description: By commit it is; a branch may have moved on the Hub.
options:
  state:
    description:
      - V(present) makes the snapshot complete.
      - V(seeded) takes what O(seed) has of the snapshot, and leaves the rest to others, such as
        M(preheat.fleet.hf_swarm).
      - V(absent) removes the snapshot of O(revision), with the blobs that no other snapshot uses; without O(revision),
        the whole repo. The Hub is not asked.
    type: str
    choices: [present, seeded, absent]
    default: present
  repo_id:
    description: The repo, C(ORG/NAME).
    type: str
    required: true
  revision:
    description:
      - Branch, tag or commit (40 digits).
      - V(main) if it is not given, with O(state=present).
    type: str
  token:
    description:
      - Token for private and gated repos.
      - Without it, that of the host's environment or login (E(HF_TOKEN), C(hf auth login)), if there is one.
    type: str
  token_file:
    description:
      - File on the host with the token, which is removed as soon as it has been read.
      - The background job of O(progress_bytes) gets O(token) in this way, for Ansible keeps a job's arguments on the
        host's disk while it runs.
    type: path
  endpoint:
    description: The Hub. Without it what E(HF_ENDPOINT) says, in most cases C(https://huggingface.co).
    type: str
  fallback_endpoints:
    description:
      - Other endpoints of the Hub, such as mirrors, for what O(endpoint) does not give, be it down, stalled or without
        the repo. They get O(token) too.
    type: list
    elements: str
  stall_seconds:
    description: How long a transfer may bring no byte before it is cut and tried another way.
    type: int
    default: 60
  seed:
    description:
      - A folder (also of NFS) or tarball on the host that holds files of the repo; what is missing is taken from there,
        and only the rest fetched from the Hub. It is only read, and not looked at when nothing is missing.
      - A Hub cache, or the repo's folder in one; a folder made by C(hf download --local-dir); the files themselves, in
        the folder or below it in C(ORG/NAME); or a tarball of one of these. A compressed one is read file by file.
      - Bytes are hashed before they count, as those from the Hub are, against the Hub's hashes. If the Hub cannot be
        asked, against those that the seed brings along, see RV(checked_against); O(revision) is then what the seed says
        it is, or must be a commit.
      - Files get into the cache by shared blocks or hard links where the file system can, otherwise as copies.
    type: path
  verify:
    description:
      - How files that are already there are checked. V(size) looks at their sizes, V(full) reads all their bytes.
    type: str
    choices: [size, full]
    default: size
  max_workers:
    description: Files that are fetched, or hashed, at the same time.
    type: int
    default: 8
  progress_bytes:
    description:
      - If more than so many bytes are missing, the task prints every few seconds how far it is, with rate and time
        left. The download is then a job in the background of the host, which goes on if the controller is lost. V(0)
        prints nothing.
      - Without it 67108864, with O(verify=full) V(0).
      - The module called by other code than a task fetches nothing then, and returns C(deferred), and
        with O(token) a C(token_file) for the call that does.
    type: int
  facts_file:
    description:
      - File of local facts (M(preheat.fleet.host_facts)) in which the model and the state of the cache are noted once
        it is held, which spares a task. The cache is noted as one without a budget.
      - Without it, with O(state=absent) or O(state=seeded), and in check mode nothing is noted.
    type: path
  facts_dir:
    description: Ansible's folder of facts, in which a link to O(facts_file) is made.
    type: path
  retries:
    description:
      - How often a request is repeated that failed in a way that may pass (connection, timeout, HTTP 429 and 5xx, wrong
        bytes).
      - Waits double from one second, with jitter; C(Retry-After) of the Hub is kept.
    type: int
    default: 5
  min_free_bytes:
    description: What must stay free on the disk of the cache; checked before anything is fetched.
    type: int
    default: 1073741824
seealso:
  - module: preheat.fleet.hf_cache_info
"""

EXAMPLES = r"""
- name: Hold the newest revision of a model
  preheat.fleet.hf_model:
    repo_id: Qwen/Qwen3-8B
  vars:
    ansible_python_interpreter: "{{ gpu_host_venv }}/bin/python"

- name: Hold one commit of a gated model
  preheat.fleet.hf_model:
    repo_id: meta-llama/Llama-3.1-8B-Instruct
    revision: 0e9e39f249a16976918f6564b8830bc894c89659
    token: "{{ model_cache_token }}"

- name: Read every byte, and repair what is damaged
  preheat.fleet.hf_model:
    repo_id: Qwen/Qwen3-8B
    verify: full

- name: Hold a model without a network, from a tarball of another host's cache
  preheat.fleet.hf_model:
    repo_id: Qwen/Qwen3-8B
    seed: /mnt/transfer/qwen3-8b.tar

- name: Ask a mirror first, the Hub for what it lacks
  preheat.fleet.hf_model:
    repo_id: Qwen/Qwen3-8B
    endpoint: https://hub.example.internal
    fallback_endpoints: [https://huggingface.co]
    stall_seconds: 20

- name: Remove a model
  preheat.fleet.hf_model:
    repo_id: Qwen/Qwen3-8B
    state: absent
"""

RETURN = r"""
repo_id:
  description: The repo.
  returned: always
  type: str
  sample: Qwen/Qwen3-8B
revision:
  description: The revision that was asked for.
  returned: success
  type: str
  sample: main
commit:
  description: The commit it stands for.
  returned: O(state=present) or O(state=seeded)
  type: str
  sample: b968826d9c46dd6066d109eabc6255188de91218
snapshot_path:
  description: The folder of the snapshot.
  returned: O(state=present) or O(state=seeded)
  type: str
  sample: /data/hub/models--Qwen--Qwen3-8B/snapshots/b968826d9c46dd6066d109eabc6255188de91218
cache_dir:
  description: The cache.
  returned: success
  type: str
  sample: /data/hub
files:
  description:
    - The files of the snapshot, with their size in bytes, hash (C(sha256) or C(git_sha1)) and C(found), which is how
      they were found, one of C(ok), C(unlinked) (the blob is there, the snapshot lacks it), C(damaged) and C(missing).
  returned: O(state=present) or O(state=seeded)
  type: list
  elements: dict
  sample: [{path: config.json, size: 728, git_sha1: d3d7c1e8c3e78eeb1640b8e2041ee256e24c9ee1, found: missing}]
repaired:
  description: Files that were damaged (in check mode, are damaged).
  returned: O(state=present) or O(state=seeded)
  type: list
  elements: str
  sample: [model-00001-of-00005.safetensors]
leftovers:
  description: Files of killed downloads that are of no use and were removed (in check mode, would be).
  returned: O(state=present) or O(state=seeded)
  type: list
  elements: str
  sample: []
bytes_total:
  description: Size of the snapshot.
  returned: O(state=present) or O(state=seeded)
  type: int
  sample: 16397461110
bytes_to_fetch:
  description: What was missing or damaged when the module began.
  returned: O(state=present) or O(state=seeded)
  type: int
  sample: 16397461110
bytes_resumed:
  description: The part of it that killed downloads had left and that is not fetched again.
  returned: O(state=present) or O(state=seeded)
  type: int
  sample: 0
bytes_in_seed:
  description: The part of it that O(seed) seems to have.
  returned: O(state=present) or O(state=seeded)
  type: int
  sample: 0
bytes_from_seed:
  description: What this run took from O(seed).
  returned: O(state=present) or O(state=seeded)
  type: int
  sample: 0
bytes_fetched:
  description: What this run fetched. Less than RV(bytes_to_fetch) if another process fetched files meanwhile.
  returned: O(state=present) or O(state=seeded)
  type: int
  sample: 16397461110
seconds:
  description: Time of the whole run.
  returned: O(state=present) or O(state=seeded)
  type: float
  sample: 190.2
mb_per_second:
  description: Megabytes (10^6 bytes) per second while files were fetched; 0 if none was.
  returned: O(state=present) or O(state=seeded)
  type: float
  sample: 86.4
source:
  description: Where the missing bytes came from, V(hub), V(seed) or V(hub+seed); V(cache) if none was missing.
  returned: O(state=present) or O(state=seeded)
  type: str
  sample: hub
verified:
  description: V(hash) if this run hashed every file, V(size) if it looked at the sizes of some only.
  returned: O(state=present) or O(state=seeded)
  type: str
  sample: hash
checked_against:
  description:
    - What sizes and hashes were compared with. V(hub), the Hub's listing, of now or of when the files came.
    - V(seed), the list that the seed brought along, because the Hub could not be asked; this finds damage, but not a
      seed that was wrong from the start. V(none), nothing but the seed's own bytes as they were.
    - With O(verify=full) the Hub is asked again.
  returned: O(state=present) or O(state=seeded)
  type: str
  sample: hub
facts_noted:
  description:
    - Whether O(facts_file) was written and is linked in O(facts_dir), if there is one. If it could not be,
      M(preheat.fleet.host_facts) says why.
  returned: with O(facts_file), when the model was held
  type: bool
  sample: true
removed:
  description: Commits and refs that were removed (in check mode, would be), and the bytes that this frees.
  returned: O(state=absent)
  type: dict
  sample: {commits: [b968826d9c46dd6066d109eabc6255188de91218], refs: [main], bytes_freed: 16397461110}
reason:
  description:
    - What failed, for programs. One of C(gated_repo), C(repo_not_found), C(revision_not_found), C(unauthorized),
      C(hub_unreachable), C(stalled), C(hub_error), C(wrong_bytes), C(no_space), C(not_writable), C(no_weights),
      C(nothing_selected), C(pickle_not_allowed), C(bad_seed), C(bad_name), C(bad_value), C(job_lost).
  returned: failure
  type: str
  sample: gated_repo
remedy:
  description: What to do about it; also part of C(msg).
  returned: failure
  type: str
  sample: Set model_cache_token.
"""

import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.preheat.fleet.plugins.module_utils import hf_remove, hf_report, hf_token
from ansible_collections.preheat.fleet.plugins.module_utils.hf_arguments import SNAPSHOT_ARGUMENTS
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache, default_cache_dir
from ansible_collections.preheat.fleet.plugins.module_utils.hf_fetch import STALL_SECONDS
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_plan import Done
from ansible_collections.preheat.fleet.plugins.module_utils.hf_seed import Seed
from ansible_collections.preheat.fleet.plugins.module_utils.hf_snapshot import Snapshot
from ansible_collections.preheat.fleet.plugins.module_utils.hf_tree import check_names
from ansible_collections.preheat.fleet.plugins.module_utils.warm_facts import keep


def present(params: dict, check_mode: bool) -> dict:
    begin = time.monotonic()
    revision = params["revision"] or "main"
    check_names(params["repo_id"], revision)
    if params["stall_seconds"] <= 0:
        given = f"stall_seconds is {params['stall_seconds']:g}, which would cut every transfer."
        raise HubError(
            "bad_value", given, "Give model_cache_stall_seconds (parameter stall_seconds) a positive number."
        )
    cache = RepoCache(params["cache_dir"], params["repo_id"])
    snapshot = Snapshot(
        HubClient(params["endpoint"], params["token"], params["retries"], fallbacks=params["fallback_endpoints"]),
        cache,
        repo_id=params["repo_id"],
        revision=revision,
        selection=Selection(params["allow_patterns"], params["ignore_patterns"], params["allow_pickle"]),
        hashes=params["verify"] == "full",
        max_workers=params["max_workers"],
        min_free_bytes=params["min_free_bytes"],
        stall_seconds=params["stall_seconds"],
        seed=Seed(params["seed"], params["repo_id"]) if params["seed"] else None,
    )
    plan = snapshot.plan(seed_only=params["state"] == "seeded")
    snapshot.check_space(plan)
    deferred = not check_mode and 0 < (params.get("progress_bytes") or 0) < plan.bytes_to_fetch
    done = Done() if check_mode or deferred else snapshot.apply(plan)
    return {
        **({"deferred": True} if deferred else {}),
        **({"token_file": hf_token.leave(params["token"])} if deferred and params["token"] else {}),
        **hf_report.of_snapshot(plan, done, cache.snapshot(plan.commit)),
        "revision": revision,
        "seconds": round(time.monotonic() - begin, 3),
    }


def note(params: dict, result: dict) -> dict:
    """The result, and whether it was noted in the host's facts."""
    where = {"path": params["facts_file"], "link_dir": params["facts_dir"], "cache_dir": params["cache_dir"]}
    kept = keep({**where, "warm": [{**result, "repo_id": params["repo_id"]}], "budget_bytes": 0})
    return {
        **result,
        "changed": result["changed"] or kept["changed"],
        "facts_noted": kept["linked"] and not kept["notice"],
    }


def absent(params: dict, check_mode: bool) -> dict:
    check_names(params["repo_id"], params["revision"])
    removal = hf_remove.plan_removal(RepoCache(params["cache_dir"], params["repo_id"]), params["revision"])
    if not check_mode:
        hf_remove.remove(removal)
    return {**hf_report.of_removal(removal), "revision": params["revision"]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SNAPSHOT_ARGUMENTS,
            "state": {"type": "str", "choices": ["present", "seeded", "absent"], "default": "present"},
            "revision": {"type": "str"},
            "token_file": {"type": "path", "no_log": False},
            "fallback_endpoints": {"type": "list", "elements": "str"},
            "seed": {"type": "path"},
            "max_workers": {"type": "int", "default": 8},
            "progress_bytes": {"type": "int"},
            "facts_file": {"type": "path"},
            "facts_dir": {"type": "path"},
            "stall_seconds": {"type": "int", "default": STALL_SECONDS},
        },
        required_if=[("state", "seeded", ["seed"])],
        mutually_exclusive=[("token", "token_file")],
        supports_check_mode=True,
    )
    params = module.params
    params["cache_dir"] = params["cache_dir"] or default_cache_dir()
    act = absent if params["state"] == "absent" else present
    known = {"repo_id": params["repo_id"], "cache_dir": params["cache_dir"]}
    try:
        if params["token_file"]:
            params["token"] = hf_token.take(params["token_file"])
            module.no_log_values.add(params["token"])
        result = act(params, module.check_mode)
        if params["facts_file"] and params["state"] == "present" and not (module.check_mode or result.get("deferred")):
            result = note(params, result)
    except HubError as error:
        module.fail_json(msg=str(error), reason=error.reason, remedy=error.remedy, **known)
    except PermissionError as error:
        remedy = "Run the task as the owner of the cache (become), or set model_cache_dir (parameter cache_dir)."
        module.fail_json(
            msg=f"The cache may not be written by this user: {error}. {remedy}",
            reason="not_writable",
            remedy=remedy,
            **known,
        )
    except ImportError as error:
        module.fail_json(
            msg=missing_required_lib("huggingface_hub", reason="to fetch from the Hub; the role gpu_host installs it"),
            exception=str(error),
            **known,
        )
    for warning in result.pop("warnings", []):
        module.warn(warning)
    if not module._diff:
        result.pop("diff", None)
    module.exit_json(**known, **result)


if __name__ == "__main__":
    main()
