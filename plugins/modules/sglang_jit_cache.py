#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sglang_jit_cache
short_description: A host's caches of compiled kernels, looked at, packed for other hosts, and unpacked from them
version_added: "0.1.0"
description:
  - Servers keep what they compile in one folder for each image and kind of GPU, under O(path), see
    M(preheat.fleet.sglang_server). A host with the same image and the same kind of GPU can use the folder of another.
  - Compiled kernels are programs. Take them only from hosts that you trust as much as this one.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.docker
attributes:
  check_mode:
    support: full
    description: Nothing is written. With V(unpacked) it says what would be.
  diff_mode:
    support: none
    description: There is no text to compare.
  idempotent:
    support: full
    description: Files that are there and not older are left alone. The same files give the same archive.
options:
  state:
    description:
      - V(query) says what is there, and what a server of this host could use.
      - V(packed) writes the folder O(key) into O(archive). Locks, logs and links are left out, and files that were
        written less than O(settle_seconds) ago, as they may not be complete.
      - V(unpacked) brings the files of O(archive) into the folder O(key), where there is none of that name or an older
        one. An archive that is not what O(sha256) says, or that reaches out of the folder, is refused.
    type: str
    choices: [query, packed, unpacked]
    default: query
  path:
    description: Root of the caches on the host, what O(preheat.fleet.sglang_server#module:jit_cache_dir) names.
    type: path
    required: true
  key:
    description: Name of a folder under O(path). Needed for V(packed) and V(unpacked).
    type: str
  archive:
    description: File on the host. Needed for V(packed) and V(unpacked).
    type: path
  sha256:
    description: What the archive must hash to. Needed for V(unpacked).
    type: str
  settle_seconds:
    description: How long a file must have been left alone to be packed.
    type: int
    default: 60
seealso:
  - module: preheat.fleet.sglang_server
"""

EXAMPLES = r"""
- name: See what is compiled
  preheat.fleet.sglang_jit_cache:
    path: ~/.cache/preheat/jit

- name: Pack what was compiled for one image on one kind of GPU
  preheat.fleet.sglang_jit_cache:
    state: packed
    path: ~/.cache/preheat/jit
    key: 0123456789ab-nvidia-h100-80gb-hbm3-sm90
    archive: /tmp/jit.tar.gz
  register: packed

- name: Unpack it on another host
  preheat.fleet.sglang_jit_cache:
    state: unpacked
    path: ~/.cache/preheat/jit
    key: 0123456789ab-nvidia-h100-80gb-hbm3-sm90
    archive: /tmp/jit.tar.gz
    sha256: "{{ packed.sha256 }}"
"""

RETURN = r"""
folders:
  description: The folders that hold anything, with their C(key), C(files) and C(bytes).
  returned: state is query
  type: list
  elements: dict
  sample: [{key: 0123456789ab-nvidia-h100-80gb-hbm3-sm90, files: 412, bytes: 61341696}]
usable:
  description: The keys that a server of this host could use, by the images and the GPUs that are here.
  returned: state is query
  type: list
  elements: str
  sample: [0123456789ab-cpu, 0123456789ab-nvidia-h100-80gb-hbm3-sm90]
sha256:
  description: Hash of the archive.
  returned: state is packed, not in check mode
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
files:
  description: How many files were packed.
  returned: state is packed, not in check mode
  type: int
  sample: 412
bytes:
  description: Size of the archive.
  returned: state is packed, not in check mode
  type: int
  sample: 20447232
files_written:
  description: How many files were brought into the folder.
  returned: state is unpacked
  type: int
  sample: 400
bytes_written:
  description: Their size.
  returned: state is unpacked
  type: int
  sample: 60000000
files_kept:
  description: How many files of the archive were there already, and not older.
  returned: state is unpacked
  type: int
  sample: 12
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import docker_module, sglang_jit_archive, sglang_jit_cache
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError


def argument_spec():
    return {
        "state": {"type": "str", "choices": ["query", "packed", "unpacked"], "default": "query"},
        "path": {"type": "path", "required": True},
        # A folder's name and a file's hash, neither of them secret.
        "key": {"type": "str", "no_log": False},
        "archive": {"type": "path"},
        "sha256": {"type": "str"},
        "settle_seconds": {"type": "int", "default": 60},
        **docker_module.ENGINE_ARGUMENTS,
    }


def query(params, image_ids):
    """What is there, and the keys of what a server could use: every image with every kind of GPU."""
    kinds = sglang_jit_cache.kinds_of_host()
    usable = sorted({sglang_jit_cache.key(image_id, kind) for image_id in image_ids for kind in kinds})
    return {"changed": False, "folders": sglang_jit_cache.folders(params["path"]), "usable": usable}


def move(params, check_mode):
    """Pack or unpack; ArchiveError for a key or an archive that is not acceptable."""
    if not sglang_jit_cache.is_key(params["key"]):
        raise sglang_jit_archive.ArchiveError(
            f"key is '{params['key']}': give the name of a folder as state=query returns it, "
            "such as 0123456789ab-nvidia-h100-80gb-hbm3-sm90"
        )
    folder = os.path.join(params["path"], params["key"])
    if params["state"] == "unpacked":
        done = sglang_jit_archive.unpack(params["archive"], params["sha256"], folder, check_mode)
        return dict(done, changed=bool(done["files_written"]))
    if check_mode:
        return {"changed": True}
    settled_before = time.time() - params["settle_seconds"]
    return dict(sglang_jit_archive.pack(folder, params["archive"], settled_before), changed=True)


def main():
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[
            ("state", "packed", ("key", "archive")),
            ("state", "unpacked", ("key", "archive", "sha256")),
        ],
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["state"] != "query":
            module.exit_json(**move(params, module.check_mode))
        image_ids = docker_module.through_engine(module, lambda client: client.image_ids())
        module.exit_json(**query(params, image_ids))
    except LaunchError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}")
    except (sglang_jit_archive.ArchiveError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
