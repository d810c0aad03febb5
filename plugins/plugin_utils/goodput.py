# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Goodput: the requests per second that meet every SLO on their own times, counted request by request.

Y. Zhong et al., DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language Model Serving,
OSDI 2024. The limits are the C(max) of the SLOs on TTFT, TPOT and E2E latency, whatever statistic they are set for:
C(ttft_p99_seconds: {max: 1}) counts the requests whose TTFT is at most 1 s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics, bench_result
from ansible_collections.preheat.fleet.plugins.plugin_utils import records

_TIMES = ("ttft", "tpot", "e2e")


def request_limits(slo: Mapping[str, Any] | None) -> dict[str, float]:
    """The least C(max) of each time of a request, in seconds, by C(ttft), C(tpot), C(e2e)."""
    limits: dict[str, float] = {}
    for metric, limit in (slo or {}).items():
        time = metric.partition("_")[0]
        if time in _TIMES and isinstance(limit, Mapping) and limit.get("max") is not None:
            limits[time] = min(limit["max"], limits.get(time, limit["max"]))
    return limits


def goodput(run: Mapping[str, Any], slo: Mapping[str, Any] | None) -> float | None:
    """Requests per second of a run (a line of a raw file) that meet the limits; None without limits or details."""
    limits = request_limits(slo)
    sent, duration = bench_result.requests(run), bench_metrics.number(run.get("duration"))
    if not limits or not sent or not duration or duration <= 0:
        return None
    return sum(_meets(request, limits) for request in sent) / duration


def _meets(request: Mapping[str, Any], limits: Mapping[str, float]) -> bool:
    if not request["success"]:
        return False
    for time, most in limits.items():
        seconds = request[f"{time}_seconds"]
        if seconds is None and time == "tpot" and request["output_tokens"] == 1:
            continue  # there is no time between the tokens of a single one
        if seconds is None or seconds > most:
            return False
    return True


def with_goodput(metrics: Mapping[str, Any], raw: Iterable[str], slo: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metrics of a point, with the goodput that its raw output (lines of JSON) shows and no other."""
    rest = {name: value for name, value in metrics.items() if name != bench_metrics.GOODPUT}
    lines = [line for line in raw if line.strip()]
    value = goodput(json.loads(lines[-1]), slo) if lines else None
    return rest if value is None else {**rest, bench_metrics.GOODPUT: value}


def recount(sweep_dir: Path, found: Iterable[Mapping[str, Any]], slo: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The records with the goodput by these SLOs, which may have changed since.

    Where the raw file is not here, as another controller ran the trial, what was counted then stands if the limits of
    requests are those of then; else there is none.
    """
    return [
        {**record, "workloads": [_recounted(sweep_dir, record, point, slo) for point in record["workloads"]]}
        for record in found
    ]


def _recounted(
    sweep_dir: Path, record: Mapping[str, Any], point: Mapping[str, Any], slo: Mapping[str, Any] | None
) -> dict[str, Any]:
    path = records.trial_dir(sweep_dir, record["number"]) / (point.get("raw_file") or "")
    if path.is_file():
        raw = path.read_text(encoding="utf-8").splitlines()
    elif request_limits({item["metric"]: item for item in record.get("slo") or []}) == request_limits(slo):
        return dict(point)
    else:
        raw = []
    return {**point, "metrics": with_goodput(point.get("metrics") or {}, raw, slo)}
