# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a study knows of its hosts: which were set aside, whose slots broke off, what each has compiled for.

Read and written under the study's lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_hosts
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_hosts import Ended

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.trial import FrozenTrial


class StudyHosts:
    """The hosts of the plan's slots, as facts of the study, which all slots of a run share."""

    def __init__(
        self, study: optuna.Study, plan: Mapping[str, Any], leased: Callable[[Iterable[str]], set[str]] = set
    ) -> None:
        """``leased``: of slots those that a controller drives."""
        self._study, self._plan, self._leased = study, plan, leased

    def aside(self) -> dict[str, str]:
        """Hosts that were set aside, with the reasons."""
        return self._study.user_attrs.get("set_aside", {})

    def is_aside(self, slot: str | None) -> bool:
        return host_of(slot) in self.aside()

    def set_aside(self, host: str, row: Iterable[Ended]) -> dict[str, str]:
        aside = {**self.aside(), host: sweep_hosts.reason(row)}
        self._study.set_user_attr("set_aside", aside)
        return aside

    def leave(self, slot: str, reason: str) -> None:
        """A slot broke off: nothing can be left to it."""
        self._study.set_user_attr(f"left/{slot}", reason)

    def left(self) -> dict[str, str]:
        """Slots that broke off, with the reasons."""
        known = self._study.user_attrs
        return {name.removeprefix("left/"): known[name] for name in sorted(known) if name.startswith("left/")}

    def others(self, host: str) -> set[str]:
        """The other hosts that still take trials."""
        left = self.left()
        known = self._study.user_attrs.get("slots") or self._plan.get("slots") or []
        slots = self._leased(slot["name"] for slot in known if slot["name"] not in left)
        return {host_of(slot) for slot in slots} - {host, *self.aside()}

    def to_blame(self, host: str, ended: Sequence[Ended]) -> list[Ended]:
        """The trials for which a host is set aside, or was: they go back; empty while the host goes on.

        ``ended``: all attempts of this run that ended, in order of time, the host's last one included.
        """
        limit = self._plan.get("host_failures_max") or 0
        row = sweep_hosts.faults_in_a_row(ended, host)
        if not limit or not row or not self.others(host):
            return []
        if host in self.aside():
            return row[-1:]  # the others of the row went back before
        return row if len(row) >= limit else []

    def warmest(self, waiting: Sequence[FrozenTrial], launched: Iterable[FrozenTrial], slot: str) -> FrozenTrial:
        """Of waiting trials the one that finds the most warm on the slot and its host (``sweep_hosts.preferred``)."""
        shapes: dict[str, set[str]] = {}
        last = None
        for trial in sorted(launched, key=lambda trial: trial.user_attrs.get("begun", 0.0)):
            if name := trial.user_attrs.get("slot"):
                shape = _shape(trial)
                shapes.setdefault(host_of(name), set()).add(shape)
                last = shape if name == slot else last
        own = shapes.pop(host_of(slot), set())
        others = {shape for found in shapes.values() for shape in found}
        return waiting[sweep_hosts.preferred([_shape(trial) for trial in waiting], last, own, others)]


def ended(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Attempts that ended in this run, in order of time; those of earlier runs say nothing of how a host is now."""
    found = [(trial.datetime_complete, trial) for trial in trials if "failure" in trial.user_attrs]
    return [trial for _time, trial in sorted((time, trial) for time, trial in found if time)]


def as_ended(trial: FrozenTrial) -> Ended:
    return Ended(trial.number, host_of(trial.user_attrs["slot"]), trial.user_attrs["failure"])


def failure_of(record: Mapping[str, Any]) -> str | None:
    """The class of a record's error; None if the trial did not fail."""
    return str((record["error"] or {}).get("class")) if record["status"] == "failed" else None


def host_of(slot: str | None) -> str:
    return (slot or "").rpartition("/")[0]


def _shape(trial: FrozenTrial) -> str:
    return sweep_hosts.shape(trial.user_attrs["point"]["server_parameters"])
