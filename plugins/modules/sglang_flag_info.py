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
  - Runs C(python3 -m sglang.launch_server --help) in a container of the image, without GPUs and without a network, and
    reads the flags from what it prints. That takes as long as SGLang's imports, some 10 to 30 seconds.
  - The answer is kept in O(cache_dir) by the image's id, so that an image is asked once.
  - Pulls nothing, and does not fail for an image that is not there or cannot say; RV(reason) tells.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.docker
attributes:
  check_mode:
    support: full
    description: The module only asks. In check mode it keeps no answer.
  diff_mode:
    support: none
    description: There is nothing to compare.
  idempotent:
    support: full
    description: The module changes nothing but its own O(cache_dir).
options:
  image:
    description: Image with SGLang in it, on the host.
    type: str
    required: true
  cache_dir:
    description: Folder on the host for the answers. Without it nothing is kept.
    type: path
seealso:
  - module: preheat.fleet.sglang_server
"""

EXAMPLES = r"""
- name: Ask an image for SGLang's flags
  preheat.fleet.sglang_flag_info:
    image: lmsysorg/sglang:v0.5.23
    cache_dir: /opt/preheat/flags
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
cached:
  description: Whether the answer was kept from an earlier time.
  returned: always
  type: bool
  sample: true
"""

import contextlib
import json
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import engine_image_module, sglang_help

ARGUMENTS = {
    "image": {"type": "str", "required": True},
    "cache_dir": {"type": "path"},
    **{name: engine_image_module.COMMON_ARGUMENTS[name] for name in ("docker_host", "docker_timeout_seconds")},
}


def answer(client, name, cache_dir, keep=True):
    """The module's result for an image."""
    image = client.image(name)
    if not image:
        return _result([], f"image '{name}' is not on the host", None)
    file = os.path.join(cache_dir, f"{image['Id'].split(':')[-1][:12]}.json") if cache_dir else None
    if file and (flags := _read(file, image["Id"])):
        return _result(flags, "", image["Id"], cached=True)
    text = client.output_of_image(image["Id"], sglang_help.COMMAND)
    flags = sglang_help.parse(text or "")
    if flags and file and keep:
        # A folder that cannot be written is no reason to fail: the image is asked again then.
        with contextlib.suppress(OSError):
            _write(file, {"image_id": image["Id"], "flags": flags})
    said = "is not SGLang's" if text else "failed"
    return _result(flags, "" if flags else f"'{' '.join(sglang_help.COMMAND)}' {said} in image '{name}'", image["Id"])


def _result(flags, reason, image_id, cached=False):
    return {"changed": False, "flags": flags, "reason": reason, "image_id": image_id, "cached": cached}


def _read(file, image_id):
    """The flags that are kept for an image; [] if there are none that can be read."""
    try:
        with open(file, encoding="utf-8") as stream:
            kept = json.load(stream)
        return kept["flags"] if kept["image_id"] == image_id else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(file, kept):
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(file), delete=False, encoding="utf-8") as stream:
        json.dump(kept, stream)
    os.chmod(stream.name, 0o644)
    os.replace(stream.name, file)


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    engine_image_module.end(
        module, lambda client: answer(client, params["image"], params["cache_dir"], keep=not module.check_mode)
    )


if __name__ == "__main__":
    main()
