"""How fast the imagined engine is: a pure function of the server's flags and of the workload.

The shapes are the usual ones (batching raises throughput and latency, larger prefill chunks help TTFT and hurt ITL,
tensor parallelism has diminishing returns, too little memory queues requests), the numbers are invented. The same
input always gives the same output, so that a test knows which trial wins.
"""

import hashlib
from dataclasses import dataclass

PREFILL_TOKENS_PER_SECOND = 40_000
DECODE_SECONDS = 0.010  # per token, alone on one GPU
KV_TOKENS_AT_FULL_MEMORY = 200_000
BACKEND_SPEED = {"flashinfer": 1.25, "fa3": 1.3, "triton": 1.1}
JITTER = 0.05


@dataclass(frozen=True)
class Engine:
    """What the flags make of the imagined hardware."""

    prefill_tokens_per_second: float
    decode_seconds: float
    slowdown_per_neighbour: float
    max_running_requests: int
    kv_tokens: float

    @classmethod
    def from_flags(cls, flags: dict) -> "Engine":
        speed = (flags.get("tp_size") or 1) ** 0.8 * BACKEND_SPEED.get(flags.get("attention_backend"), 1.0)
        chunk = flags.get("chunked_prefill_size") or 8192
        decode = DECODE_SECONDS / speed * (1 + chunk / 65_536)
        if flags.get("disable_overlap_schedule"):
            decode *= 1.1
        return cls(
            prefill_tokens_per_second=PREFILL_TOKENS_PER_SECOND * speed * chunk / (chunk + 1024),
            decode_seconds=decode,
            slowdown_per_neighbour=0.03,
            max_running_requests=flags.get("max_running_requests") or 2048,
            # Its parser makes a number of it in a way of its own, which the extracted one does not know.
            kv_tokens=int(flags.get("max_total_tokens") or 0)
            or KV_TOKENS_AT_FULL_MEMORY * (flags.get("mem_fraction_static") or 0.88),
        )


@dataclass(frozen=True)
class Request:
    start: float
    ttft: float
    itls: tuple

    @property
    def latency(self) -> float:
        return self.ttft + sum(self.itls)


def _jitter(seed: int, index: int) -> float:
    """A factor near 1 that only depends on its arguments."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return 1 + JITTER * (digest[0] / 127.5 - 1)


def simulate(
    engine: Engine,
    *,
    requests: int,
    input_tokens: int,
    output_tokens: int,
    concurrency: int | None,
    request_rate: float,
    seed: int,
) -> list[Request]:
    """The requests as a client sees them: it keeps `concurrency` of them open, or sends `request_rate` a second."""
    fits = max(1, int(engine.kv_tokens // (input_tokens + output_tokens)))
    running = min(engine.max_running_requests, fits, concurrency or requests, requests)
    token_seconds = engine.decode_seconds * (1 + engine.slowdown_per_neighbour * (running - 1))
    prefill_seconds = input_tokens / engine.prefill_tokens_per_second
    clients = min(concurrency or requests, requests)
    engine_free, client_free = [0.0] * running, [0.0] * clients
    simulated = []
    for index in range(requests):
        client = min(range(clients), key=client_free.__getitem__)
        lane = min(range(running), key=engine_free.__getitem__)
        arrival = 0.0 if request_rate == float("inf") else index / request_rate
        sent = max(arrival, client_free[client])
        begun = max(sent, engine_free[lane])
        factor = _jitter(seed, index)
        itls = (token_seconds * factor,) * (output_tokens - 1)
        request = Request(sent, begun - sent + prefill_seconds * factor + token_seconds, itls)
        engine_free[lane] = client_free[client] = sent + request.latency
        simulated.append(request)
    return simulated
