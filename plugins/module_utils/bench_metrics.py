# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of preheat's metrics: what a workload point can report, and which way is better."""

from __future__ import annotations

import math

RATES = (
    "requests_per_second",
    "input_tokens_per_second",
    "output_tokens_per_second",
    "total_tokens_per_second",
)
LATENCIES = ("ttft", "tpot", "itl", "e2e")
STATISTICS = ("mean", "median", "std", "p90", "p95", "p99")
LATENCY_METRICS = tuple(f"{kind}_{statistic}_seconds" for kind in LATENCIES for statistic in STATISTICS)
PER_GPU = "_per_gpu"

# What one run of the benchmark can report.
MEASURED = RATES + LATENCY_METRICS + ("concurrency_mean", "duration_seconds")
# Requests that meet every SLO on a request's own times: known only with the SLOs (plugin_utils.goodput).
GOODPUT = "goodput_requests_per_second"
# The largest load that meets the limits of a workload with find_max, by the kind of load.
FOUND = {"max_concurrency": "concurrency", "max_request_rate": "request_rate"}
# What an objective or an SLO can name: the same, and the rates for each GPU.
NAMES = (*MEASURED, GOODPUT, *FOUND, *(name + PER_GPU for name in (*RATES, GOODPUT, *FOUND)))


def natural_direction(name):
    """C(maximize) for rates, C(minimize) for times, None where neither way is better."""
    if name == "concurrency_mean":
        return None
    return "minimize" if name.endswith("_seconds") else "maximize"


def number(value):
    """C(value) as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
