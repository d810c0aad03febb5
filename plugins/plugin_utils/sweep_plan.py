# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a sweep: its variables checked, its slots counted.

Pure functions on plain data. The single source of names and types is the argument specification of the roles.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    libraries,
    study_postgresql,
    sweep_presets,
    sweep_search,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, did_you_mean, problem
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_objective import (
    check_goodput,
    check_objective,
    check_slo,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_workloads import check_limits, check_workloads

ROLES = Path(__file__).parents[2] / "roles"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
# What makes two sweeps different ones: their trials cannot stand in one table.
IDENTITY = ("model", "image", "environment", "workloads")


def missing_libraries() -> list[Problem]:
    """Found before anything is downloaded, and not after hours when the report is built."""
    missing = libraries.missing(libraries.SWEEP)
    if not missing:
        return []
    return [problem("ansible_playbook_python", sys.executable, f"lacks {missing}.", libraries.REMEDY)]


def role_options(role: str, roles: Path = ROLES) -> dict[str, Any]:
    """The options of every entry point of a role, from its argument specification."""
    specs = yaml.safe_load((roles / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    return {name: option for entry in specs.values() for name, option in (entry.get("options") or {}).items()}


def unknown_variables(variables: Mapping[str, Iterable[str]], roles: Path = ROLES) -> list[Problem]:
    """Variables (``{host: names}``) that start like a role's but that no role documents."""
    names = sorted(path.name for path in roles.iterdir() if (path / "meta" / "argument_specs.yml").is_file())
    known = {option for role in names for option in role_options(role, roles)}
    prefixes = tuple(f"{name}_" for name in names)
    return [
        problem(name, "", "is not a variable of preheat.", did_you_mean(name, _same_role(name, known, names)), host)
        for host, given in variables.items()
        for name in sorted(given)
        if name.startswith(prefixes) and name not in known
    ]


def _same_role(name: str, known: set[str], roles: list[str]) -> list[str]:
    role = max((role for role in roles if name.startswith(f"{role}_")), key=len)
    return [option for option in known if option.startswith(f"{role}_")]


def check_types(options: dict[str, Any], given: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Types, required options and unknown keys, by Ansible's own validator; returns the coerced values."""
    coerced, found = {}, []
    for name, option in options.items():
        value = given.get(name)
        items = value if option.get("elements") == "dict" and isinstance(value, list) else None
        if items is not None:  # one at a time: the validator does not say which element is wrong
            entry = {key: option[key] for key in ("options",) if key in option}
            parts = [_validate(f"{name}[{i}]", {**entry, "type": "dict"}, item) for i, item in enumerate(items)]
            coerced[name] = [part for part, _problems in parts]
            found += [item for _part, problems in parts for item in problems]
        else:
            coerced[name], problems = _validate(name, option, value)
            found += problems
    return coerced, found


def _validate(name: str, option: dict[str, Any], value: Any) -> tuple[Any, list[Problem]]:
    result = ArgumentSpecValidator({name: option}).validate({name: value} if value is not None else {})
    found = []
    for message in result.error_messages:
        if "missing required arguments" in message and value is None:
            found.append(problem(name, value, "is missing.", "Give a sweep file: -e @sweeps/NAME.yml."))
        else:
            remedy = "See what is allowed: ansible-doc -t role preheat.fleet.sweep."
            found.append(problem(name, value, f"{message.removesuffix('.')}.", remedy))
    return result.validated_parameters.get(name), found


def check_sweep(sweep: dict[str, Any]) -> list[Problem]:
    """Rules across the fields of a sweep whose types are right already (names without the prefix ``sweep_``)."""
    found = []
    if not _NAME.match(sweep["name"]):
        found.append(
            problem("sweep_name", sweep["name"], "cannot be a folder's name.", "Use letters, digits, '.', '_', '-'.")
        )
    if sweep["host_failures_max"] < 0:
        value, remedy = sweep["host_failures_max"], "Give a whole number; 0 sets no host aside."
        found.append(problem("sweep_host_failures_max", value, "is below 0.", remedy))
    if sweep["storage"]:
        found += study_postgresql.check_url(sweep["storage"])
    workloads = check_workloads(sweep["workloads"])
    found += workloads
    objective, slo = check_objective(sweep["objective"]), check_slo(sweep["slo"])
    found += objective + slo
    if not objective and not slo:
        found += check_goodput(sweep["objective"], sweep["slo"])
    if not objective and not slo and not workloads:
        found += check_limits(sweep["workloads"], sweep["objective"], sweep["slo"])
    server, presets = sweep_presets.resolve(sweep["server"])
    found += presets + sweep_search.check(server, sweep["search"], 1 + len(sweep["objective"].get("also") or []))
    return found


def repeated(points: list[dict[str, Any]], repeats: int) -> list[dict[str, Any]]:
    """Every workload point ``repeats`` times on the same launch, one round after the other, each with its own prompts.

    A round is a measurement of all that the objective needs, so that drift within a launch shows as noise between
    rounds. Further rounds have ``~2``, ``~3``... behind the point's label.
    """
    return [
        {**point, "point": f"{point['point']}~{index + 1}" if index else point["point"], "seed": point["seed"] + index}
        for index in range(repeats)
        for point in points
    ]


def same_sweep(plan: dict[str, Any], earlier: dict[str, Any]) -> list[Problem]:
    """What forbids this plan to go on in the results of an earlier one of the same name."""
    return [
        problem(f"sweep_{key}", plan[key], f"differs from the sweep in results/{plan['name']}: {earlier.get(key)}.",
                "Choose another sweep_name, or restore the earlier value.")
        for key in IDENTITY
        if json.dumps(plan[key], sort_keys=True) != json.dumps(earlier.get(key), sort_keys=True)
    ]  # fmt: skip
