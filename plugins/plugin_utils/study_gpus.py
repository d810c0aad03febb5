# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU leases: slots that share a set of GPUs, as points need fewer than a set has, take turns on it.

What each slot has is an attribute of the study, read and written under its lock: no GPU is ever leased twice. A slot
has its lease until it claims again, by when its container is gone. One that broke off keeps it for the rest of the run,
as a container may still be there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_slots
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import StudyError

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import FrozenTrial


class StudyGpus:
    """The leases of all slots of a study. Slots whose set is theirs alone need none."""

    def __init__(self, study: optuna.Study, slots: Iterable[Mapping[str, Any]]) -> None:
        self._study = study
        self._slots = {slot["name"]: slot for slot in slots}

    def release(self, name: str) -> None:
        """The slot runs nothing: what it may have left is gone."""
        if self._sharers(name) and self._study.user_attrs.get(_attribute(name)) != []:
            self._study.set_user_attr(_attribute(name), [])

    def is_awaited(self, name: str, running: Callable[[], Iterable[FrozenTrial]]) -> bool:
        """Whether another slot of the set has claimed one of the ``running`` trials and still waits for GPUs.

        Then nobody else claims: whoever comes first is served first, however many GPUs it needs.
        """
        if not (sharers := self._sharers(name)):
            return False
        claimed = {trial.user_attrs.get("slot") for trial in running()}
        known = self._study.user_attrs
        return any(other in claimed and known.get(_attribute(other)) == [] for other in sharers)

    def lease(self, name: str, count: int, left: Iterable[str]) -> list[dict[str, Any]] | None:
        """``count`` GPUs for the slot, the nearest to each other that are free; None while there are not enough.

        Until each slot of the set has swept out what a dead run left, none is free. Those of the slots that broke off
        (``left``) never are: StudyError if so few remain that the slot would wait for ever.
        """
        slot = self._slots[name]
        member = slot["members"][0]
        if not (sharers := self._sharers(name)):
            return member["gpus"][:count]
        known = self._study.user_attrs
        uuids = {gpu["uuid"] for gpu in member["gpus"]}
        leased = {other: set(known.get(_attribute(other), uuids)) for other in sharers}
        if len(uuids.difference(*(leased[other] for other in set(left) & leased.keys()))) < count:
            raise StudyError(f"{name}: slots that share its GPUs broke off, and fewer than {count} GPUs remain")
        taken = set().union(*leased.values())
        free = [gpu for gpu in member["gpus"] if gpu["uuid"] not in taken]
        if len(free) < count:
            return None
        chosen = sweep_slots.nearest(free, count, slot["topology"])
        self._study.set_user_attr(_attribute(name), [gpu["uuid"] for gpu in chosen])
        return chosen

    def _sharers(self, name: str) -> list[str]:
        """The other slots of the slot's set."""
        shared = self._slots.get(name, {}).get("set")
        return [other for other, slot in self._slots.items() if shared and slot.get("set") == shared and other != name]


def _attribute(name: str) -> str:
    return f"gpus/{name}"
