# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search space of a sweep: what ``sweep_server`` means, its points, and which of them are never launched.

Pure functions on plain data; no Ansible, no I/O.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_intent import PRESET, expand, flag_of
from ansible_collections.preheat.fleet.plugins.plugin_utils import memory_fit

MAX_POINTS = 10_000
_SHAPES = (
    {"required": {"values"}, "optional": {"when"}},
    {"required": {"low", "high"}, "optional": {"step", "log", "when"}},
)
SIZES = {"tp_size", "pp_size", "dp_size"}
# All flags that the number of GPUs of a launch depends on.
GPU_FLAGS = {*SIZES, "device", "enable_dp_attention"}
JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined)


def parse(choice: Any) -> dict[str, Any]:
    """One dimension in full: ``{values, when}``, or ``{low, high, step, log, when}`` with ``step`` None if it has none.

    A range is of whole numbers when its ends and its step are. Raises ValueError for what is no dimension.
    """
    if isinstance(choice, list):
        choice = {"values": choice}
    if not isinstance(choice, dict):
        raise ValueError("is neither a list nor a range.")
    shape = _SHAPES[0] if "values" in choice else _SHAPES[1]
    if not shape["required"] <= choice.keys() <= shape["required"] | shape["optional"]:
        needed, allowed = (", ".join(sorted(shape[kind])) for kind in ("required", "optional"))
        raise ValueError(f"needs the keys {needed}, may have {allowed}, and no others.")
    when = choice.get("when")
    if when is not None and not isinstance(when, str):
        raise ValueError("has a when that is not an expression.")
    if "values" in choice:
        if not isinstance(choice["values"], list) or not choice["values"]:
            raise ValueError("has no values.")
        distinct = {json.dumps(value, sort_keys=True): value for value in choice["values"]}
        return {"values": list(distinct.values()), "when": when}
    low, high, step, log = choice["low"], choice["high"], choice.get("step"), choice.get("log")
    numbers = [low, high] if step is None else [low, high, step]
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in numbers):
        raise ValueError("has an end or a step that is not a number.")
    if log not in (None, True, False):
        raise ValueError("has a log that is not a boolean.")
    if high < low or (step is not None and step <= 0):
        raise ValueError("has no values: step must be above 0 and high at least low.")
    if log and step is not None:
        raise ValueError("has log and step: a logarithmic range has no step.")
    if log and low <= 0:
        raise ValueError("is logarithmic and must begin above 0.")
    return {"low": low, "high": high, "step": step, "log": bool(log), "when": when}


def whole(dimension: Mapping[str, Any]) -> bool:
    """Whether a parsed range is one of whole numbers."""
    return all(isinstance(dimension[key], int) for key in ("low", "high")) and isinstance(
        dimension["step"], (int, type(None))
    )


def values(choice: Any) -> list[Any]:
    """The values of one dimension that can be enumerated; of a range both ends are included.

    Decimal arithmetic keeps 0.80, 0.82, ... exact. Raises ValueError for what has no values or too many.
    """
    dimension = parse(choice)
    if "values" in dimension:
        return dimension["values"]
    step = dimension["step"]
    if step is None and not whole(dimension):
        raise ValueError("has no step, which a grid needs; the samplers random, qmc, tpe and nsga2 need none.")
    low, high, by = (Decimal(str(number)) for number in (dimension["low"], dimension["high"], step or 1))
    if (high - low) / by >= MAX_POINTS:
        raise ValueError(f"has more than {MAX_POINTS} values.")
    number = int if whole(dimension) else float
    return [number(low + by * i) for i in range(int((high - low) / by) + 1)]


def snap(dimension: Mapping[str, Any], value: Any) -> Any:
    """A sampled value as it is launched: on its step exactly, without one to 6 significant digits."""
    if "values" in dimension or whole(dimension):
        return value
    low, high = dimension["low"], dimension["high"]
    if dimension["step"] is None:
        return min(max(float(f"{value:.6g}"), low), high)
    start, by = Decimal(str(low)), Decimal(str(dimension["step"]))
    return float(start + by * round((Decimal(str(value)) - start) / by))


def contains(choice: Any, value: Any) -> bool:
    """Whether a dimension has this value."""
    dimension = parse(choice)
    if "values" in dimension:
        return json.dumps(value, sort_keys=True) in {json.dumps(v, sort_keys=True) for v in dimension["values"]}
    if isinstance(value, bool) or not isinstance(value, int if whole(dimension) else (int, float)):
        return False
    if not dimension["low"] <= value <= dimension["high"]:
        return False
    return dimension["step"] is None or (
        math.isclose(snap(dimension, value), value, rel_tol=1e-9)
        and (not whole(dimension) or (value - dimension["low"]) % dimension["step"] == 0)
    )


def active(server: dict[str, Any], name: str, params: Mapping[str, Any]) -> bool:
    """Whether a parameter is part of a point whose earlier parameters are ``params``: its ``when`` holds."""
    when = parse(server["space"][name])["when"]
    return when is None or holds(when, names(server, params))


def misfit(server: dict[str, Any], params: Mapping[str, Any]) -> str:
    """Why ``params`` are not a point of the space; empty if they are one."""
    space = server.get("space") or {}
    if unknown := sorted(params.keys() - space.keys()):
        return f"{unknown[0]} is not a parameter of sweep_server.space"
    for index, (name, choice) in enumerate(space.items()):
        earlier = {key: params[key] for key in list(space)[:index] if key in params}
        if active(server, name, earlier) != (name in params):
            return f"{name} is {'given although its when does not hold' if name in params else 'missing'}"
        if name in params and not contains(choice, params[name]):
            return f"{name} = {params[name]!r} is not in sweep_server.space"
    return ""


def grid(server: dict[str, Any]) -> list[dict[str, Any]]:
    """Every point of the space, in order, the last parameter fastest; equal launches once.

    A point is ``{number, params, server_parameters, gpus, key, kind}``; ``key`` identifies what would be launched.
    """
    chosen: list[dict[str, Any]] = [{}]
    for name, choice in (server.get("space") or {}).items():
        options = values(choice)
        chosen = [
            {**params, **given}
            for params in chosen
            for given in ([{name: option} for option in options] if active(server, name, params) else [{}])
        ]
    return numbered(make_point(server, params) for params in chosen)


def baseline(server: dict[str, Any]) -> dict[str, Any]:
    """SGLang's own choice: the base alone. As a point of the space, where that can leave out every parameter."""
    space = server.get("space") or {}
    params: dict[str, Any] = {}
    for name, choice in space.items():
        options = parse(choice).get("values", [])
        left_out = [value for value in options if _left_out(value)]
        if active(server, name, params) and left_out:
            params[name] = left_out[0]
    return make_point(server, {} if misfit(server, params) else params, "baseline")


def make_point(server: dict[str, Any], params: dict[str, Any], kind: str = "search") -> dict[str, Any]:
    flags = _flags(server, params)
    return {"params": params, "server_parameters": flags, "gpus": gpus_needed(flags), "key": point_key(flags),
            "kind": kind}  # fmt: skip


def _flags(server: dict[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """What is launched: base and ``params`` as SGLang's flags, over those of their presets."""
    return expand({**(server.get("base") or {}), **params}, server.get("presets"))


def numbered(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points with their ``number``; of equal launches the first."""
    distinct: dict[str, dict[str, Any]] = {}
    for point in points:
        distinct.setdefault(point["key"], {"number": len(distinct), **point})
    return list(distinct.values())


def _left_out(value: Any) -> bool:
    """What gives no flag (module_utils.sglang_flags): parameters that differ in nothing else are one launch."""
    return value is None or value is False or value == []


def point_key(server_parameters: dict[str, Any]) -> str:
    given = {name: value for name, value in server_parameters.items() if not _left_out(value)}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]


def gpus_needed(server_parameters: Mapping[str, Any]) -> int:
    """GPUs of one server with these flags: tensor x pipeline x data parallel size; 0 on a CPU.

    With ``enable_dp_attention`` the data-parallel ranks share the tensor-parallel GPUs.
    """
    if server_parameters.get("device") == "cpu":
        return 0

    shared = {"dp_size"} if server_parameters.get("enable_dp_attention") else set()
    return math.prod(server_parameters.get(name) or 1 for name in SIZES - shared)


def gpu_counts(server: dict[str, Any]) -> list[int]:
    """The numbers of GPUs that points of the space can need, ascending; conditions are not looked at."""
    space = server.get("space") or {}
    relevant = {name: parse(choice) | {"when": None} for name, choice in space.items() if decides_gpus(name)}
    relevant = {name: {key: v for key, v in choice.items() if v is not None} for name, choice in relevant.items()}
    return sorted({point["gpus"] for point in grid({**server, "space": relevant})})


def decides_gpus(name: str) -> bool:
    """Whether the number of GPUs of a launch may depend on this parameter."""
    return name == PRESET or flag_of(name) in GPU_FLAGS


def names(server: dict[str, Any], params: Mapping[str, Any], slot_gpus: int | None = None) -> dict[str, Any]:
    """What expressions can name: every parameter and flag (None where a point has none), and the GPUs where they are
    known.
    """
    flags = _flags(server, params)
    given = {flag for preset in (server.get("presets") or {}).values() for flag in preset}
    known = {**dict.fromkeys([*given, *(server.get("space") or {})]), **flags, **(server.get("base") or {}), **params}
    return known if slot_gpus is None else known | {"gpus": gpus_needed(flags), "slot_gpus": slot_gpus}


@functools.lru_cache(maxsize=256)
def _compiled(expression: str) -> Any:
    return JINJA.compile_expression(expression, undefined_to_none=False)


def holds(expression: str, known: Mapping[str, Any]) -> bool:
    """Whether an expression (Jinja2, sandboxed) is true of these names. Raises TemplateError, TypeError."""
    result = _compiled(expression)(**known)
    if isinstance(result, StrictUndefined):
        bool(result)  # raises UndefinedError with the name
    return bool(result)


def unfit(
    server: dict[str, Any], point: dict[str, Any], slot_gpus: int, memory: Mapping[str, Any] | None = None
) -> str:
    """Why a point is never launched; empty if it may be. The baseline is no choice that ``where`` could forbid.

    ``memory`` is what memory_fit knows of the model and the GPUs; without it nothing is refused for want of memory.
    """
    if point["gpus"] > slot_gpus:
        return f"needs {point['gpus']} GPUs, a slot has {slot_gpus}"
    for expression in [] if point["kind"] == "baseline" else server.get("where") or []:
        try:
            if not holds(expression, names(server, point["params"], slot_gpus)):
                return f"where: {expression}"
        except (TemplateError, TypeError) as exc:
            return f"where: {expression} cannot be evaluated: {exc}"
    return memory_fit.misfit(point["server_parameters"], memory) if memory else ""


def admit(
    server: dict[str, Any],
    points: Iterable[dict[str, Any]],
    slot_gpus: int,
    memory: Mapping[str, Any] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split points into those to launch and infeasible ones (each with its ``reason``)."""
    feasible, infeasible = [], []
    for point in points:
        if reason := unfit(server, point, slot_gpus, memory):
            infeasible.append({**point, "reason": reason})
        else:
            feasible.append(point)
    return feasible, infeasible
