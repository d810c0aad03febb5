# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host should run which trial, and when a host should run none any more. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_weight_rules import daemon_parameters
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_space import point_key

# Failures that are a host's fault whatever its parameters are; never bad_flag, out_of_memory or invalid.
HOST_FAULTS = (
    "container_missing",
    "engine_unreachable",
    "host_lost",
    "image_missing",
    "model_missing",
    "module_failed",
    "port_in_use",
)
# Failures that are a host's fault if no other host has them, and the parameters' fault otherwise.
DOUBTFUL = ("crashed", "timeout")


class Ended(NamedTuple):
    """How an attempt at a trial ended: ``failure`` is the class of its error, None if it did not fail."""

    number: int
    host: str
    failure: str | None


def faults_in_a_row(ended: Sequence[Ended], host: str) -> list[Ended]:
    """The last trials of a host, up to its latest, if they failed as by its fault; ``ended`` is in order of time.

    A crash or a timeout counts only where another host has ended a trial well and none in this way.
    """
    elsewhere = [one for one in ended if one.host != host]
    suspected = {*HOST_FAULTS}
    if any(one.failure is None for one in elsewhere):
        suspected |= {name for name in DOUBTFUL if all(one.failure != name for one in elsewhere)}
    row: list[Ended] = []
    for one in reversed([one for one in ended if one.host == host]):
        if one.failure not in suspected:
            break
        row.insert(0, one)
    return row


def reason(row: Iterable[Ended]) -> str:
    """Why a host was set aside, as the end of a sentence."""
    classes = Counter(str(one.failure) for one in row)
    shown = ", ".join(f"{name} x {count}" if count > 1 else name for name, count in sorted(classes.items()))
    return f"failures in a row there: {shown}"


def shape(server_parameters: Mapping[str, Any]) -> str:
    """What launches have in common that share compiled kernels and weights: all but flags that schedule and size."""
    return point_key(daemon_parameters(dict(server_parameters)))


def preferred(waiting: Sequence[str], last: str | None, own: set[str], others: set[str]) -> int:
    """The index of the trial to take, of waiting ones by their shapes: the first of those that find the most warm.

    ``last`` is the shape that the slot ran last (its weights may be in GPU memory), ``own`` are those that its host has
    compiled for, ``others`` those that other hosts have: of shapes that are new to the host it takes one that is new to
    all, so that each is compiled for on few hosts.
    """

    def coldness(shape: str) -> int:
        if shape == last:
            return 0
        if shape in own:
            return 1
        return 3 if shape in others else 2

    return min(range(len(waiting)), key=lambda index: (coldness(waiting[index]), index))
