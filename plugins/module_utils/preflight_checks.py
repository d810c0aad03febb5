# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in the way on a host: facts and wishes in, problems and notices out. Looks at nothing itself."""

from __future__ import annotations

import difflib

from ansible_collections.preheat.fleet.plugins.module_utils.preflight_findings import Findings, gigabytes
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_gpus import check_gpu_access, check_gpus

MINIMUM_API = "1.41"
ENGINE_PROBLEMS = {
    "missing": ("there is no Docker engine on this host", "install one, or set gpu_host_install_docker: true"),
    "stopped": ("the Docker engine does not answer", "start it (systemctl enable --now docker)"),
    "denied": (
        "user {user} may not use the Docker engine",
        "run the play with become: true, or add the user to the group docker (usermod -aG docker {user}) "
        "and log in again",
    ),
    "unreachable": ("nothing answers at this address", "check host and port, and that the engine listens there"),
    "unsupported": ("this kind of address is not supported", "use unix:///path/to/docker.sock or tcp://host:port"),
    "strange": ("what answers is not a Docker engine that works", "look into the engine's log (journalctl -u docker)"),
}

# The least that a pull takes: what is fetched, and its content, which is no smaller, while both are there.
PULL_FACTOR = 2


def check(params, facts):
    """Return (problems, notices), each a list of {variable, value, message, remedy}."""
    findings = Findings(params["variable_names"])
    _check_python(params, facts, findings)
    _check_clock(params, facts, findings)
    _check_engine(params, facts, findings)
    _check_images(params, facts, findings)
    _check_folders(params, facts, findings)
    _check_disks(params, facts, findings)
    _check_budget(params, facts, findings)
    check_gpus(params, facts, findings)
    check_gpu_access(params, facts, findings)
    return findings.problems, findings.notices


def _numbers(version):
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _check_python(params, facts, findings):
    version = facts["python_version"]
    if _numbers(version) < _numbers(params["python_minimum"]):
        findings.problem(
            "python",
            version,
            f"Python {version} is older than {params['python_minimum']}",
            "install a newer one and name it in ansible_python_interpreter and gpu_host_python",
        )
    can_make_venv = facts["has_venv"] or params["may_install_packages"]
    if params["venv"] and not facts["venv_exists"] and not can_make_venv:
        findings.problem(
            "venv",
            params["venv"],
            "the virtual environment is not there, and this Python has no ensurepip to make it with",
            "install the package python3-venv (Debian, Ubuntu), or set gpu_host_install_packages: true",
        )


# A busy host takes this long to start a module, and looks as if its clock were ahead by as much.
SLOW_START_SECONDS = 30


def _check_clock(params, facts, findings):
    offset, tolerance = facts["clock_offset_seconds"], params["clock_tolerance_seconds"]
    if offset is not None and not -tolerance <= offset <= tolerance + SLOW_START_SECONDS:
        findings.problem(
            "clock",
            offset,
            f"the host's clock is {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the controller's, "
            f"more than {tolerance:g} s",
            "synchronise both (chrony, systemd-timesyncd), or times of phases cannot be compared",
        )


def _check_engine(params, facts, findings):
    error = facts["docker_error"]
    if error and not (error["kind"] == "missing" and not params["docker_required"]):
        message, remedy = ENGINE_PROBLEMS[error["kind"]]
        findings.problem(
            "docker_host",
            params["docker_host"],
            f"{message.format(user=facts['user'])} ({error['detail']})",
            remedy.format(user=facts["user"]),
        )
    if facts["docker_version"] and _numbers(facts["docker_api"]) < _numbers(MINIMUM_API):
        findings.problem(
            "docker_host",
            params["docker_host"],
            f"Docker {facts['docker_version']} speaks API {facts['docker_api']}, which is older than {MINIMUM_API}",
            "install Docker 20.10 or newer",
        )


def _check_images(params, facts, findings):
    for image in params["images"]:
        state = facts["images"].get(image["name"])
        if state is None or state["present"] or (image["pull"] != "never" and not state["refusal"]):
            continue
        why = "may not be pulled" if image["pull"] == "never" else f"cannot be pulled ({state['refusal'].strip()})"
        if image["shared"] and image["pull"] != "never":
            message = f"the image is not on the host, and {why}"
            remedy = "nothing, if another host of the play can: they share it (engine_image_source)"
            findings.notice(image["variable"], image["name"], message, remedy)
            continue
        near = near_names(image["name"], facts["image_tags"])
        there = f"similar ones there: {', '.join(near)}" if near else "nothing there has a similar name"
        findings.problem(
            image["variable"],
            image["name"],
            f"the image is not on the host and {why}; {there}",
            "correct the name, bring the image there (docker load), or allow pulling it",
        )


def near_names(name, tags):
    """Up to five images of the host that may have been meant: other tags of the same, else similar spellings."""
    repository = name.rpartition(":")[0] or name
    same = [tag for tag in tags if tag.rpartition(":")[0] in (repository, name)]
    return same[:5] or difflib.get_close_matches(name, tags, n=5, cutoff=0.6)


def _check_folders(params, facts, findings):
    for variable in ("cache_dir", "root_dir"):
        folder = params[variable]
        if not folder or facts["disks"][folder]["writable"]:
            continue
        if variable == "root_dir" and facts["venv_exists"]:
            continue  # somebody else has made it, and there is nothing left to write
        existing = facts["disks"][folder]["existing"]
        findings.problem(
            variable,
            folder,
            f"user {facts['user']} may not write to {existing}",
            "run the play with become: true, change the owner, or name another folder",
        )


def _check_disks(params, facts, findings):
    """Needs of folders on one disk add up, so that is where they are compared."""
    needs = {}
    if params["cache_dir"]:
        needs["cache_dir"] = (params["cache_dir"], facts["missing_bytes"], "the model's files")
    if facts.get("docker_root_dir"):
        absent = [image for image in params["images"] if not facts["images"][image["name"]]["present"]]
        size = sum(
            max(image["size_bytes"], (facts["images"][image["name"]]["download_bytes"] or 0) * PULL_FACTOR)
            for image in absent
            if image["pull"] != "never"
        )
        needs["docker_root_dir"] = (facts["docker_root_dir"], size, "images to pull")
    by_device = {}
    for variable, (folder, needed, purpose) in needs.items():
        disk = facts["disks"][folder]
        by_device.setdefault(disk["device"], []).append((variable, folder, needed, purpose, disk["free_bytes"]))
    margin = params["disk_margin_bytes"]
    for wishes in by_device.values():
        variable, folder, _needed, _purpose, free = wishes[0]
        # Eviction makes room for models; it comes before the download (roles/model_cache).
        evictable = facts["eviction"]["evictable_bytes"] if facts["eviction"] and facts["missing_bytes"] else 0
        free += evictable if variable == "cache_dir" else 0
        total = sum(wish[2] for wish in wishes)
        if free >= total + margin:
            continue
        needed_for = ", ".join(f"{gigabytes(wish[2])} for {wish[3]} in {wish[1]}" for wish in wishes if wish[2])
        if total:
            findings.problem(
                variable,
                folder,
                f"{gigabytes(free)} {'can be' if evictable else 'are'} free where {gigabytes(total + margin)} are "
                f"needed: {needed_for}, {gigabytes(margin)} in reserve",
                "free some space, or name a folder on a larger disk",
            )
        else:
            findings.notice(
                variable,
                folder,
                f"{gigabytes(free)} are free, less than the reserve of {gigabytes(margin)}",
                "free some space: containers and compiled kernels are written there",
            )


def _check_budget(params, facts, findings):
    cache = facts["eviction"]
    if not cache:
        return
    stays = cache["size_bytes"] - cache["evictable_bytes"]
    budget = params["budget_bytes"]
    if facts["missing_bytes"] and stays + facts["missing_bytes"] > budget:
        findings.problem(
            "budget_bytes",
            budget,
            f"{gigabytes(facts['missing_bytes'])} of the model are missing, and of the {gigabytes(budget)} that models "
            f"may occupy {gigabytes(stays)} are taken by what may not be evicted (in use, needed, or used lately)",
            "raise the budget, or see with prune.yml --check what keeps each model",
        )
