# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules share that ask the Docker engine of C(docker_host)."""

from __future__ import annotations

from ansible.module_utils.basic import missing_required_lib

from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import (
    DOCKER_IMPORT_ERROR,
    ENGINE_ERRORS,
    DockerClient,
)
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import engine_unreachable

ENGINE_ARGUMENTS = {
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
    "docker_timeout_seconds": {"type": "int", "default": 120},
}


def through_engine(module, work):
    """The result of work(client). Ends the module where it lacks the SDK; raises LaunchError for a silent engine."""
    if DOCKER_IMPORT_ERROR:
        reason = "to talk to the Docker engine"
        module.fail_json(msg=missing_required_lib("docker >= 7.1", reason=reason), exception=DOCKER_IMPORT_ERROR)
    params = module.params
    try:
        return work(DockerClient(params["docker_host"], params["docker_timeout_seconds"]))
    except ENGINE_ERRORS as error:
        raise engine_unreachable(params["docker_host"], error) from error
