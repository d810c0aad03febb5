# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that bring an image to a host."""

    DOCUMENTATION = r"""
options:
  image:
    description:
      - The image as C(docker run) takes it, C([REGISTRY/]NAME:TAG), C([REGISTRY/]NAME@sha256:DIGEST) or both.
    type: str
    required: true
  digest:
    description:
      - The digest that it must have, as an alternative to naming it in O(image). What is here under the name with
        another digest is replaced; what comes with another is refused.
    type: str
  pull:
    description:
      - V(missing), if the host has no such image; V(always) asks where a tag points now; V(never) asks no registry.
    type: str
    choices: [missing, never, always]
    default: missing
  registry_username:
    description:
      - Login for the registry. Without it, what C(docker login) left for the user of the task.
    type: str
  registry_password:
    description: Password or token of O(registry_username).
    type: str
"""
