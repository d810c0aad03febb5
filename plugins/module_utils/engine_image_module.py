# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of images share: their arguments, and how they end."""

from __future__ import annotations

from ansible.module_utils.basic import missing_required_lib

from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import (
    DOCKER_IMPORT_ERROR,
    ENGINE_ERRORS,
    DockerClient,
)
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError, engine_unreachable

COMMON_ARGUMENTS = {
    "image": {"type": "str", "required": True},
    "digest": {"type": "str"},
    "pull": {"type": "str", "choices": ["missing", "never", "always"], "default": "missing"},
    "registry_username": {"type": "str"},
    "registry_password": {"type": "str", "no_log": True},
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
    "docker_timeout_seconds": {"type": "int", "default": 120},
}


def end(module, work):
    """End the module with the result of work(client), or with its failure."""
    if DOCKER_IMPORT_ERROR:
        reason = "to talk to the Docker engine"
        module.fail_json(msg=missing_required_lib("docker >= 7.1", reason=reason), exception=DOCKER_IMPORT_ERROR)
    params = module.params
    try:
        try:
            result = work(DockerClient(params["docker_host"], params["docker_timeout_seconds"]))
        except ENGINE_ERRORS as error:
            raise engine_unreachable(params["docker_host"], error) from error
    except LaunchError as error:
        module.fail_json(
            msg=f"{error.message.rstrip('.')}. {error.remedy}",
            reason=getattr(error, "reason", error.error_class),
            message=error.message,
            remedy=error.remedy,
        )
    module.exit_json(**result)
