# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with ``sweep_server``. Pure functions on plain data."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from jinja2 import TemplateError, meta

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_container import check_environment
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_flags import flag_arguments
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_intent import PRESET, flag_of
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, did_you_mean, problem
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_space import (
    JINJA,
    MAX_POINTS,
    SIZES,
    decides_gpus,
    holds,
    names,
    parse,
    values,
)

_FLAG = re.compile(r"[a-z][a-z0-9_]*\Z")
_REMEDY = (
    "Give a list of values or {low, high, step, log}; with a condition {values, when} or {low, high, when}; a "
    "constant belongs in sweep_server.base."
)


def check_space(server: dict[str, Any], sampler: str = "grid") -> list[Problem]:
    """Everything wrong with ``sweep_server`` that can be seen without a host."""
    found = []
    base, space = server.get("base") or {}, server.get("space") or {}
    for name, value in base.items():
        found += _check_flag(f"sweep_server.base.{name}", name, [value])
    for name, choice in space.items():
        given = choice.get("values") if isinstance(choice, dict) else choice
        found += _check_flag(f"sweep_server.space.{name}", name, given if isinstance(given, list) else [])
    for preset, flags in (server.get("presets") or {}).items():
        for name, value in flags.items():
            found += _check_flag(f"sweep_server.presets.{preset}.{name}", name, [value])
    found += _check_environment(server.get("environment") or {})
    found += _check_spelling(base, space)
    for name, choice in space.items():
        try:
            # What is enumerated: all of a grid, and always what decides how many GPUs a launch needs.
            (values if sampler == "grid" or decides_gpus(name) else parse)(choice)
        except ValueError as exc:
            found.append(problem(f"sweep_server.space.{name}", choice, str(exc), _REMEDY))
    for name in sorted(name for name in {*base, *space} if flag_of(name) in SIZES):
        for value in [base[name]] if name in base else [] if found else values(space[name]):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                part = "base" if name in base else "space"
                variable = f"sweep_server.{part}.{name}"
                found.append(problem(variable, value, "is not a number of GPUs.", "Give a whole number from 1."))
    if found:
        return found
    count = math.prod(len(values(choice)) for choice in space.values()) if sampler == "grid" else 0
    if count > MAX_POINTS:
        remedy = f"Narrow it to {MAX_POINTS} points or fewer, or let sweep_search.sampler tpe choose."
        return [problem("sweep_server.space", f"{count} points", "is too large for a grid.", remedy)]
    return []


def _check_spelling(base: dict[str, Any], space: dict[str, Any]) -> list[Problem]:
    """A parameter has one place and one name."""
    found = []
    places: dict[str, tuple[str, str]] = {}
    for part, name, value in [("base", *item) for item in base.items()] + [("space", *item) for item in space.items()]:
        earlier, other = places.setdefault(flag_of(name), (part, name))
        if other != name:
            message = f"is the same flag as sweep_server.{earlier}.{other}."
            found.append(problem(f"sweep_server.{part}.{name}", value, message, "Keep one of the two."))
        elif earlier != part:
            message = "is in base and in space."
            found.append(problem(f"sweep_server.base.{name}", base[name], message, "Keep one of the two."))
    return found


def _check_flag(variable: str, name: str, given: list[Any]) -> list[Problem]:
    """What the module that launches would refuse. The value is not shown: it may be the secret that is refused."""
    if name == PRESET:
        return []
    if not _FLAG.match(str(name)):
        return [problem(variable, name, "is not an SGLang flag.", "Write the flag with underscores: tp_size.")]
    try:
        for value in [None, *given]:
            flag_arguments({flag_of(name): value})
    except ValueError as exc:
        message = str(exc).removeprefix(f"parameters.{flag_of(name)}: ")
        return [problem(variable, name, message, "Change or remove it.")]
    return []


def _check_environment(environment: dict[str, Any]) -> list[Problem]:
    try:
        check_environment(environment)
    except ValueError as exc:
        return [problem("sweep_server.environment", sorted(environment), str(exc), "Remove it.")]
    return []


def check_whens(server: dict[str, Any]) -> list[Problem]:
    """The ``when`` expressions that are none, or that name anything but the base and earlier parameters."""
    found = []
    known = sorted(server.get("base") or {})
    for name, choice in (server.get("space") or {}).items():
        when = parse(choice)["when"]
        variable = f"sweep_server.space.{name}.when"
        try:
            named = meta.find_undeclared_variables(JINJA.parse("{{ " + when + " }}")) if when is not None else set()
        except TemplateError as exc:
            found.append(problem(variable, when, f"is no expression: {exc}.", "Give a condition such as: tp_size > 1."))
        else:
            for unknown in sorted(named - set(known)):
                remedy = f"A when can name the base and earlier parameters. {did_you_mean(unknown, known)}"
                found.append(problem(variable, when, f"names {unknown}.", remedy))
        known.append(name)
    return found


def check_conditions(server: dict[str, Any], points: Iterable[dict[str, Any]]) -> list[Problem]:
    """The ``where`` expressions that cannot be evaluated for some of ``points``; each is said once."""
    broken: dict[int, Problem] = {}
    for sample in points:
        for index, expression in enumerate(server.get("where") or []):
            variable = f"sweep_server.where[{index}]"
            if index not in broken and (wrong := _condition_problem(server, variable, expression, sample)):
                broken[index] = wrong
    return [broken[index] for index in sorted(broken)]


def _condition_problem(
    server: dict[str, Any], variable: str, expression: str, sample: dict[str, Any]
) -> Problem | None:
    known = names(server, sample["params"], slot_gpus=max(1, sample["gpus"]))
    try:
        holds(expression, known)
    except TemplateError as exc:
        undefined = re.search(r"'(\w+)' is undefined", str(exc))
        remedy = did_you_mean(undefined[1], known) if undefined else f"Names that can be used: {', '.join(known)}."
        return problem(variable, expression, f"cannot be evaluated: {exc}.", remedy)
    except TypeError as exc:
        remedy = "Compare values of one type; a parameter whose condition does not hold is none."
        return problem(variable, expression, f"{exc}, for {sample['params']}.", remedy)
    return None
