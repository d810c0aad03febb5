# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workloads of a sweep: checked, and spelled out into points. Pure functions on plain data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics
from ansible_collections.preheat.fleet.plugins.plugin_utils import find_max, sweep_objective
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, problem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_SHORT = {"concurrency": "c", "request_rate": "r"}
# Requests at a time that compile what a batch needs, where nobody says how many there will be.
_WARMUP_AT_A_RATE = 8


def check_workloads(workloads: list[dict[str, Any]]) -> list[Problem]:
    """All that is wrong with ``sweep_workloads``, whose types are right already."""
    found = []
    if not workloads:
        found.append(problem("sweep_workloads", workloads, "is empty.", "Describe at least one workload."))
    seen: set[str] = set()
    for index, workload in enumerate(workloads):
        at = f"sweep_workloads[{index}]"
        name = workload["name"]
        if not _NAME.match(name):
            found.append(problem(f"{at}.name", name, "cannot be a file's name.", "Use letters, digits, '.', '_', '-'."))
        if name in seen:
            found.append(problem(f"{at}.name", name, "is used twice.", "Give every workload its own name."))
        seen.add(name)
        for key in ("input_tokens", "output_tokens", "num_prompts"):
            if workload.get(key) is not None and workload[key] < 1:
                found.append(problem(f"{at}.{key}", workload[key], "is below 1.", "Give a whole number from 1."))
        found += _check_load(at, workload) + _check_prompts(at, workload)
    return found


def _check_load(at: str, workload: Mapping[str, Any]) -> list[Problem]:
    loads = {key: workload[key] for key in (*find_max.OVER, "find_max") if workload.get(key)}
    if len(loads) != 1:
        remedy = "Give one of them: a number or a list of numbers; or what find_max is to look for."
        message = "needs either concurrency, request_rate or find_max."
        return [problem(at, sorted(loads) or workload["name"], message, remedy)]
    if "find_max" in loads:
        return _check_find_max(f"{at}.find_max", loads["find_max"])
    found = [
        problem(f"{at}.{key}", number, "is not above 0.", "Give numbers above 0.")
        for key, numbers in loads.items()
        for number in numbers
        if number <= 0
    ]
    prompts, most = workload.get("num_prompts"), max(loads.get("concurrency") or [0])
    if prompts and prompts < most:
        remedy = f"Give at least {most}, better {4 * most}, or leave it out."
        found.append(problem(f"{at}.num_prompts", prompts, f"never has {most} requests in flight.", remedy))
    return found


def _check_find_max(at: str, spec: Mapping[str, Any]) -> list[Problem]:
    found = []
    whole = spec["over"] == "concurrency"
    for key in ("low", "high"):
        if spec[key] <= 0 or (whole and spec[key] != int(spec[key])):
            remedy = f"Give a {'whole ' if whole else ''}number above 0."
            found.append(problem(f"{at}.{key}", spec[key], f"is no {spec['over']}.", remedy))
    if not found and spec["low"] >= spec["high"]:
        found.append(problem(f"{at}.high", spec["high"], f"is not above low={spec['low']:g}.", "Give a range."))
    if not 0 < spec["tolerance"] < 1:
        remedy = "Give a fraction of the answer such as 0.1."
        found.append(problem(f"{at}.tolerance", spec["tolerance"], "is not between 0 and 1.", remedy))
    if spec["max_probes"] < 2:
        remedy = "Give at least 2: the answer is measured twice."
        found.append(problem(f"{at}.max_probes", spec["max_probes"], "is too few.", remedy))
    limits = sweep_objective.check_slo(spec.get("slo"))
    return found + [{**item, "variable": item["variable"].replace("sweep_slo", f"{at}.slo", 1)} for item in limits]


def _check_prompts(at: str, workload: Mapping[str, Any]) -> list[Problem]:
    """Where the prompts come from, and how long they and their answers are."""
    found = []
    dataset, file, prefix = (workload.get(key) for key in ("dataset", "dataset_file", "shared_prefix"))
    generated = dataset == "random-ids"
    if file and generated:
        remedy = "Say what is in the file: dataset sharegpt, custom or random."
        found.append(problem(f"{at}.dataset", dataset, "reads no dataset_file.", remedy))
    elif not file and not generated:
        remedy = "Give the path of its file on the controller; hosts download no prompts."
        found.append(problem(f"{at}.dataset_file", file, f"is missing for dataset={dataset}.", remedy))
    elif file and not Path(file).expanduser().is_file():
        found.append(problem(f"{at}.dataset_file", file, "is no file on the controller.", "Give the path of a file."))
    natural = dataset in ("sharegpt", "custom")
    for key in ("input_tokens", "output_tokens"):
        if workload.get(key) is None and not natural:
            found.append(
                problem(f"{at}.{key}", None, "is missing.", "Only sharegpt and custom have lengths of their own.")
            )
    if natural and workload.get("input_tokens") is not None:
        remedy = "Leave it out: prompts are as long as they are."
        found.append(problem(f"{at}.input_tokens", workload["input_tokens"], f"means nothing to {dataset}.", remedy))
    if natural and (workload.get("output_tokens") or 4) < 4:
        remedy = "Give at least 4, or leave it out for answers as long as in the file."
        found.append(problem(f"{at}.output_tokens", workload["output_tokens"], "is refused by bench_serving.", remedy))
    ratio = workload.get("range_ratio", 1.0)
    if not 0 <= ratio <= 1:
        found.append(problem(f"{at}.range_ratio", ratio, "is not between 0 and 1.", "1 stands for equal lengths."))
    elif ratio != 1 and natural:
        found.append(problem(f"{at}.range_ratio", ratio, f"means nothing to {dataset}.", "Leave it out."))
    if prefix:
        found += _check_prefix(f"{at}.shared_prefix", prefix, workload)
    return found


def _check_prefix(at: str, prefix: Mapping[str, Any], workload: Mapping[str, Any]) -> list[Problem]:
    found = [
        problem(f"{at}.{key}", prefix[key], "is below 1.", "Give a whole number from 1.")
        for key in ("tokens", "groups")
        if prefix[key] < 1
    ]
    if workload.get("dataset") != "random-ids" or workload.get("range_ratio", 1.0) != 1:
        found.append(problem(at, dict(prefix), "goes with equal lengths and no dataset.", "Remove one of them."))
    elif workload.get("input_tokens") is not None and prefix["tokens"] >= workload["input_tokens"]:
        remedy = "input_tokens are those of the whole prompt; the prefix is a part of it."
        found.append(problem(f"{at}.tokens", prefix["tokens"], "leaves nothing that is not shared.", remedy))
    return found


def check_limits(
    workloads: list[dict[str, Any]], objective: Mapping[str, Any], slo: Mapping[str, Any] | None
) -> list[Problem]:
    """What find_max looks for, against the SLOs and the objective, which are valid already."""
    found = []
    for index, workload in enumerate(workloads):
        if workload.get("find_max") and not _limits(workload["find_max"], slo):
            remedy = "Add a hard limit to sweep_slo, or slo here: {ttft_p99_seconds: {max: 1.0}}."
            at = f"sweep_workloads[{index}].find_max.slo"
            found.append(problem(at, None, "is missing, and sweep_slo has no hard limit.", remedy))
    for one in (objective, *(objective.get("also") or [])):
        over = bench_metrics.FOUND.get(one["metric"].removesuffix(bench_metrics.PER_GPU))
        others = [w["name"] for w in workloads if (w.get("find_max") or {}).get("over") != over]
        if over and others:
            remedy = f"Give every workload find_max: {{over: {over}, ...}}, or choose another metric."
            message = f"is not measured by {', '.join(others)}."
            found.append(problem("sweep_objective.metric", one["metric"], message, remedy))
    return found


def _limits(spec: Mapping[str, Any], slo: Mapping[str, Any] | None) -> dict[str, Any]:
    own = spec.get("slo")
    return dict(own) if own else {metric: limit for metric, limit in (slo or {}).items() if limit.get("hard")}


def resolved(workloads: list[dict[str, Any]], slo: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The workloads with all that makes their results comparable: limits of find_max, hashes of dataset files.

    Reads the dataset files. Both belong to the sweep: a plan that differs in them is another sweep.
    """
    found = []
    for given in workloads:
        workload = dict(given)
        if workload.get("find_max"):
            workload["find_max"] = {**workload["find_max"], "slo": _limits(workload["find_max"], slo)}
        if workload.get("dataset_file"):
            path = Path(workload["dataset_file"]).expanduser().resolve()
            with path.open("rb") as stream:
                workload["dataset_sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
            workload["dataset_file"] = str(path)
        found.append(workload)
    return found


def workload_points(workloads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per workload and load, in the order given; all of them run on every launch. find_max is one entry."""
    points = []
    for workload in workloads:
        if workload.get("find_max"):
            points.append({**workload, **dict.fromkeys(find_max.OVER), "point": f"{workload['name']}/max"})
        for over in find_max.OVER:
            points += [
                {**at_load(workload, over, load), "point": f"{workload['name']}/{short(over, load)}"}
                for load in workload.get(over) or []
            ]
    return points


def short(over: str, load: float) -> str:
    """A load in a label: ``c8``, ``r2.5``."""
    return f"{_SHORT[over]}{load:g}"


def at_load(workload: Mapping[str, Any], over: str, load: float) -> dict[str, Any]:
    """The workload at one concurrency or request rate.

    Without ``num_prompts``: four times the concurrency, or 30 seconds of the request rate, and at least 32; under
    find_max never fewer than that. Without ``warmup_requests``: as many as will be in flight (8 at a request rate), so
    that what is compiled for a batch of that size is compiled before anything is measured.
    """
    prompts, warmup = workload.get("num_prompts"), workload.get("warmup_requests")
    if over == "concurrency":
        load = int(load)
    enough = 4 * load if over == "concurrency" else round(30 * load)
    if workload.get("find_max"):
        prompts = max(prompts or 32, enough)
    at = {
        **dict.fromkeys(find_max.OVER),
        over: load,
        "num_prompts": prompts or max(32, enough),
        "warmup_requests": warmup,
    }
    if warmup is None:
        at["warmup_requests"] = load if over == "concurrency" else _WARMUP_AT_A_RATE
    return {**{key: value for key, value in workload.items() if key != "find_max"}, **at}
