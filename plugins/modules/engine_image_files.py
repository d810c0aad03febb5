#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_image_files
short_description: The files of an image from its registry into a folder; called by engine_image_swarm
version_added: "0.1.0"
description:
  - Fetches the manifests, the configuration and the layers of an image for the engine's platform, as the registry keeps
    them (compressed), and names each by its sha256 once its bytes are right. What is there already is not fetched, and
    what a killed run left is completed.
  - The engine gets nothing; M(preheat.fleet.engine_image) with O(preheat.fleet.engine_image#module:layout) brings such
    files into it.
  - The registry is asked by this module itself, with the proxies of its environment and the certificates that Python
    trusts. Mirrors of Docker Hub that the engine has are asked before it.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.docker
  - preheat.fleet.engine_image
attributes:
  check_mode:
    support: none
    description: The module that calls it does not do so in check mode.
  diff_mode:
    support: none
    description: Files of an image are many and mean nothing to people.
  idempotent:
    support: full
    description: What is in the folder is not fetched again.
options:
  pull:
    description: Of no effect here.
  dest:
    description: The folder for the files.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: The files of an image, to carry them to a host without a registry
  preheat.fleet.engine_image_files:
    image: lmsysorg/sglang:v0.5.23
    dest: /data/sglang/blobs/sha256
"""

RETURN = r"""
digest:
  description: The image's digest, that of the index where it is for several platforms.
  returned: success
  type: str
  sample: "sha256:3b1d"
files:
  description: What the image is made of, C(digest), C(size) and C(is_manifest) each.
  returned: success
  type: list
  elements: dict
  sample: [{digest: "sha256:3b1d", size: 332, is_manifest: true}]
bytes_total:
  description: Bytes of all files.
  returned: success
  type: int
  sample: 11811160064
bytes_fetched:
  description: Bytes that the registry sent.
  returned: success
  type: int
  sample: 11811160064
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 131.2
endpoint:
  description: Who was asked.
  returned: success
  type: str
  sample: https://registry-1.docker.io
source:
  description: Whether that was the C(registry) or a C(mirror).
  returned: success
  type: str
  sample: registry
reason:
  description: What failed, for programs, see M(preheat.fleet.engine_image).
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

from ansible_collections.preheat.fleet.plugins.module_utils.engine_image_files import fetch
from ansible_collections.preheat.fleet.plugins.module_utils.engine_image_module import COMMON_ARGUMENTS, end


def main():
    module = AnsibleModule(
        argument_spec={**COMMON_ARGUMENTS, "dest": {"type": "path", "required": True}},
        required_together=[("registry_username", "registry_password")],
    )
    end(module, lambda client: fetch(client, module.params))


if __name__ == "__main__":
    main()
