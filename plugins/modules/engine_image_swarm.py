#!/usr/bin/python
# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_image_swarm
short_description: An image in the engines of all hosts of the play, with one read of its registry
version_added: "0.1.0"
description:
  - Of the hosts that lack the image, one fetches its files from the registry; the others get them from each other, by
    the same private swarm that carries models (M(preheat.fleet.hf_swarm)). Every host's engine then takes the image
    through a registry at its own C(127.0.0.1), checks every digest itself, and records the image's own digest. The
    engines' configuration is not touched.
  - Where the image is everywhere, nothing is asked of the registry.
  - A host that cannot read the registry (no login, no way to it) gets the image from one that can. Where sharing breaks
    off, hosts ask the registry themselves.
  - Needs C(strategy=linear) and at least as many forks as hosts, and room for the compressed image in O(dest) until the
    engine has it.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.docker
  - preheat.fleet.engine_image
attributes:
  check_mode:
    support: full
    description: Says whether the image would be brought; the registry is not asked unless O(pull=always).
  diff_mode:
    support: full
    description: Shows the image's id.
  idempotent:
    support: full
    description: Apart from O(pull=always) with a tag that moved.
options:
  dest:
    description: Folder of the host for the image's files, as long as they are on their way.
    type: path
    required: true
  address:
    description: The host's own address for its peers. Without it, the one at which Ansible reaches it.
    type: str
  port:
    description: Its port for them; V(0) takes any that is free.
    type: int
    default: 0
  upload_mb_per_second:
    description: Limit of what the host sends to its peers, in megabytes per second; V(0) is none.
    type: float
    default: 0
  download_mb_per_second:
    description: Limit of what the host takes from its peers.
    type: float
    default: 0
  stall_seconds:
    description: After how long without a byte from peers the registry is asked.
    type: int
    default: 120
seealso:
  - module: preheat.fleet.engine_image
  - module: preheat.fleet.hf_swarm
"""

EXAMPLES = r"""
- name: The engine image on all hosts
  preheat.fleet.engine_image_swarm:
    image: lmsysorg/sglang:v0.5.23
    dest: /opt/preheat/images
  vars:
    ansible_python_interpreter: "{{ gpu_host_venv }}/bin/python"
"""

RETURN = r"""
image:
  description: As M(preheat.fleet.engine_image) returns it; likewise RV(digest), C(id), C(size_bytes) and C(phases).
  returned: success
  type: str
  sample: lmsysorg/sglang:v0.5.23
digest:
  description: The registry's digest.
  returned: success
  type: str
  sample: "sha256:3b1d"
source:
  description:
    - C(cache) (it was there), C(registry) or C(mirror) (this host read it for all), C(swarm) (from the others).
  returned: success
  type: str
  sample: swarm
bytes_from_registry:
  description: Bytes that this host read of the registry.
  returned: the image was brought by the swarm
  type: int
  sample: 0
bytes_from_peers:
  description: Bytes that came from other hosts.
  returned: the image was brought by the swarm
  type: int
  sample: 11811160064
bytes_sent:
  description: Bytes that went to other hosts.
  returned: the image was brought by the swarm
  type: int
  sample: 5905580032
reason:
  description: What failed, for programs, see M(preheat.fleet.engine_image) and M(preheat.fleet.hf_swarm).
  returned: failure
  type: str
  sample: unauthorized
remedy:
  description: What to do about it.
  returned: failure
  type: str
  sample: Log in on this host ('docker login').
"""
