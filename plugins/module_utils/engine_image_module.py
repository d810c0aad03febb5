# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of images share: their arguments, and how they end."""

from __future__ import annotations

from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError
from ansible_collections.preheat.fleet.plugins.module_utils.docker_module import ENGINE_ARGUMENTS, through_engine

COMMON_ARGUMENTS = {
    "image": {"type": "str", "required": True},
    "digest": {"type": "str"},
    "pull": {"type": "str", "choices": ["missing", "never", "always"], "default": "missing"},
    "registry_username": {"type": "str"},
    "registry_password": {"type": "str", "no_log": True},
    **ENGINE_ARGUMENTS,
}


def end(module, work):
    """End the module with the result of work(client), or with its failure."""
    try:
        result = through_engine(module, work)
    except LaunchError as error:
        module.fail_json(
            msg=f"{error.message.rstrip('.')}. {error.remedy}",
            reason=getattr(error, "reason", error.error_class),
            message=error.message,
            remedy=error.remedy,
        )
    module.exit_json(**result)
