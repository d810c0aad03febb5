# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems: what is wrong with the input, said before anything expensive starts.

A problem is a dict ``{host, variable, value, message, remedy}``; ``host`` is empty for the controller's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

Problem = dict[str, Any]


def problem(variable: str, value: Any, message: str, remedy: str, host: str = "") -> Problem:
    return {"host": host, "variable": variable, "value": value, "message": message, "remedy": remedy}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy for a mistyped name: the nearest known one, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."


def format_problems(problems: list[Problem], until_now: str = "nothing was downloaded or launched") -> str:
    """All problems as one message."""
    lines = problem_lines(problems)
    count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''} found; {until_now}."
    return "\n".join([count, *(f"  {line}" for line in lines)])


def problem_lines(problems: list[Problem]) -> list[str]:
    """One line for each problem; equal ones of several hosts are said once."""
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for item in problems:
        key = (item["variable"], repr(item["value"]), item["message"], item["remedy"])
        merged.setdefault(key, []).append(item.get("host") or "controller")
    lines = []
    for (variable, value, message, remedy), hosts in merged.items():
        shown = value if len(value) <= 120 else value[:117] + "..."
        lines.append(f"[{', '.join(hosts)}] {variable} = {shown}: {message} {remedy}".rstrip())
    return lines
