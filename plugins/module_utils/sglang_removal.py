# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers taken away: stopped with grace, their log kept where asked for, and removed."""

from __future__ import annotations

import time

from ansible_collections.preheat.fleet.plugins.module_utils import hf_use, sglang_log
from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import MANAGED_LABEL
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError


def managed_container(client, name):
    """The container of this name; one that preheat did not create is never touched."""
    container = client.container(name)
    if container and (container["Config"]["Labels"] or {}).get(MANAGED_LABEL) != "true":
        raise LaunchError(
            "invalid",
            f"name '{name}' belongs to a container that preheat did not create (image {container['Config']['Image']})",
            "Choose another name, or remove that container yourself.",
        )
    return container


def remove_servers(client, params, check_mode):
    """Remove one server by its name, or all that preheat manages and that carry some labels."""
    names = [params["name"]] if params["name"] else client.managed_names(params["match_labels"])
    containers = [found for found in (managed_container(client, name) for name in names) if found]
    removed = [container["Name"].lstrip("/") for container in containers]
    result = {"changed": bool(removed), "removed": removed}
    result["diff"] = {
        "before": dict.fromkeys(removed, "present"),
        "after": dict.fromkeys(removed, "absent"),
    }
    if removed and not check_mode:
        result.update(_remove(client, containers, params))
    return result


def _remove(client, containers, params):
    begin = time.time()
    logs, exit_codes = [], {}
    for container in containers:
        name = container["Name"].lstrip("/")
        client.stop(container["Id"], params["stop_timeout_seconds"])
        if params["return_log"]:
            text = sglang_log.scrub(client.logs(container["Id"]), sglang_log.secret_values(environment_of(container)))
            logs.append(text if len(containers) == 1 else f"==> {name} <==\n{text}")
        after = client.container(container["Id"])
        if after:
            exit_codes[name] = after["State"]["ExitCode"]
        client.remove(container["Id"])
        hf_use.mark_container(container)
    result = {"exit_codes": exit_codes, "seconds": round(time.time() - begin, 3)}
    if params["return_log"]:
        result["log"] = sglang_log.cap("\n".join(logs))
    return result


def environment_of(container):
    """The environment of a container, {name: value}, as the engine's answer to inspect has it."""
    return dict(entry.partition("=")[::2] for entry in container["Config"].get("Env") or [])
