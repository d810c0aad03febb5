# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What preflight finds on the host: disks, the model's missing bytes, Python, GPUs, the engine. Changes nothing."""

from __future__ import annotations

import getpass
import importlib.util
import os
import platform

from ansible_collections.preheat.fleet.plugins.module_utils import hf_prune, hf_use
from ansible_collections.preheat.fleet.plugins.module_utils.gpu_inventory import inventory
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import folder_name
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_engine import EngineError, engine_facts


def gather(params, host_time):
    """All facts that the checks look at."""
    facts = {
        "user": _user(),
        "python_version": platform.python_version(),
        "has_venv": importlib.util.find_spec("ensurepip") is not None,
        "venv_exists": bool(params["venv"]) and os.access(os.path.join(params["venv"], "bin", "python"), os.X_OK),
        "clock_offset_seconds": None,
        "missing_bytes": missing_bytes(params),
        "eviction": None,
        "docker_version": None,
        "docker_error": None,
        "images": {},
        "image_tags": [],
    }
    if params["controller_time"] is not None:
        facts["clock_offset_seconds"] = round(host_time - params["controller_time"], 3)
    if params["docker_host"]:
        try:
            names = [image["name"] for image in params["images"]]
            login = (params["registry_username"], params["registry_password"])
            facts.update(engine_facts(params["docker_host"], names, login if all(login) else None))
            facts["eviction"] = eviction(params, host_time)
        except EngineError as error:
            facts["docker_error"] = {"kind": error.kind, "detail": error.detail}
    gpu = inventory()
    facts["gpus"] = gpu.pop("gpus")
    facts.update({f"gpu_{key}": value for key, value in gpu.items()})
    folders = [params["cache_dir"], params["root_dir"], facts.get("docker_root_dir")]
    facts["disks"] = {folder: disk(folder) for folder in folders if folder}
    return facts


def _user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return str(os.getuid())


def missing_bytes(params):
    """Bytes of the model that are not in the cache yet.

    Only a blob of the right size counts as there. Without a list of blobs nothing can be subtracted.
    """
    if not params["blobs"]:
        return params["disk_needed_bytes"]
    folder = os.path.join(params["cache_dir"] or "", folder_name(params["repo_id"] or ""), "blobs")
    sizes = {blob["etag"]: blob["size"] for blob in params["blobs"]}
    return sum(size for etag, size in sizes.items() if _size(os.path.join(folder, etag)) != size)


def eviction(params, now):
    """Bytes of the models in the cache, and how many of them may be evicted for others; None without a budget.

    None also where the cache may not be read. Raises EngineError.
    """
    if not (params["budget_bytes"] and params["cache_dir"]):
        return None
    limits = hf_prune.Limits(
        budget_bytes=params["budget_bytes"], keep_used_within_seconds=params["keep_used_within_seconds"]
    )
    containers = hf_use.containers(params["docker_host"], params["ignore_containers"])
    try:
        plan = hf_prune.plan(params["cache_dir"], limits, params["keep"], containers, now)
    except OSError:
        return None
    return {"size_bytes": plan.size_bytes, "evictable_bytes": plan.evictable_bytes}


def _size(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def disk(folder):
    """Free space where a folder is or will be, and whether this user may write there."""
    existing = os.path.abspath(folder)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    space = os.statvfs(existing)
    return {
        "free_bytes": space.f_bavail * space.f_frsize,
        "total_bytes": space.f_blocks * space.f_frsize,
        "device": os.stat(existing).st_dev,
        "existing": existing,
        "writable": os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK),
    }
