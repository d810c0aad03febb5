"""Synthetic trials: invented but plausible records, for tests of what reads records. Nothing here was measured."""

from __future__ import annotations

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, scoring

OBJECTIVE = {"metric": "output_tokens_per_second_per_gpu", "direction": "maximize"}
SLO = {"ttft_p99_seconds": {"max": 1.0, "hard": True}, "tpot_mean_seconds": {"max": 0.03}}
MODEL_BYTES = 2_700_000_000


def workload(name="chat", concurrency=8, rate=800.0, ttft=0.2, *, failed=0, num_prompts=32, **metrics):
    """One workload point whose latencies follow from C(rate) and C(ttft)."""
    tpot = concurrency / rate
    measured = {
        "requests_per_second": rate / 128,
        "input_tokens_per_second": rate * 4,
        "output_tokens_per_second": rate,
        "total_tokens_per_second": rate * 5,
        "concurrency_mean": concurrency * 0.95,
        "duration_seconds": num_prompts * 128 / rate,
    }
    for kind, mean in (("ttft", ttft / 2), ("tpot", tpot), ("itl", tpot), ("e2e", ttft / 2 + 128 * tpot)):
        factors = {"mean": 1.0, "median": 0.95, "std": 0.2, "p90": 1.4, "p95": 1.6, "p99": 2.0}
        measured.update({f"{kind}_{statistic}_seconds": mean * factor for statistic, factor in factors.items()})
    return {
        "name": name,
        "point": f"{name}/c{concurrency}",
        "input_tokens": 512,
        "output_tokens": 128,
        "concurrency": concurrency,
        "request_rate": None,
        "num_prompts": num_prompts,
        "seed": 1,
        "requests": {"total": num_prompts, "completed": num_prompts - failed, "failed": failed},
        "metrics": {name: value for name, value in {**measured, **metrics}.items() if value is not None},
        "raw_file": f"bench-{name}-c{concurrency}.jsonl",
    }


def trial(number=0, workloads=None, *, status="complete", gpus=1, objective=None, slo=None, phases=None, **fields):
    """A whole record, scored."""
    spans = phases or {
        "model_fetch": 0.4 if number else 31.0,
        "container_create": 0.6,
        "engine_start": 9.5,
        "weights_load": 2.1 if number else 8.4,
        "kv_cache": 0.3,
        "graph_capture": 4.2,
        "server_warmup": 1.1,
        "ready": 0.2,
        "benchmark": 21.0,
        "teardown": 1.3,
    }
    workloads = [workload()] if workloads is None else workloads
    begun, entries = 0.0, []
    for name, seconds in spans.items():
        parts = [point["point"] for point in workloads] if name == "benchmark" else [None]
        for label in parts:
            part = seconds / len(parts)
            entry = {"name": name, "start": begun, "seconds": part} | ({"label": label} if label else {})
            entries.append(entry | ({"bytes": 0 if number else MODEL_BYTES} if name == "model_fetch" else {}))
            begun += part
    wall = begun + 0.7
    members = [{"index": index, "uuid": f"GPU-{index:04d}", "name": "NVIDIA H100"} for index in range(gpus)]
    record = records.new_record(
        sweep="synthetic",
        number=number,
        params={"chunked_prefill_size": 2048 * (number + 1)},
        server_parameters={"context_length": 4096, "chunked_prefill_size": 2048 * (number + 1)},
        status=status,
        slot={"name": f"gpu{number % 2 + 1}/0", "members": [{"host": f"gpu{number % 2 + 1}", "gpus": members}]},
        image={"name": "lmsysorg/sglang:v0.5.15", "digest": "sha256:" + "ab" * 32},
        model={"repo_id": "example/tiny-llama", "revision": "main", "commit": "c" * 40},
        versions={"preheat": "0.1.0", "sglang": "0.5.15", "docker": "28.2.2"},
        command=["docker", "run", "--name", f"preheat-synthetic-{number}"],
        start=1_760_000_000.0 + 100 * number,
        end=1_760_000_000.0 + 100 * number + wall,
        wall_seconds=wall,
        phases=records.finish_phases(entries, wall),
        cache={
            "weights_rung": "page_cache" if number else "hub",
            "resident_fraction_before": 0.97 if number else 0.0,
            "jit": "warm" if number else "cold",
            "hub_bytes": 0 if number else MODEL_BYTES,
        },
        workloads=workloads,
    )
    record.update(fields)
    record.update(scoring.score_trial(record, objective or OBJECTIVE, SLO if slo is None else slo))
    return record


def failed_trial(number, error_class="bad_flag", message="unrecognized arguments: --no-such-flag", **error):
    """A launch that never got to its benchmark."""
    cause = {
        "class": error_class,
        "message": message,
        "remedy": "Remove no_such_flag from the search space; this version of SGLang does not know it.",
        "phase": "engine_start",
        "exit_code": 2,
        "log_tail": "launch_server.py: error: unrecognized arguments: --no-such-flag\n",
    } | error
    spans = {"model_fetch": 0.4, "container_create": 0.5, "engine_start": 7.9, "teardown": 0.8}
    return trial(number, workloads=[], status="failed", phases=spans, error=cause)


def sweep():
    """A sweep of eight trials: six complete, one of them over its SLO, two failed."""
    found = []
    for number in range(6):
        gain = 1 + 0.12 * number - 0.02 * number**2
        chat = [workload("chat", c, 220 * c**0.72 * gain, 0.05 + 0.012 * c * (1.3 - 0.1 * number)) for c in (1, 8, 32)]
        read = [workload("read", c, 150 * c**0.6 * gain, 0.12 + 0.03 * c) for c in (1, 8)]
        if number == 5:
            chat = [{**p, "metrics": {**p["metrics"], "ttft_p99_seconds": 3.0}} for p in chat]
        found.append(trial(number, workloads=chat + read))
    out_of_memory = "CUDA out of memory. Tried to allocate 2.50 GiB <script>alert('log text')</script>"
    found.append(failed_trial(6))
    found.append(
        failed_trial(7, "out_of_memory", out_of_memory, remedy="Lower mem_fraction_static.", log_tail=out_of_memory)
    )
    return found


def plan(**changes):
    """The plan of that sweep, as the planner leaves it in sweep.json."""
    return {
        "name": "synthetic",
        "model": {"repo_id": "example/tiny-llama", "revision": "main"},
        "image": "lmsysorg/sglang:v0.5.15",
        "commit": "c" * 40,
        "server": {
            "base": {"context_length": 4096},
            "space": {"chunked_prefill_size": [2048 * n for n in range(1, 9)]},
        },
        "environment": {},
        "workloads": [
            {"name": "chat", "input_tokens": 512, "output_tokens": 128, "concurrency": [1, 8, 32], "num_prompts": 32},
            {"name": "read", "input_tokens": 512, "output_tokens": 128, "concurrency": [1, 8], "num_prompts": 32},
        ],
        "objective": OBJECTIVE,
        "slo": SLO,
        "points": 8,
        "bytes_total": MODEL_BYTES,
    } | changes


def large_trial(number, chance):
    """One trial of a large sweep: three parameters, five workload points; every tenth failed. C(chance) is a Random."""
    params = {
        "attention_backend": ("fa3", "flashinfer", "triton")[number % 3],
        "chunked_prefill_size": 1024 * 2 ** (number // 3 % 5),
        "mem_fraction_static": round(0.70 + 0.01 * (number // 15 % 25), 2),
    }
    if number % 10 == 9:
        return failed_trial(number, chance.choice(("bad_flag", "out_of_memory", "timeout"))) | {"params": params}
    gain = (1 + 0.1 * (number % 3)) * (1 + 0.05 * (number // 3 % 5)) * chance.uniform(0.97, 1.03)
    chat = [workload("chat", c, 220 * c**0.72 * gain, 0.05 + 0.012 * c * chance.uniform(0.8, 1.2)) for c in (1, 8, 32)]
    read = [workload("read", c, 150 * c**0.6 * gain, 0.12 + 0.03 * c * chance.uniform(0.8, 1.2)) for c in (1, 8)]
    return trial(number, workloads=chat + read, params=params, server_parameters={"context_length": 4096, **params})
