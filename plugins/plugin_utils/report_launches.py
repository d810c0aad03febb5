# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the records say of launches: how long they took, from which rung and on which host."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils.bench_metrics import number
from ansible_collections.preheat.fleet.plugins.plugin_utils import records as trial_records

Record = Mapping[str, Any]

# The phases between the request for a container and a server that answers.
_STARTUP = trial_records.PHASES[
    trial_records.PHASES.index("container_create") : trial_records.PHASES.index("ready") + 1
]


def seconds_by_phase(trial: Record) -> dict[str, float]:
    """The seconds of each phase that the trial has, in the phases' order; its benchmarks together."""
    seconds: dict[str, float] = {}
    for phase in trial["phases"]:
        seconds[phase["name"]] = seconds.get(phase["name"], 0.0) + phase["seconds"]
    return {name: seconds[name] for name in trial_records.PHASES if name in seconds}


def launch_seconds(trial: Record) -> float | None:
    """From the container's creation to the first benchmark, whatever phases the log gave in between.

    Reading the weights into RAM before that is part of it, fetching them is not.
    """
    starts = {phase["name"]: phase["start"] for phase in reversed(trial["phases"])}
    if "benchmark" not in starts or "container_create" not in starts:
        return None
    preload = seconds_by_phase(trial).get("weights_preload", 0.0)
    return preload + starts["benchmark"] - starts["container_create"]


def jit_state(trial: Record) -> str:
    """C(cold), C(partial), C(warm) or what else the launch said of the JIT caches; C(unknown) if nothing."""
    jit = (trial.get("cache") or {}).get("jit")
    return str((jit.get("state") if isinstance(jit, Mapping) else jit) or "unknown")


def rung_of(trial: Record) -> str:
    return (trial.get("cache") or {}).get("weights_rung") or "unknown"


def hosts_of(trial: Record) -> list[str]:
    return [member["host"] for member in (trial.get("slot") or {}).get("members") or [] if member.get("host")]


def cache_groups(trials: Iterable[Record]) -> list[dict[str, Any]]:
    """Launches by where the weights came from and whether the JIT caches were warm, with medians of their times."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for trial in trials:
        if trial["status"] == "complete":
            groups.setdefault((rung_of(trial), jit_state(trial)), []).append(trial)
    return [
        {
            "weights_rung": rung,
            "jit": jit,
            "trials": [trial["number"] for trial in members],
            "hub_bytes": sum((trial.get("cache") or {}).get("hub_bytes") or 0 for trial in members),
            "model_fetch_seconds": median_of_phases(members, ("model_fetch",)),
            "weights_load_seconds": median_of_phases(members, ("weights_load",)),
            "compile_seconds": median_of_phases(members, ("graph_capture", "server_warmup")),
            "startup_seconds": median(map(launch_seconds, members)) or median_of_phases(members, _STARTUP),
        }
        for (rung, jit), members in sorted(groups.items(), key=lambda item: item[1][0]["number"])
    ]


def host_groups(trials: Sequence[Record], maximise: bool) -> dict[str, Any]:
    """What each host did, and how far hosts differ on the same configuration.

    C(same_configuration_spread) is the median, over configurations that can win and were measured on several hosts, of
    best value / worst value - 1; None where no configuration was.
    """
    names = sorted({host for trial in trials for host in hosts_of(trial)})
    values: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        value = number((trial.get("objective") or {}).get("value"))
        if value and trial.get("eligible") is True:
            key = repr(sorted((trial.get("server_parameters") or trial["params"]).items()))
            values.setdefault(key, {}).setdefault("+".join(hosts_of(trial)), []).append(value)
    spreads = []
    for by_host in values.values():
        medians = [statistics.median(found) for found in by_host.values()]
        if len(medians) > 1:
            spreads.append(max(medians) / min(medians) - 1)
    rows = []
    for name in names:
        members = [trial for trial in trials if name in hosts_of(trial)]
        launched = [trial for trial in members if trial["status"] == "complete"]
        won = [trial["objective"]["value"] for trial in launched if trial.get("eligible") and trial.get("objective")]
        rows.append(
            {
                "host": name,
                "trials": len(members),
                "failed": sum(trial["status"] == "failed" for trial in members),
                "launch_seconds": median(map(launch_seconds, launched)),
                "weights_load_seconds": median_of_phases(launched, ("weights_load",)),
                "value_median": median(won),
                "value_best": (max if maximise else min)(won) if won else None,
            }
        )
    return {
        "hosts": rows,
        "same_configuration_spread": statistics.median(spreads) if spreads else None,
        "same_configurations": len(spreads),
    }


def median(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def median_of_phases(trials: Iterable[Record], names: Iterable[str]) -> float | None:
    """The median over trials of the seconds that these phases took together, where any of them was seen."""
    names = tuple(names)
    spans = [seconds_by_phase(trial) for trial in trials]
    return median(
        sum(span[name] for name in names if name in span) for span in spans if any(name in span for name in names)
    )
