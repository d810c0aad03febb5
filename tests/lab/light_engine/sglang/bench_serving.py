"""python3 -m sglang.bench_serving: a real request per prompt, so that a dead server shows; the times are simulated."""

import json
import math
import os
import sys
import time
import urllib.error
import urllib.request

from sglang.flags import build_parser
from sglang.performance import Engine, Request, simulate

LATENCIES = ("e2e_latency", "ttft", "tpot", "itl")
# Requests go to the server itself, whatever proxy the environment names.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(url: str, body: dict | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    with OPENER.open(urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30) as reply:
        return reply.read()


def send(base_url: str, model: str) -> str:
    """Send one request; the error, or nothing."""
    try:
        call(f"{base_url}/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": "x"}]})
    except (urllib.error.URLError, OSError) as error:
        return str(error)
    return ""


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low, high = math.floor(position), math.ceil(position)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def summarise(name: str, seconds: list[float]) -> dict:
    milliseconds = [value * 1000 for value in seconds] or [0.0]
    mean = sum(milliseconds) / len(milliseconds)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in milliseconds) / len(milliseconds))
    return {
        f"mean_{name}_ms": mean,
        f"median_{name}_ms": percentile(milliseconds, 50),
        f"std_{name}_ms": deviation,
        **{f"p{percent}_{name}_ms": percentile(milliseconds, percent) for percent in (90, 95, 99)},
    }


def measure(requests: list[Request], input_tokens: int, output_tokens: int) -> dict:
    """The keys of SGLang 0.5.15's result from `duration` on; `requests` are those that succeeded."""
    duration = max((request.start + request.latency for request in requests), default=1e-9)
    completed = len(requests)
    samples = {
        "e2e_latency": [request.latency for request in requests],
        "ttft": [request.ttft for request in requests],
        "tpot": [sum(request.itls) / len(request.itls) for request in requests if request.itls],
        "itl": [itl for request in requests for itl in request.itls],
    }
    concurrency = sum(samples["e2e_latency"]) / duration
    result = {
        "duration": duration,
        "completed": completed,
        "total_input_tokens": completed * input_tokens,
        "total_input_text_tokens": completed * input_tokens,
        "total_input_vision_tokens": 0,
        "total_output_tokens": completed * output_tokens,
        "total_output_tokens_retokenized": completed * output_tokens,
        "request_throughput": completed / duration,
        "input_throughput": completed * input_tokens / duration,
        "output_throughput": completed * output_tokens / duration,
        "total_throughput": completed * (input_tokens + output_tokens) / duration,
    }
    for name in LATENCIES:
        result.update(summarise(name, samples[name]))
    result.update(
        concurrency=concurrency,
        accept_length=None,
        max_output_tokens_per_s=float(math.ceil(result["output_throughput"])),
        max_concurrent_requests=math.ceil(concurrency),
    )
    return result


def main() -> None:
    arguments = build_parser("bench_serving").parse_args()
    if not arguments.dataset_name.startswith("random"):
        sys.exit(f"the light engine only knows the random datasets, not {arguments.dataset_name}")
    base_url = arguments.base_url or f"http://{arguments.host}:{arguments.port or 30000}"
    input_tokens, output_tokens = arguments.random_input_len, arguments.random_output_len

    for _ in range(arguments.warmup_requests):
        if error := send(base_url, arguments.model):
            raise ValueError(
                f"Warmup failed - Please make sure benchmark arguments are correctly specified. Error: {error}"
            )
    if arguments.flush_cache:
        call(f"{base_url}/flush_cache", {})

    server_info = json.loads(call(f"{base_url}/server_info"))
    simulated = simulate(
        Engine.from_flags(server_info),
        requests=arguments.num_prompts,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        concurrency=arguments.max_concurrency,
        request_rate=arguments.request_rate,
        seed=arguments.seed,
    )
    errors = [send(base_url, arguments.model) for _ in simulated]
    time.sleep(float(os.environ.get("LIGHT_ENGINE_BENCH_SECONDS") or 0.2))

    succeeded = [request for request, error in zip(simulated, errors, strict=True) if not error]
    result = {
        "tag": arguments.tag,
        "backend": arguments.backend,
        "dataset_name": arguments.dataset_name,
        "request_rate": arguments.request_rate,
        "max_concurrency": arguments.max_concurrency,
        "sharegpt_output_len": arguments.sharegpt_output_len,
        "random_input_len": input_tokens,
        "random_output_len": output_tokens,
        "random_range_ratio": arguments.random_range_ratio,
        "server_info": server_info,
        **measure(succeeded, input_tokens, output_tokens),
    }
    print(f"{' Serving Benchmark Result ':=^50}\n{'Successful requests:':<40} {len(succeeded):<10}\n{'=' * 50}")
    if arguments.output_details:
        good = [not error for error in errors]
        result.update(
            input_lens=[input_tokens] * len(simulated),
            output_lens=[output_tokens if ok else 0 for ok in good],
            ttfts=[request.ttft if ok else 0.0 for request, ok in zip(simulated, good, strict=True)],
            itls=[list(request.itls) if ok else [] for request, ok in zip(simulated, good, strict=True)],
            generated_texts=[""] * len(simulated),
            errors=errors,
        )
    default_file = f"{arguments.backend}_{arguments.num_prompts}_{input_tokens}_{output_tokens}.jsonl"
    with open(arguments.output_file or default_file, "a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
