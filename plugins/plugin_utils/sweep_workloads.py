# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workloads of a sweep: checked, and spelled out into points. Pure functions on plain data."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, problem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def check_workloads(workloads: list[dict[str, Any]]) -> list[Problem]:
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
        loads = {key: workload[key] for key in ("concurrency", "request_rate") if workload.get(key)}
        if len(loads) != 1:
            remedy = "Give one of the two: a number, or a list of numbers."
            found.append(problem(at, loads or name, "needs either concurrency or request_rate.", remedy))
        for key, numbers in loads.items():
            found += [
                problem(f"{at}.{key}", number, "is not above 0.", "Give numbers above 0.")
                for number in numbers
                if number <= 0
            ]
    return found


def workload_points(workloads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per workload and load, in the order given; all of them run on every launch.

    Without ``num_prompts``: four times the concurrency, or 30 seconds of the request rate, and at least 32. Without
    ``warmup_requests``: as many as will be in flight (8 at a request rate), so that what is compiled for a batch of
    that size is compiled before anything is measured.
    """
    points = []
    for workload in workloads:
        of_a_point = ("concurrency", "request_rate", "num_prompts", "warmup_requests")
        common = {key: value for key, value in workload.items() if key not in of_a_point}
        warmup = workload.get("warmup_requests")
        for concurrency in workload.get("concurrency") or []:
            prompts = workload.get("num_prompts") or max(32, 4 * concurrency)
            load = {"concurrency": concurrency, "request_rate": None, "num_prompts": prompts}
            load["warmup_requests"] = concurrency if warmup is None else warmup
            points.append({**common, **load, "point": f"{workload['name']}/c{concurrency}"})
        for rate in workload.get("request_rate") or []:
            prompts = workload.get("num_prompts") or max(32, round(30 * rate))
            load = {"concurrency": None, "request_rate": rate, "num_prompts": prompts}
            load["warmup_requests"] = 8 if warmup is None else warmup
            points.append({**common, **load, "point": f"{workload['name']}/r{rate:g}"})
    return points
