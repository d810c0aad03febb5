# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What bench_serving wrote, in preheat's names and units.

Percentiles are numpy's default, linear interpolation between the two nearest requests, as bench_serving computes them.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter

from ansible_collections.preheat.fleet.plugins.module_utils import bench_metrics
from ansible_collections.preheat.fleet.plugins.module_utils.bench_metrics import number

_RATES = {
    "requests_per_second": "request_throughput",
    "input_tokens_per_second": "input_throughput",
    "output_tokens_per_second": "output_throughput",
    "total_tokens_per_second": "total_throughput",
    "concurrency_mean": "concurrency",
    "duration_seconds": "duration",
}
_LATENCIES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2e_latency"}
_PERCENTILES = {"p90": 90, "p95": 95, "p99": 99}
# Kept out of the raw result: as long as all answers together. What requests() needs of them is kept in ITL_SUMS.
_BULK = ("generated_texts", "itls")
# Keys of a raw result that are preheat's and not bench_serving's.
ITL_SUMS = "itl_sums"
EXACT_OUTPUT_TOKENS = "exact_output_tokens"
_SECRET = re.compile(r"(api_?key|password|secret|(^|_)token)$", re.IGNORECASE)


class ResultError(Exception):
    """The benchmark's output is not what bench_serving writes."""


def parse(text):
    """The object of the last run in a file of JSON lines. Infinity and NaN, which JSON does not have, become None."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ResultError("the output file is empty")
    try:
        run = json.loads(lines[-1], parse_constant=lambda constant: None)
    except ValueError as error:
        raise ResultError(f"the output file is not JSON lines: {error}") from error
    if not isinstance(run, dict) or "completed" not in run or "duration" not in run:
        raise ResultError("the output file has no run with 'completed' and 'duration'")
    return run


def summarize(run, num_prompts, output_tokens=None):
    """C({requests, request_errors, metrics, raw}) of one run.

    C(output_tokens), if each request must produce exactly as many, finds answers that broke off: bench_serving counts
    an error that arrives inside a stream as a completed request.
    """
    run = {**run, EXACT_OUTPUT_TOKENS: output_tokens}
    if run.get("itls"):
        run[ITL_SUMS] = [math.fsum(gaps) for gaps in run["itls"]]
    errors = Counter(request["error"] for request in requests(run) if not request["success"])
    completed = min(run["completed"], max(0, _sent(run, num_prompts) - sum(errors.values())))
    total = _sent(run, num_prompts)
    metrics = _metrics(run) if completed else {}
    return {
        "requests": {"total": total, "completed": completed, "failed": total - completed},
        "request_errors": [{"message": message, "count": count} for message, count in errors.most_common(20)],
        "metrics": metrics,
        "raw": [json.dumps(_without_secrets(_without_bulk(run)), allow_nan=False)],
    }


def requests(run):
    """Every request of a run, in the order sent; [] if the run has no details.

    C(run) is what bench_serving wrote with its details, or the object of a line of a raw file. One entry is
    C({ttft_seconds, tpot_seconds, e2e_seconds, input_tokens, output_tokens, success, error}). Times are None where
    the request failed or (C(tpot_seconds)) made a single token; C(e2e_seconds) ends with the last token. C(error)
    is empty for a request that succeeded.
    """
    lengths = run.get("output_lens") or []
    nothing = [None] * len(lengths)
    sums = run.get(ITL_SUMS) or [math.fsum(gaps) for gaps in run.get("itls") or []] or nothing
    details = zip(
        lengths, run.get("input_lens") or nothing, run.get("errors") or nothing, run.get("ttfts") or nothing, sums
    )
    found = []
    for length, input_tokens, message, ttft, decode in details:
        error = _request_error(message, length, ttft, run.get(EXACT_OUTPUT_TOKENS))
        timed = not error and ttft is not None and decode is not None
        found.append(
            {
                "ttft_seconds": ttft if timed else None,
                # bench_serving's definition: the time after the first token, over the other tokens.
                "tpot_seconds": decode / (length - 1) if timed and length > 1 else None,
                "e2e_seconds": ttft + decode if timed else None,
                "input_tokens": input_tokens,
                "output_tokens": length,
                "success": not error,
                "error": error,
            }
        )
    return found


def percentile(values, percent):
    """The percentile of a list that is not empty, interpolated linearly (numpy's default)."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    return below + (above - below) * (position - math.floor(position))


def _sent(run, num_prompts):
    return len(run["output_lens"]) if run.get("output_lens") else num_prompts


def _metrics(run):
    metrics = {name: number(run.get(key)) for name, key in _RATES.items()}
    if metrics["total_tokens_per_second"] is None and None not in (
        metrics["input_tokens_per_second"],
        metrics["output_tokens_per_second"],
    ):
        metrics["total_tokens_per_second"] = metrics["input_tokens_per_second"] + metrics["output_tokens_per_second"]
    samples = _samples(run)
    for name, key in _LATENCIES.items():
        # bench_serving writes 0 where it measured nothing, such as the time between the tokens of one-token answers.
        if not number(run.get(f"mean_{key}_ms")):
            continue
        for statistic in bench_metrics.STATISTICS:
            value = number(run.get(f"{statistic}_{key}_ms"))
            if value is None and statistic in _PERCENTILES and samples.get(name):
                value = percentile(samples[name], _PERCENTILES[statistic]) * 1000
            metrics[f"{name}_{statistic}_seconds"] = None if value is None else value / 1000
    return {name: value for name, value in metrics.items() if value is not None}


def _samples(run):
    """The seconds of every completed request (for itl: of every token), from the details of a run that has them."""
    done = [request for request in requests(run) if request["success"] and request["e2e_seconds"] is not None]
    samples = {kind: [request[f"{kind}_seconds"] for request in done] for kind in ("ttft", "e2e", "tpot")}
    samples["tpot"] = [seconds for seconds in samples["tpot"] if seconds is not None]
    # With speculative decoding bench_serving spreads each gap over its tokens, which the details do not show.
    if run.get("itls") and not run.get("accept_length"):
        samples["itl"] = [gap for gaps, length in zip(run["itls"], run["output_lens"]) if length for gap in gaps]
    return samples


def _request_error(message, length, ttft, exact):
    """Why a request failed, as far as the details tell; empty if it did not."""
    if message:
        # A client-side failure is a whole traceback; its last line is the exception.
        return message.strip().splitlines()[-1][:500]
    if not length or ttft == 0:
        return "answered without a token"
    if exact and length != exact:
        return f"answered with {length} tokens instead of {exact}"
    return ""


def _without_bulk(run):
    return {key: value for key, value in run.items() if key not in _BULK}


def _without_secrets(value, name=""):
    """The server's arguments come back with the result, and an API key can be among them."""
    if isinstance(value, dict):
        return {key: _without_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item, name) for item in value]
    if isinstance(value, str) and value and _SECRET.search(name):
        return "REDACTED"
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
