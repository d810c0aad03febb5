# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search space of a sweep: from ``sweep_server`` to the list of points that will be launched.

Pure functions on plain data; no Ansible, no I/O.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from decimal import Decimal
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_container import check_environment
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_flags import flag_arguments
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, did_you_mean, problem

MAX_POINTS = 10_000
_FLAG = re.compile(r"[a-z][a-z0-9_]*\Z")
_RANGE_KEYS = {"low", "high", "step"}
_SIZES = {
    "tp_size", "tensor_parallel_size", "pp_size", "pipeline_parallel_size", "dp_size", "data_parallel_size"
}  # fmt: skip
_JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined)


def check_space(server: dict[str, Any]) -> list[Problem]:
    """Everything wrong with ``sweep_server`` that can be seen without a host."""
    found = []
    base, space = server.get("base") or {}, server.get("space") or {}
    for name, value in base.items():
        found += _check_flag(f"sweep_server.base.{name}", name, [value])
    for name, choice in space.items():
        found += _check_flag(f"sweep_server.space.{name}", name, choice if isinstance(choice, list) else [])
    found += _check_environment(server.get("environment") or {})
    for name in sorted(base.keys() & space.keys()):
        found.append(
            problem(f"sweep_server.base.{name}", base[name], "is in base and in space.", "Keep one of the two.")
        )
    for name, choice in space.items():
        try:
            values(choice)
        except ValueError as exc:
            remedy = "Give a list of values or {low, high, step}; a constant belongs in sweep_server.base."
            found.append(problem(f"sweep_server.space.{name}", choice, str(exc), remedy))
    for name in sorted(_SIZES & {*base, *space}):
        for value in [base[name]] if name in base else [] if found else values(space[name]):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                part = "base" if name in base else "space"
                variable = f"sweep_server.{part}.{name}"
                found.append(problem(variable, value, "is not a number of GPUs.", "Give a whole number from 1."))
    if found:
        return found
    count = math.prod(len(values(choice)) for choice in space.values())
    if count > MAX_POINTS:
        remedy = f"Narrow it to {MAX_POINTS} points or fewer."
        return [problem("sweep_server.space", f"{count} points", "is too large for a grid.", remedy)]
    return _check_where(server)


def _check_flag(variable: str, name: str, given: list[Any]) -> list[Problem]:
    """What the module that launches would refuse. The value is not shown: it may be the secret that is refused."""
    if not _FLAG.match(str(name)):
        return [problem(variable, name, "is not an SGLang flag.", "Write the flag with underscores: tp_size.")]
    try:
        for value in [None, *given]:
            flag_arguments({name: value})
    except ValueError as exc:
        message = str(exc).removeprefix(f"parameters.{name}: ")
        return [problem(variable, name, message, "Change or remove it.")]
    return []


def _check_environment(environment: dict[str, Any]) -> list[Problem]:
    try:
        check_environment(environment)
    except ValueError as exc:
        return [problem("sweep_server.environment", sorted(environment), str(exc), "Remove it.")]
    return []


def _check_where(server: dict[str, Any]) -> list[Problem]:
    found = []
    sample = next(iter(grid(server)))
    known = sorted({*sample["server_parameters"], "slot_gpus", "gpus"})
    for index, expression in enumerate(server.get("where") or []):
        try:
            holds(expression, sample, slot_gpus=max(1, sample["gpus"]))
        except TemplateError as exc:
            variable = f"sweep_server.where[{index}]"
            undefined = re.search(r"'(\w+)' is undefined", str(exc))
            remedy = did_you_mean(undefined[1], known) if undefined else f"Names that can be used: {', '.join(known)}."
            found.append(problem(variable, expression, f"cannot be evaluated: {exc}.", remedy))
        except TypeError as exc:
            found.append(problem(f"sweep_server.where[{index}]", expression, f"{exc}.", "Compare values of one type."))
    return found


def values(choice: Any) -> list[Any]:
    """The values of one dimension: a list, or ``{low, high, step}`` with both ends included.

    Decimal arithmetic keeps 0.80, 0.82, ... exact. Raises ValueError for anything else.
    """
    if isinstance(choice, list):
        if not choice:
            raise ValueError("has no values.")
        return list({json.dumps(value, sort_keys=True): value for value in choice}.values())
    if isinstance(choice, dict):
        if set(choice) != _RANGE_KEYS:
            raise ValueError(f"needs the keys {', '.join(sorted(_RANGE_KEYS))} and no others.")
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in choice.values()):
            raise ValueError("has an end or a step that is not a number.")
        low, high, step = (Decimal(str(choice[key])) for key in ("low", "high", "step"))
        if step <= 0 or high < low:
            raise ValueError("has no values: step must be above 0 and high at least low.")
        if (high - low) / step >= MAX_POINTS:
            raise ValueError(f"has more than {MAX_POINTS} values.")
        whole = all(isinstance(choice[key], int) for key in _RANGE_KEYS)
        return [(int if whole else float)(low + step * i) for i in range(int((high - low) / step) + 1)]
    raise ValueError("is neither a list nor a range.")


def grid(server: dict[str, Any]) -> list[dict[str, Any]]:
    """Every point of the space, in order, the last parameter fastest; equal launches once.

    A point is ``{number, params, server_parameters, gpus, key}``; ``key`` identifies what would be launched.
    """
    base, space = server.get("base") or {}, server.get("space") or {}
    points: dict[str, dict[str, Any]] = {}
    for chosen in itertools.product(*(values(choice) for choice in space.values())):
        params = dict(zip(space, chosen, strict=True))
        merged = {**base, **params}
        key = point_key(merged)
        points.setdefault(
            key, {"number": len(points), "params": params, "server_parameters": merged,
                  "gpus": gpus_needed(merged), "key": key},
        )  # fmt: skip
    return list(points.values())


def point_key(server_parameters: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(server_parameters, sort_keys=True).encode()).hexdigest()[:16]


def gpus_needed(server_parameters: dict[str, Any]) -> int:
    """GPUs of one server: tensor x pipeline x data parallel size; 0 on a CPU.

    With ``enable_dp_attention`` the data-parallel ranks share the tensor-parallel GPUs.
    """
    if server_parameters.get("device") == "cpu":
        return 0

    def size(*names: str) -> int:
        return next((server_parameters[n] for n in names if server_parameters.get(n) is not None), 1)

    dp = 1 if server_parameters.get("enable_dp_attention") else size("dp_size", "data_parallel_size")
    return size("tp_size", "tensor_parallel_size") * size("pp_size", "pipeline_parallel_size") * dp


def holds(expression: str, point: dict[str, Any], slot_gpus: int) -> bool:
    """Whether a ``where`` expression (Jinja2, sandboxed) is true of a point. Raises TemplateError, TypeError."""
    names = {**point["server_parameters"], "gpus": point["gpus"], "slot_gpus": slot_gpus}
    result = _JINJA.compile_expression(expression, undefined_to_none=False)(**names)
    if isinstance(result, StrictUndefined):
        bool(result)  # raises UndefinedError with the name
    return bool(result)


def admit(server: dict[str, Any], slot_gpus: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split the grid into points to launch and infeasible ones (each with its ``reason``)."""
    feasible, infeasible = [], []
    for point in grid(server):
        if point["gpus"] > slot_gpus:
            reason = f"needs {point['gpus']} GPUs, a slot has {slot_gpus}"
        else:
            broken = [e for e in server.get("where") or [] if not holds(e, point, slot_gpus)]
            reason = f"where: {broken[0]}" if broken else ""
        if reason:
            infeasible.append({**point, "reason": reason})
        else:
            feasible.append(point)
    return feasible, infeasible
