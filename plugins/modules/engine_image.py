#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_image
short_description: An image in a host's Docker engine, by tag or digest
version_added: "0.1.0"
description:
  - Holds an image in the engine, from its registry, from an OCI image layout on the host or from an archive of
    C(docker save). An image that is there already costs one question to the engine and asks no registry.
  - For many hosts that shall read the registry once, see M(preheat.fleet.engine_image_swarm).
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.docker
  - preheat.fleet.engine_image
attributes:
  check_mode:
    support: full
    description: Says whether something would be brought; the registry is not asked.
  diff_mode:
    support: full
    description: Shows the image's id.
  idempotent:
    support: full
    description: Apart from O(pull=always) with a tag that moved.
options:
  state:
    description:
      - V(absent) removes the name, and with the last name what the image takes on the disk. An image that a container
        uses is not removed.
    type: str
    choices: [present, absent]
    default: present
  layout:
    description:
      - Folder on the host with the image as an OCI image layout (C(blobs/sha256/...), and C(index.json) where no digest
        is given). The engine takes it through a registry that the module opens at C(127.0.0.1) meanwhile, checks every
        digest, and records the image's own.
    type: path
  archive:
    description:
      - File on the host that C(docker save) wrote. It keeps the image's id, not the registry's digest; so O(digest) is
        that id here.
    type: path
seealso:
  - module: preheat.fleet.engine_image_swarm
  - module: preheat.fleet.sglang_server
"""

EXAMPLES = r"""
- name: An engine image, by tag and digest
  preheat.fleet.engine_image:
    image: lmsysorg/sglang:v0.5.23
    digest: sha256:3b1d9c8f2a5e4d7c6b0a1f2e3d4c5b6a79880716253443526170f8e9dacbbcad
  vars:
    ansible_python_interpreter: "{{ gpu_host_venv }}/bin/python"

- name: From an archive that was copied to the host
  preheat.fleet.engine_image:
    image: lmsysorg/sglang:v0.5.23
    archive: /var/tmp/sglang.tar

- name: Remove it
  preheat.fleet.engine_image:
    image: lmsysorg/sglang:v0.5.23
    state: absent
"""

RETURN = r"""
image:
  description: The image as it was named.
  returned: state is present
  type: str
  sample: lmsysorg/sglang:v0.5.23
digest:
  description:
    - The registry's digest. Of an image that came from no registry its id; null in check mode where it is not known.
  returned: state is present
  type: str
  sample: "sha256:3b1d"
id:
  description: The image's id in the engine; null in check mode where it is not known.
  returned: state is present
  type: str
  sample: "sha256:0a1b"
size_bytes:
  description: What the image takes, unpacked; null in check mode where it is not known.
  returned: state is present
  type: int
  sample: 28991029248
bytes_pulled:
  description: Bytes that the engine fetched, compressed. None for an archive.
  returned: state is present
  type: int
  sample: 11811160064
seconds:
  description: How long it took.
  returned: state is present
  type: float
  sample: 187.4
phases:
  description:
    - What it took, with C(start) in epoch seconds of the host. C(download), with its C(bytes), up to the last byte, and
      C(extract), what the engine needed after it; or C(load), of an archive.
  returned: state is present
  type: list
  elements: dict
  sample:
    - {name: download, start: 1795422492.1, seconds: 120.0, bytes: 11811160064}
    - {name: extract, start: 1795422612.1, seconds: 67.4}
source:
  description: Where it came from, one of C(registry), C(layout), C(archive) and C(cache) (it was there).
  returned: state is present
  type: str
  sample: registry
removed:
  description: The names that were removed.
  returned: state is absent
  type: list
  elements: str
  sample: ["lmsysorg/sglang:v0.5.23"]
reason:
  description:
    - What failed, for programs. C(not_found), C(unauthorized), C(rate_limited), C(no_space),
      C(registry_unreachable), C(wrong_digest), C(bad_name), C(bad_archive), C(bad_layout), C(in_use),
      C(engine_elsewhere), C(engine_unreachable) or C(pull_failed).
  returned: failure
  type: str
  sample: unauthorized
remedy:
  description: What to do about it.
  returned: failure
  type: str
  sample: Log in on this host ('docker login').
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils.engine_image import EngineImage
from ansible_collections.preheat.fleet.plugins.module_utils.engine_image_module import COMMON_ARGUMENTS, end


def main():
    module = AnsibleModule(
        argument_spec={
            **COMMON_ARGUMENTS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "layout": {"type": "path"},
            "archive": {"type": "path"},
        },
        mutually_exclusive=[("layout", "archive")],
        required_together=[("registry_username", "registry_password")],
        supports_check_mode=True,
    )

    def work(client):
        image = EngineImage(client, module.params, module.check_mode)
        return image.ensure() if module.params["state"] == "present" else image.remove()

    end(module, work)


if __name__ == "__main__":
    main()
