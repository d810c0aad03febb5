# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launch of a trial's server, waited for in slices, so that every phase is said when it begins."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
Say = Callable[[str], None]
Enter = Callable[[str, "str | None"], object]

SLICE_SECONDS = 10
# A launch of which the host has not said yet how far it is; in the record, what its calls took beside its phases.
LAUNCHING = "launching"
# Phases that only the call which launches can see.
_BEFORE_THE_ENGINE = ("image_pull", "weights_preload", "container_create")


def slot_labels(sweep: str, slot: str) -> dict[str, str]:
    """What marks the containers of a slot, so that a later claim finds what a dead run left."""
    return {"preheat.sweep": sweep, "preheat.slot": slot}


def weight_cache_name(sweep: str, slot: str) -> str:
    """The container that keeps weights for a slot from trial to trial, so without the slot's labels."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"preheat-{sweep}-{slot}-weights")


def container_name(sweep: str, slot: str, number: int) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"preheat-{sweep}-{slot}-{number:04d}")


def arguments(
    plan: dict[str, Any], claim: dict[str, Any], slot: str, gpus: list[dict[str, Any]], settings: dict[str, Any]
) -> dict[str, Any]:
    """Of C(sglang_server): the server of a claim on these GPUs of the slot."""
    return {
        "state": "started",
        "name": container_name(plan["name"], slot, claim["number"]),
        "image": plan["image"],
        "repo_id": plan["model"]["repo_id"],
        "revision": plan["commit"],
        "cache_dir": settings["cache_dir"],
        "jit_cache_dir": settings["jit_cache_dir"],
        "weight_cache": weight_cache_name(plan["name"], slot) if settings.get("weight_cache") else None,
        "parameters": claim["server_parameters"],
        "environment": plan["environment"],
        "gpus": [gpu["uuid"] for gpu in gpus],
        "gpu_access": settings["gpu_access"] if gpus else "none",
        "labels": {**slot_labels(plan["name"], slot), "preheat.trial": str(claim["number"])},
        "docker_host": settings["docker_host"],
        "facts_file": settings.get("facts_file"),
        "ready_timeout_seconds": settings["ready_timeout_seconds"],
        "wait_seconds": SLICE_SECONDS,
    }


@dataclass
class Launched:
    """``result``: the last answer of the launch; ``phases``: on the host's clock; ``cache``: what it found warm;
    ``called`` and ``returned``: epoch seconds of the controller's clock.
    """

    result: dict[str, Any]
    phases: list[dict[str, Any]]
    cache: dict[str, Any]
    called: float
    returned: float

    def offset_seconds(self) -> float:
        """Host clock less controller's: 0 if the launch lies within its calls, else it is centred in them."""
        if not self.phases:
            return 0.0
        first, last = self._span()
        if self.called <= first and last <= self.returned:
            return 0.0
        return ((first + last) - (self.called + self.returned)) / 2

    def phases_since(self, start: float) -> list[dict[str, Any]]:
        """The phases on the clock of a trial that began at ``start``.

        What the calls took before and after it, the connection and the start of Python, is the phase C(launching).
        """
        shift = self.offset_seconds() + start
        found = [{**phase, "start": phase["start"] - shift} for phase in self.phases]
        called, returned = self.called - start, self.returned - start
        first, last = (time - shift for time in self._span()) if self.phases else (returned, returned)
        for begin, end in ((called, first), (last, returned)):
            if end > begin:
                found.append({"name": LAUNCHING, "start": begin, "seconds": end - begin})
        return found

    def _span(self) -> tuple[float, float]:
        return self.phases[0]["start"], self.phases[-1]["start"] + self.phases[-1]["seconds"]


def launch(args: dict[str, Any], call: Call, say: Say, enter: Enter, clock: Callable[[], float]) -> Launched:
    """Call C(sglang_server) until the server is ready or has failed."""
    before: list[dict[str, Any]] = []  # up to the container's start: only the first call saw these
    cache: dict[str, Any] = {}
    said = LAUNCHING
    called = clock()
    say(said)
    enter(said, None)
    while True:
        result = call("sglang_server", args)
        phases = result.get("phases") or []
        # The first call says what it found warm, the last what was read and compiled.
        cache |= result.get("cache") or {}
        if not before:
            before = [phase for phase in phases if phase["name"] in _BEFORE_THE_ENGINE]
        phases = before + [phase for phase in phases if phase["name"] not in _BEFORE_THE_ENGINE]
        if result.get("failed") or result.get("ready"):
            return Launched(result, phases, cache, called, clock())
        if phases and phases[-1]["name"] != said:
            said = phases[-1]["name"]
            say(said)
            enter(said, None)
