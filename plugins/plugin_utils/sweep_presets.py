# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``preset`` means in a sweep: in the base, as a choice of the space, or as a space of its own.

Pure functions on plain data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_help
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_intent import (
    PRESET,
    PRESETS,
    SPACES,
    expand,
    flag_of,
    preset_names,
    value_of,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, did_you_mean, problem


def resolve(server: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """``sweep_server`` with every preset that it uses spelled out, and what is wrong with them.

    ``presets`` becomes the flags of those used, ``{name: {flag: value}}``. A single name as ``space.preset`` gives way
    to the parameters that this preset searches, less those that the sweep sets itself.
    """
    base, space = dict(server.get("base") or {}), dict(server.get("space") or {})
    known, used, found = {**PRESETS, **(server.get("presets") or {})}, set(), []
    dimension = space.get(PRESET)
    if isinstance(dimension, str):
        space = _searched(base, space)
        if dimension not in SPACES:
            remedy = f"{did_you_mean(dimension, SPACES)} A list of presets makes them a choice."
            found.append(problem(_variable("space"), dimension, "is no preset that has a space.", remedy))
    elif dimension is not None and not _choices(dimension):
        remedy = "Give a list of presets, or the name of one to search its space."
        found.append(problem(_variable("space"), dimension, "is no choice of presets.", remedy))
    for part, choices in (("base", [base.get(PRESET)]), ("space", _choices(space.get(PRESET)))):
        for name in (name for choice in choices for name in preset_names(choice)):
            used.add(name)
            if name not in known:
                found.append(problem(_variable(part), name, "is no preset.", did_you_mean(name, known)))
    presets = {}
    for name in sorted(used & known.keys()):
        try:
            presets[name] = expand(known[name], {})
        except (ValueError, AttributeError):
            remedy = "Give flags and their values, each flag once, and no further preset."
            found.append(problem(f"sweep_server.presets.{name}", known[name], "is not flags.", remedy))
    if found:  # so that what else is wrong can be looked for
        base.pop(PRESET, None)
        space.pop(PRESET, None)
    return {**server, "base": base, "space": space, "presets": presets}, found


def _variable(part: str) -> str:
    return f"sweep_server.{part}.{PRESET}"


def _choices(dimension: Any) -> list[Any]:
    """The values of a parameter that are listed."""
    values = dimension.get("values") if isinstance(dimension, Mapping) else dimension
    return values if isinstance(values, list) else []


def _searched(base: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    """The space with a preset's own in the place of its name."""
    already = {flag_of(name) for name in [*base, *space]}
    found: dict[str, Any] = {}
    for name, choice in space.items():
        own = SPACES.get(choice, {}) if name == PRESET else {}
        found |= {flag: values for flag, values in own.items() if flag not in already}
        found |= {} if name == PRESET else {name: choice}
    return found


def fit_to_image(
    plan: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any] | None]
) -> tuple[dict[str, Any], list[Problem], list[Problem]]:
    """The plan's ``server`` with the presets' flags that every host's image takes; problems; what is good to know.

    ``answers``: what sglang_flag_info said by host, None where it was not asked yet. What the sweep names itself and an
    image refuses is a problem; what one of preheat's presets gives is left out.
    """
    found: list[Problem] = []
    notices: list[Problem] = []
    server, image = plan["server"], plan["image"]
    presets = {name: dict(flags) for name, flags in (server.get("presets") or {}).items()}
    same: dict[int, list[str]] = {}  # hosts by what they answered: as a rule all have the same image
    for host, answer in answers.items():
        if answer is None:
            message = "The flags that it accepts are checked when the host has it and preheat's Python."
            notices.append(problem("sweep_image", image, message, "", host))
        elif answer.get("flags"):
            same.setdefault(id(answer), []).append(host)
        else:
            why = str(answer.get("reason") or answer.get("msg") or "no answer").rstrip(".")
            message = f"The flags that it accepts are not known, so that a wrong one fails at its launch: {why}."
            notices.append(problem("sweep_image", image, message, "", host))
    for hosts in same.values():
        flags = (answers[hosts[0]] or {})["flags"]
        for variable, value, (message, remedy) in _refused(server, flags):
            found += [problem(variable, value, message, remedy, host) for host in hosts]
        for name, flag, value, (message, remedy) in _refused_of_presets(server, flags):
            variable = f"sweep_server.presets.{name}.{flag}"
            if PRESETS.get(name, {}).get(flag) != value:  # the sweep's own
                found += [problem(variable, value, message, remedy, host) for host in hosts]
            elif presets[name].pop(flag, None) is not None:
                notices += [problem(variable, value, message, "The preset goes without it.", host) for host in hosts]
    return {**server, "presets": presets}, found, notices


def _refused_of_presets(
    server: Mapping[str, Any], flags: list[dict[str, Any]]
) -> Iterator[tuple[str, str, Any, tuple[str, str]]]:
    for name, given in (server.get("presets") or {}).items():
        for flag, value in given.items():
            if wrong := sglang_help.wrong(flags, flag, value):
                yield name, flag, value, wrong


def _refused(server: Mapping[str, Any], flags: list[dict[str, Any]]) -> Iterator[tuple[str, Any, tuple[str, str]]]:
    """``(variable, value, (message, remedy))`` for everything that the sweep names and this image refuses."""
    given = [("base", name, [value]) for name, value in (server.get("base") or {}).items()]
    for name, choice in (server.get("space") or {}).items():
        ends = [choice["low"]] if isinstance(choice, Mapping) and "low" in choice else _choices(choice)
        given.append(("space", name, ends))
    for part, name, values in given:
        messages = set()
        for value in values if name != PRESET else []:
            wrong = sglang_help.wrong(flags, flag_of(name), value_of(name, value))
            if wrong and wrong[0] not in messages:
                messages.add(wrong[0])
                yield f"sweep_server.{part}.{name}", value, wrong


def preset_lines(server: Mapping[str, Any]) -> list[str]:
    """What each preset of a sweep stands for, as lines to read."""
    return [
        f"preset {name}: " + (", ".join(f"{flag} = {value}" for flag, value in flags.items()) or "no flag")
        for name, flags in (server.get("presets") or {}).items()
    ]
