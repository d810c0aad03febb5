# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a sweep that runs will have ended, as far as its trials so far tell."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_slots


def with_leases(
    now: float,
    begun: Sequence[Mapping[str, Any]],
    waiting: int,
    trial_seconds: float | None,
    *,
    needs: Sequence[int],
    slots: Sequence[Mapping[str, Any]],
) -> float | None:
    """``estimated``, where slots that share GPUs take turns: of what they have claimed, some waits for GPUs.

    ``begun``: what the study notes of each trial that a slot has claimed; ``needs``: the GPUs of each without a result.
    """
    names = {slot["name"] for slot in slots}
    places = sweep_slots.at_once(slots, needs)
    # While another slot claims, its trial has no time yet: this is read without the study's lock.
    times = sorted((known.get("begun", now), known.get("slot") in names) for known in begun)
    # Of the slots of other controllers only what runs on them is known.
    ours, others = [time for time, own in times if own], [time for time, own in times if not own]
    elapsed = [now - time for time in ours[:places] + others]
    return estimated(now, elapsed, waiting + len(ours[places:]), places, trial_seconds)


def estimated(
    now: float, elapsed: Sequence[float], waiting: int, slots: int, trial_seconds: float | None
) -> float | None:
    """When the last trial ends if all take ``trial_seconds`` and each goes to the slot that is free first.

    ``elapsed``: for how many seconds each running trial has run.
    """
    if trial_seconds is None or not (elapsed or (waiting and slots)):
        return None
    free = [max(0.0, trial_seconds - seconds) for seconds in elapsed]
    free += [0.0] * (slots - len(free))
    heapq.heapify(free)
    for _trial in range(waiting):
        heapq.heapreplace(free, free[0] + trial_seconds)
    return now + max(free)
