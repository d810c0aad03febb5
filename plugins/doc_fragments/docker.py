# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options and requirements of the modules that talk to a Docker engine."""

    DOCUMENTATION = r"""
options:
  docker_host:
    description:
      - Endpoint of the Docker engine, as seen on the host where the module runs.
    type: str
    default: unix:///var/run/docker.sock
  docker_timeout_seconds:
    description:
      - How long one request to the engine may take.
      - A request that stops a container may take that much longer than the container's grace period.
    type: int
    default: 120
requirements:
  - Python >= 3.9
  - docker >= 7.1 (the Docker SDK for Python)
  - Docker Engine >= 20.10 (API 1.41)
"""
