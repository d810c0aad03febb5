# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the servers that preheat runs on a host: from the engine, from themselves, from the local facts."""

from __future__ import annotations

from ansible_collections.preheat.fleet.plugins.module_utils import (
    sglang_container,
    sglang_endpoints,
    sglang_flags,
    sglang_log,
    sglang_model,
    sglang_readiness,
)
from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import image_digest
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_launch import reachable_host, url_of
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_removal import environment_of, managed_container

# Flags that are told as the model and the port.
_TOLD_ELSEWHERE = ("model_path", "revision", "host", "port")
_LAUNCH = ("start", "seconds", "phases", "cache", "ready", "error_class")


def servers(client, params, launches):
    """The servers of a host that C(name), C(port) and C(match_labels) choose, by name; launches: of the local facts."""
    names = [params["name"]] if params["name"] else client.managed_names(params["match_labels"])
    found = [container for container in (managed_container(client, name) for name in names) if container]
    chosen = [container for container in found if port_of(container) and params["port"] in (None, port_of(container))]
    return [_described(client, container, launches, params["timeout_seconds"]) for container in chosen]


def port_of(container):
    """The port of the host at which a server is offered; 0 for preheat's containers that are none."""
    return int((container["Config"]["Labels"] or {}).get(sglang_container.PORT_LABEL) or 0)


def _described(client, container, launches, timeout_seconds):
    labels, state = container["Config"]["Labels"], container["State"]
    spec = sglang_container.config_of(container)
    launch = next((entry for entry in launches if entry.get("container_id") == container["Id"]), {})
    secrets = sglang_log.secret_values(environment_of(container))
    port, publish_host = port_of(container), spec.get("publish_host") or "127.0.0.1"
    flags = sglang_flags.parameters_of(container["Config"]["Cmd"] or [])
    running = state["Status"] == "running"
    known = {
        "name": container["Name"].lstrip("/"),
        "id": container["Id"],
        "state": state["Status"],
        "exit_code": None if running else state.get("ExitCode"),
        "created": container["Created"],
        **_image(client, container, launch),
        "model": _model(container, flags),
        "host": publish_host,
        "port": port,
        "url": url_of(publish_host, port),
        "gpus": spec.get("gpus") or [],
        "gpu_access": spec.get("gpu_access"),
        "parameters": {name: value for name, value in flags.items() if name not in _TOLD_ELSEWHERE},
        "environment": sorted(spec.get("environment") or {}),
        "labels": {name: value for name, value in labels.items() if name not in sglang_container.OWN_LABELS},
        "launch": {name: launch.get(name) for name in _LAUNCH} if launch else None,
        **_said(reachable_host(publish_host), port, flags, timeout_seconds if running else None),
    }
    if not launch:
        known["notes"].append("its launch is not among those noted in facts_file, which keeps the last five")
    return sglang_log.scrub_data(known, secrets)


def _image(client, container, launch):
    """The container names its image by id only; its launch knows the name that was asked for."""
    image = client.image(container["Image"]) or {"Id": container["Image"]}
    name = launch.get("image") or (image.get("RepoTags") or [image["Id"]])[0]
    return {"image": name, "image_digest": image_digest(image, name)}


def _model(container, flags):
    path, commit = str(flags.get("model_path") or ""), flags.get("revision")
    if commit is None:
        return sglang_model.from_directory(path).described()
    inside = sglang_container.CONTAINER_CACHE_DIR
    sources = [mount["Source"] for mount in container.get("Mounts") or [] if mount.get("Destination") == inside]
    return sglang_model.from_cache(sources[0] if sources else inside, inside, path, str(commit)).described()


def _said(host, port, flags, timeout_seconds):
    """What the server says of itself. An endpoint that gives nothing costs a note, and nothing else.

    timeout_seconds: of one endpoint; None asks none.
    """
    said = {"health": None, "ready": False, "engine_version": None, "model_info": None, "server_info": None}
    said.update(metrics=None, notes=[])
    if timeout_seconds is None:
        return said
    said["health"] = sglang_readiness.http_status(host, port, "/health", timeout_seconds)
    said["ready"] = said["health"] == 200
    if said["health"] is None:
        said["notes"].append(f"nothing answers at {host}:{port} within {timeout_seconds:g} s")
        return said

    def ask(key, read, paths):
        try:
            said[key] = read(host, port, paths, timeout_seconds)
        except sglang_endpoints.NoAnswer as error:
            said["notes"].append(f"{key}: {error}")

    ask("model_info", sglang_endpoints.read_json, sglang_endpoints.MODEL_INFO)
    ask("server_info", sglang_endpoints.read_json, sglang_endpoints.SERVER_INFO)
    settings = said["server_info"] or flags
    if settings.get("enable_metrics"):
        ask("metrics", sglang_endpoints.read, sglang_endpoints.METRICS)
    if said["server_info"]:
        said["engine_version"] = said["server_info"].get("version")
        said["server_info"] = sglang_endpoints.without_repeats(said["server_info"])
    if said["metrics"] is not None:
        said["metrics"] = sglang_endpoints.samples(said["metrics"])
    return said
