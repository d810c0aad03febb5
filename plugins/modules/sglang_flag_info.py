#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sglang_flag_info
short_description: Which flags the SGLang of an image accepts
version_added: "0.1.0"
description:
  - Runs C(python3 -m sglang.launch_server --help) in a container of the image, without a network, and reads the flags
    from what it prints. That takes as long as SGLang's imports, some 10 to 30 seconds. Only if it fails it is run again
    with the host's first GPU, for some versions want the driver's libraries.
  - Pulls nothing, and does not fail for an image that is not there or cannot say; RV(reason) tells.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.info
  - preheat.fleet.docker
options:
  image:
    description: Image with SGLang in it, on the host.
    type: str
    required: true
seealso:
  - module: preheat.fleet.sglang_server
"""

EXAMPLES = r"""
- name: Ask an image for SGLang's flags
  preheat.fleet.sglang_flag_info:
    image: lmsysorg/sglang:v0.5.23
  register: accepted

- name: See the formats of the KV cache that it knows
  ansible.builtin.debug:
    msg: "{{ accepted.flags | selectattr('names', 'contains', 'kv-cache-dtype') | map(attribute='choices') | first }}"
  when: accepted.flags | length > 0
"""

RETURN = r"""
flags:
  description: The flags; empty where they are not known.
  returned: always
  type: list
  elements: dict
  contains:
    names:
      description: Its names, without the dashes in front.
      type: list
      elements: str
      sample: [tp-size, tensor-parallel-size]
    least:
      description: How many values it needs.
      type: int
      sample: 1
    most:
      description: How many it takes; null for any number.
      type: int
      sample: 1
    choices:
      description: The values that it takes, as texts; null for any.
      type: list
      elements: str
      sample: null
reason:
  description: Why they are not known; empty where they are.
  returned: always
  type: str
  sample: ""
image_id:
  description: Id of the image; null if it is not on the host.
  returned: always
  type: str
  sample: sha256:9d76e7012ca1a5e1e9f4c5b7d2a8f3e6c1b0a9d8e7f6a5b4c3d2e1f0a9b8c7d6
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import (
    docker_module,
    engine_image_module,
    sglang_help,
)

ARGUMENTS = {"image": {"type": "str", "required": True}, **docker_module.ENGINE_ARGUMENTS}


def answer(client, name):
    """The module's result for an image."""
    image = client.image(name)
    if not image:
        return _result([], f"image '{name}' is not on the host", None)
    text = client.output_of_image(image["Id"], sglang_help.COMMAND)
    if text is None:
        # Older versions import all of the server first, which wants the driver's libraries; they come with a GPU.
        text = client.output_of_image(image["Id"], sglang_help.COMMAND, gpus=[0])
    flags = sglang_help.parse(text or "")
    said = "is not SGLang's" if text else "failed"
    return _result(flags, "" if flags else f"'{' '.join(sglang_help.COMMAND)}' {said} in image '{name}'", image["Id"])


def _result(flags, reason, image_id):
    return {"changed": False, "flags": flags, "reason": reason, "image_id": image_id}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    engine_image_module.end(module, lambda client: answer(client, module.params["image"]))


if __name__ == "__main__":
    main()
