#!/usr/bin/python

# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_preflight
short_description: Find all that would stop a launch on a host, at once and before it costs anything
version_added: 0.1.0
description:
  - Looks at the Docker engine, images, disks, GPUs, Python and the clock, and lists every problem with its remedy.
  - Never fails for what it finds and never changes anything.
  - Needs only the host's own Python, since it runs before anything is installed there.
author:
  - The preheat maintainers (@preheat)
options:
  docker_host:
    description:
      - The Docker endpoint, C(unix:///path) or C(tcp://host:port). Empty to leave the engine out.
    type: str
    default: unix:///var/run/docker.sock
  docker_required:
    description:
      - Whether a host without an engine has a problem. V(false) if one will be installed.
    type: bool
    default: true
  images:
    description:
      - Container images that launches will need.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The image as C(docker run) takes it.
        type: str
        required: true
      pull:
        description: With V(never) the image has to be on the host already.
        type: str
        choices: [never, missing, always]
        default: missing
      size_bytes:
        description: Disk space that pulling it takes, if that is more than twice what the registry says it sends.
        type: int
        default: 0
      shared:
        description: Whether another host may give it, so that a registry that refuses this one is no problem.
        type: bool
        default: false
      variable:
        description: Name of the variable that a problem with this image is reported for.
        type: str
        default: images
  registry_username:
    description: Login for the registry of O(images). Without it, what C(docker login) left for this user.
    type: str
  registry_password:
    description: Password or token of O(registry_username).
    type: str
  cache_dir:
    description:
      - The host's Hub cache, which must be writable and have room for the model.
    type: path
  root_dir:
    description:
      - preheat's own folder on the host, which must be writable as long as O(venv) is not there.
    type: path
  venv:
    description:
      - Virtual environment that has to be there, or that it has to be possible to make.
    type: path
  may_install_packages:
    description:
      - Whether the package that Python lacks for making O(venv) will be installed, so that its absence is no problem.
    type: bool
    default: false
  repo_id:
    description:
      - Repository of the model whose O(blobs) are looked for in O(cache_dir).
    type: str
  blobs:
    description:
      - Files of the model. What is in the cache with the right size needs no space any more.
    type: list
    elements: dict
    default: []
    suboptions:
      etag:
        description: Name of the blob in the cache (sha256 of an LFS file, git-sha1 of another).
        type: str
        required: true
      size:
        description: Its size in bytes.
        type: int
        required: true
  disk_needed_bytes:
    description:
      - Bytes that O(cache_dir) must have room for if O(blobs) are not known.
    type: int
    default: 0
  disk_margin_bytes:
    description:
      - Bytes to be left free on each disk.
    type: int
    default: 1000000000
  gpus_needed:
    description:
      - GPUs that a launch needs. V(0) for a launch without any.
    type: int
    default: 0
  gpu_memory_needed_bytes:
    description:
      - Memory that each of these GPUs must have.
    type: int
    default: 0
  gpu_access:
    description:
      - How containers will get the GPUs.
    type: str
    choices: [auto, device_request, cdi, none]
    default: auto
  python_minimum:
    description:
      - Oldest version of Python that will do.
    type: str
    default: "3.9"
  controller_time:
    description:
      - The controller's clock when the task started, in seconds since the epoch. Left out, clocks are not compared.
    type: float
  clock_tolerance_seconds:
    description:
      - Largest difference between the clocks that is no problem.
      - A host whose clock is ahead gets 30 seconds more, since starting the module counts as well.
    type: float
    default: 5
  variable_names:
    description:
      - What to call O(docker_host), O(cache_dir), O(budget_bytes), O(root_dir), O(venv), O(gpus_needed),
        O(gpu_memory_needed_bytes), O(gpu_access), C(docker_root_dir), C(python) and C(clock) in problems, so that
        people find what they set.
    type: dict
    default: {}
extends_documentation_fragment:
  - preheat.fleet.info
  - preheat.fleet.eviction
seealso:
  - module: preheat.fleet.gpu_info
"""

EXAMPLES = r"""
- name: Look for what would stop a launch
  preheat.fleet.host_preflight:
    cache_dir: ~/.cache/huggingface/hub
    images:
      - {name: "lmsysorg/sglang:v0.5.23", pull: never, variable: sweep_image}
    repo_id: Qwen/Qwen3-8B
    blobs:
      - {etag: 31d6a825ad7a4d3dbcf1a2a5bcb8dd3e8d5a3a2c7a0bd8b0c6c5f58fa8b2b4f1, size: 3996250744}
    gpus_needed: 2
    controller_time: "{{ now().timestamp() }}"
    variable_names: {cache_dir: model_cache_dir}
  register: preflight

- name: Refuse the host
  ansible.builtin.assert:
    that: preflight.problems | length == 0
    fail_msg: "{{ preflight.problems | to_nice_yaml }}"
"""

RETURN = r"""
problems:
  description: What would make a launch fail, all of it.
  returned: always
  type: list
  elements: dict
  contains: &finding
    variable:
      description: The variable to change, see O(variable_names).
      type: str
    value:
      description: Its value on this host, or what was found.
      type: raw
    message:
      description: What is wrong.
      type: str
    remedy:
      description: What to do about it.
      type: str
  sample:
    - variable: model_cache_dir
      value: /data/hub
      message: >-
        12.1 GB are free where 17.4 GB are needed: 16.4 GB for the model's files in /data/hub, 1.0 GB in reserve.
      remedy: Free some space, or name a folder on a larger disk.
notices:
  description: What does not stop a launch but is good to know, such as other processes on a GPU.
  returned: always
  type: list
  elements: dict
  contains: *finding
facts:
  description: What was found.
  returned: always
  type: dict
  contains:
    user:
      description: The user that looked.
      type: str
    python_version:
      description: Version of the Python that looked.
      type: str
    has_venv:
      description: Whether it can make virtual environments.
      type: bool
    venv_exists:
      description: Whether O(venv) is there.
      type: bool
    clock_offset_seconds:
      description: The host's clock less the controller's.
      type: float
    docker_version:
      description: Version of the engine, null if there is none to be reached.
      type: str
    docker_api:
      description: Newest API version of the engine.
      type: str
    docker_error:
      description: Why the engine was not reached, C(kind) and C(detail); null if it was.
      type: dict
    docker_root_dir:
      description: Where the engine keeps images; null if it runs on another host.
      type: str
    storage_driver:
      description: How the engine stores images.
      type: str
    has_nvidia_runtime:
      description: Whether the engine takes NVIDIA device requests.
      type: bool
    has_cdi:
      description: Whether the engine knows GPUs as CDI devices.
      type: bool
    images:
      description:
        - For each of O(images) whether it is C(present), its C(id) and C(size_bytes), and the C(refusal) of the
          registry where it could not be pulled (null where that is not known). Of one that could, the C(download_bytes)
          where the registry tells them.
      type: dict
    image_tags:
      description: All images of the engine, if one was not there.
      type: list
      elements: str
    disks:
      description: For each folder its C(free_bytes), C(total_bytes), C(device), C(existing) parent and if C(writable).
      type: dict
    missing_bytes:
      description: Bytes of the model that are not in the cache.
      type: int
    eviction:
      description:
        - With a budget, the C(size_bytes) of the models in the cache and the C(evictable_bytes), see
          M(preheat.fleet.hf_cache_prune). Null without one, or where it could not be found out.
      type: dict
    gpus:
      description: The GPUs, see M(preheat.fleet.gpu_info).
      type: list
      elements: dict
    gpu_vendor:
      description: Whose GPUs; likewise C(gpu_driver_version), C(gpu_cuda_version), C(gpu_topology), C(gpu_error).
      type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import hf_prune
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_checks import check
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_facts import gather

ARGUMENTS = {
    **hf_prune.ARGUMENTS,
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
    "docker_required": {"type": "bool", "default": True},
    "images": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "pull": {"type": "str", "choices": ["never", "missing", "always"], "default": "missing"},
            "size_bytes": {"type": "int", "default": 0},
            "shared": {"type": "bool", "default": False},
            "variable": {"type": "str", "default": "images"},
        },
    },
    "registry_username": {"type": "str"},
    "registry_password": {"type": "str", "no_log": True},
    "cache_dir": {"type": "path"},
    "root_dir": {"type": "path"},
    "venv": {"type": "path"},
    "may_install_packages": {"type": "bool", "default": False},
    "repo_id": {"type": "str"},
    "blobs": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "etag": {"type": "str", "required": True},
            "size": {"type": "int", "required": True},
        },
    },
    "disk_needed_bytes": {"type": "int", "default": 0},
    "disk_margin_bytes": {"type": "int", "default": 1000000000},
    "gpus_needed": {"type": "int", "default": 0},
    "gpu_memory_needed_bytes": {"type": "int", "default": 0},
    "gpu_access": {"type": "str", "choices": ["auto", "device_request", "cdi", "none"], "default": "auto"},
    "python_minimum": {"type": "str", "default": "3.9"},
    "controller_time": {"type": "float"},
    "clock_tolerance_seconds": {"type": "float", "default": 5},
    "variable_names": {"type": "dict", "default": {}},
}


def main():
    host_time = time.time()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    facts = gather(module.params, host_time)
    problems, notices = check(module.params, facts)
    module.exit_json(changed=False, problems=problems, notices=notices, facts=facts)


if __name__ == "__main__":
    main()
