# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workloads of one trial, on its running server."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics
from ansible_collections.preheat.fleet.plugins.plugin_utils import find_max, goodput, scoring, sweep_workloads

# What a point's entry in the record repeats of what was asked for.
ASKED = ("input_tokens", "output_tokens", "concurrency", "request_rate", "num_prompts", "seed")
_ARGUMENTS = (*ASKED, "warmup_requests", "flush_cache", "timeout_seconds", "extra_args")
_SHOWN = {
    "output_tokens_per_second": "{:.0f} tokens/s out",
    "ttft_p99_seconds": "TTFT p99 {:.3f} s",
    "tpot_mean_seconds": "TPOT mean {:.4f} s",
}
# How a server that bears less than was asked of it ends a benchmark.
_OVERLOADED = ("timeout", "benchmark_failed")


class TrialFailed(Exception):
    """A module said why the trial cannot go on; ``error`` goes into the record."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


class Benchmarks:
    """Runs workload points one by one; what they gave is in ``workloads`` and ``files`` even if a later one fails.

    ``server``: the arguments of sglang_benchmark that name the server. ``call(args, label)`` runs that module as a
    phase and gives its result and the phase's seconds, or raises TrialFailed.
    """

    def __init__(
        self,
        *,
        record: dict[str, Any],
        files: dict[str, str],
        slo: dict[str, Any],
        server: dict[str, Any],
        dataset_dir: str | None,
        call: Callable[[dict[str, Any], str], tuple[dict[str, Any], float]],
        say: Callable[[str], None],
    ) -> None:
        self._record, self._files, self._slo, self._server = record, files, slo, server
        self._dataset_dir, self._call, self._say = dataset_dir, call, say

    def run(self, point: dict[str, Any]) -> None:
        """Measure a point and add its entry to the record's workloads."""
        if point.get("find_max"):
            self._find_max(point)
        else:
            self._record["workloads"].append(self._measure(point))

    def _find_max(self, point: dict[str, Any]) -> None:
        """One entry for the whole search: the load that was found, with every probe in ``found``."""
        spec = point["find_max"]
        entries: list[dict[str, Any]] = []
        verdicts: list[tuple[float, bool]] = []
        try:
            while (load := find_max.next_load(verdicts, spec)) is not None:
                times = sum(load == other for other, _met in verdicts)
                at = sweep_workloads.at_load(point, spec["over"], load)
                label = f"{point['point']}:{sweep_workloads.short(spec['over'], load)}"
                # Other prompts each time, so that a measurement is a new one.
                at |= {"seed": at["seed"] + times, "point": f"{label}:{times + 1}" if times else label}
                entry = self._probe(at, bool(verdicts) and any("error" not in entry for entry in entries))
                entry["missed"] = self._missed(entry, spec["slo"])
                met = not entry["missed"]
                verdicts.append((load, met))
                entries.append(entry)
                self._say(f"{at['point']} " + ("meets the limits" if met else f"misses {', '.join(entry['missed'])}"))
        finally:
            if entries:
                self._record["workloads"].append(_found_entry(point, entries, verdicts))

    def _probe(self, point: dict[str, Any], may_be_overload: bool) -> dict[str, Any]:
        try:
            return self._measure(point)
        except TrialFailed as exc:
            # Where no load was served before, it is not the load.
            if not may_be_overload or exc.error["class"] not in _OVERLOADED:
                raise
            requests = {"total": point["num_prompts"], "completed": 0, "failed": point["num_prompts"]}
            return {**_asked(point), "requests": requests, "metrics": {}, "raw_file": None, "error": exc.error}

    def _missed(self, entry: dict[str, Any], limits: dict[str, Any]) -> list[str]:
        """The limits that a probe does not meet; requests that fail meet none."""
        if entry["requests"]["failed"] or entry["requests"]["completed"] < entry["num_prompts"]:
            return ["requests"]
        verdicts = scoring.slo_verdicts({"slot": self._record["slot"], "workloads": [entry]}, limits)
        return [verdict["metric"] for verdict in verdicts if not verdict["met"]]

    def _measure(self, point: dict[str, Any]) -> dict[str, Any]:
        args = {key: point[key] for key in _ARGUMENTS} | self._server
        args |= {key: point[key] for key in ("range_ratio", "dataset", "shared_prefix") if point.get(key) is not None}
        if point.get("dataset_file"):
            args["dataset_file"] = f"{self._dataset_dir}/{point['dataset_sha256']}"
        self._say(f"{point['point']}: sends {point['num_prompts']} requests")
        result, seconds = self._call(args, point["point"])
        raw_file = f"bench-{re.sub('[/:]', '-', point['point'])}.jsonl"
        self._files[raw_file] = "".join(f"{line}\n" for line in result["raw"])
        metrics = goodput.with_goodput(result["metrics"], result["raw"], self._slo)
        facts = [text.format(metrics[name]) for name, text in _SHOWN.items() if metrics.get(name) is not None]
        failed = result["requests"]["failed"]
        facts += [f"{failed} requests FAILED"] if failed else []
        self._say(f"{point['point']}: {', '.join(facts)} ({seconds:.1f} s)")
        return {**_asked(point), "requests": result["requests"], "metrics": metrics, "raw_file": raw_file}


def _asked(point: dict[str, Any]) -> dict[str, Any]:
    return {"name": point["name"], "point": point["point"], **{key: point[key] for key in ASKED}}


def _found_entry(
    point: dict[str, Any], entries: list[dict[str, Any]], verdicts: list[tuple[float, bool]]
) -> dict[str, Any]:
    """The last measurement that the found load passed, or, where there is none, the first measurement of all."""
    spec = point["find_max"]
    found = find_max.outcome(verdicts, spec)
    passed = [entry for entry, (load, met) in zip(entries, verdicts, strict=True) if met and load == found["value"]]
    chosen = passed[-1] if passed else entries[0]
    name = next(name for name, over in bench_metrics.FOUND.items() if over == spec["over"])
    metrics = chosen["metrics"] | ({name: found["value"]} if passed else {})
    shown = {key: value for key, value in chosen.items() if key not in ("missed", "error")}
    return {
        **shown,
        "point": point["point"],
        "metrics": metrics,
        "found": {**found, "low": spec["low"], "high": spec["high"], "slo": spec["slo"], "probes": entries},
    }
