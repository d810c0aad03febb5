from __future__ import annotations

import calendar
import re
import time
from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_phases import (
    ENGINE_PHASES,
    engine_phases,
    startup_phases,
)

LOGS = Path(__file__).parents[2] / "data" / "sglang-logs"
STAMP = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
DOCKER_STAMP = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)Z ?(.*)")


def entries_of(name):
    """The lines of a real log, timed by Docker's clock or its own; lines without a time came with the one before."""
    entries, last = [], None
    for line in (LOGS / name).read_text().splitlines():
        docker, match = DOCKER_STAMP.match(line), STAMP.search(line)
        if docker:
            last = calendar.timegm(time.strptime(docker.group(1), "%Y-%m-%dT%H:%M:%S")) + float(docker.group(2))
        elif match:
            last = calendar.timegm(time.strptime(match.group(1), "%Y-%m-%d %H:%M:%S"))
        entries.append((last, docker.group(3) if docker else line))
    first = next(epoch for epoch, _line in entries if epoch is not None)
    return [(first if epoch is None else epoch, line) for epoch, line in entries]


def spans(phases, origin):
    return [(phase["name"], phase["start"] - origin, phase["seconds"]) for phase in phases]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "0.5.15-cpu-startup.log",
            [("engine_start", 0, 22), ("weights_load", 22, 0), ("kv_cache", 22, 0), ("server_warmup", 22, 2)],
        ),
        (
            "0.5.23-cpu-startup.log",
            [("engine_start", 0, 160), ("weights_load", 160, 0), ("kv_cache", 160, 1), ("server_warmup", 161, 3)],
        ),
    ],
)
def test_real_logs(name, expected):
    entries = entries_of(name)
    start = entries[0][0]
    ready = next(epoch for epoch, line in entries if "fired up" in line)
    phases = engine_phases(entries, start, ready + 1.5)
    assert spans(phases, start) == [*expected, ("ready", ready - start, 1.5)]


# Starts on an H100: SGLang says itself how long it loaded weights and captured graphs. For the other phases it gives
# two times only; what stands here is what preheat measured in that launch (docs/example-h100), or, for the bare docker
# run, the difference of Docker's times. SGLang's own times are whole seconds, Docker's are exact.
@pytest.mark.parametrize(
    ("name", "seconds", "tolerance"),
    [
        (
            "triton-jit-cold",
            {"kv_cache": 0.9, "graph_capture": 82.1, "server_warmup": 11.0, "weights_load": 2.2},
            1.0,
        ),
        (
            "triton-jit-warm",
            {"kv_cache": 1.1, "graph_capture": 15.2, "server_warmup": 1.2, "weights_load": 2.7},
            1.0,
        ),
        (
            "flashinfer-jit-cold",
            {"kv_cache": 1.0, "graph_capture": 153.1, "server_warmup": 1.3, "weights_load": 2.7},
            1.0,
        ),
        (
            "flashinfer-jit-warm",
            {"kv_cache": 1.0, "graph_capture": 9.8, "server_warmup": 1.2, "weights_load": 2.5},
            1.0,
        ),
        (
            "disk",
            {"kv_cache": 1.2, "graph_capture": 14.3, "server_warmup": 1.2, "weights_load": 18.0},
            1.0,
        ),
        (
            "bare-jit-cold",
            {"kv_cache": 1.19, "graph_capture": 66.13, "server_warmup": 9.9, "weights_load": 0.82},
            0.05,
        ),
    ],
)
def test_real_gpu_logs(name, seconds, tolerance):
    entries = entries_of(f"0.5.15.post1-h100-{name}.log")
    start = entries[0][0]
    ready = next(epoch for epoch, line in entries if "fired up" in line)
    phases = engine_phases(entries, start, ready + 1.5)
    measured = {phase["name"]: phase["seconds"] for phase in phases}

    assert [phase["name"] for phase in phases] == list(ENGINE_PHASES)
    assert sum(measured.values()) == pytest.approx(ready + 1.5 - start)
    assert {phase: measured[phase] for phase in seconds} == pytest.approx(seconds, abs=tolerance)
    text = "\n".join(line for _epoch, line in entries)
    (loaded,) = re.findall(r"Load weight end\. elapsed=([\d.]+) s", text)
    captured = re.findall(r"Capture target \w+ CUDA graph end\. elapsed=([\d.]+) s", text)
    assert len(captured) == 2
    assert measured["weights_load"] == pytest.approx(float(loaded), abs=tolerance)
    assert measured["graph_capture"] == pytest.approx(sum(map(float, captured)), abs=tolerance)


# What preheat measured in those launches, but for the second: its record has two spans of weights and of cache.
@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("weight-cache", {"weights_load": 0.1, "kv_cache": 1.5, "graph_capture": 2.5, "server_warmup": 1.3}),
        ("weight-cache-tp2", {"weights_load": 0.4, "kv_cache": 1.6, "graph_capture": 4.1, "server_warmup": 1.4}),
        ("tp2", {"weights_load": 4.3, "kv_cache": 1.7, "graph_capture": 4.2, "server_warmup": 1.5}),
    ],
)
def test_real_logs_of_weights_in_gpu_memory_and_of_two_ranks(name, seconds):
    entries = entries_of(f"0.5.19-h200-{name}.log")
    start, end = entries[0][0], entries[-1][0]
    phases = engine_phases(entries, start, end)
    assert [phase["name"] for phase in phases] == list(ENGINE_PHASES)
    measured = {phase["name"]: phase["seconds"] for phase in phases}
    assert {phase: measured[phase] for phase in seconds} == pytest.approx(seconds, abs=1.0)


def test_real_gpu_log_of_a_server_out_of_memory():
    """It died while it captured graphs: that phase lasts until the end, and none comes after it."""
    entries = entries_of("0.5.15.post1-h100-out-of-memory.log")
    start, end = entries[0][0], entries[-1][0]
    measured = [(phase["name"], phase["seconds"]) for phase in engine_phases(entries, start, end)]
    assert [name for name, _seconds in measured] == ["engine_start", "weights_load", "kv_cache", "graph_capture"]
    assert [seconds for _name, seconds in measured[1:]] == pytest.approx([0.6, 0.8, 1.7], abs=1.0)


# The marks as each version prints them; times are seconds after the container's start.
TP2_0_4 = [
    (20, "[2026-05-15 08:40:20 TP1] Init torch distributed begin."),
    (21, "[2026-05-15 08:40:21 TP1] Load weight begin. avail mem=92.50 GB"),
    (22, "[2026-05-15 08:40:22 TP0] Load weight begin. avail mem=92.50 GB"),
    (39, "Loading safetensors checkpoint shards: 100% Completed | 4/4 [00:17<00:00,  4.25s/it]"),
    (40, "[2026-05-15 08:40:40 TP0] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=77.39 GB"),
    (42, "[2026-05-15 08:40:42 TP1] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=77.39 GB"),
    (43, "[2026-05-15 08:40:43 TP0] KV Cache is allocated. #tokens: 46611, K size: 2.84 GB, V size: 2.84 GB"),
    (43, "[2026-05-15 08:40:43 TP0] Memory pool end. avail mem=10.18 GB"),
    (44, "[2026-05-15 08:40:44 TP0] Capture cuda graph begin. This can take up to several minutes."),
    (44, "[2026-05-15 08:40:44 TP0] Capture cuda graph bs [1, 2, 4, 8, 16]"),
    (
        45,
        "  0%|  | 0/5 [00:00<?, ?it/s][2026-05-15 08:40:45 TP1] Capture cuda graph begin. This can take up to several",
    ),
    (
        50,
        "[2026-05-15 08:40:50 TP1] Capture cuda graph end. Time elapsed: 5.00 s. mem usage=0.93 GB.",
    ),
    (
        51,
        "[2026-05-15 08:40:51 TP0] Capture cuda graph end. Time elapsed: 7.00 s. mem usage=0.93 GB.",
    ),
    (52, "[2026-05-15 08:40:52 TP0] max_total_num_tokens=46611, chunked_prefill_size=2048, max_prefill_tokens=16384"),
    (53, "[2026-05-15 08:40:53] INFO:     Started server process [7]"),
    (55, "[2026-05-15 08:40:55] The server is fired up and ready to roll!"),
]
GPU_0_5_15 = [
    (10, "[2026-05-15 08:40:10] Load weight begin. avail mem=78.00 GB"),
    (
        20,
        "[2026-05-15 08:40:20] Load weight end. elapsed=9.9 s, type=Qwen3ForCausalLM, avail mem=62 GB.",
    ),
    (21, "[2026-05-15 08:40:21] Memory pool end. avail mem=9.90 GB"),
    (25, "[2026-05-15 08:40:25] Capture target decode CUDA graph begin. backend=full, num_tokens_per_bs=1, bs=[1, 2]"),
    (
        30,
        "[2026-05-15 08:40:30] Capture target decode CUDA graph end. elapsed=5.00 s, mem usage=0.5 GB.",
    ),
    (31, "[2026-05-15 08:40:31] Capture target prefill CUDA graph begin. backend=tc_piecewise, num_tokens=[4, 8]"),
    (
        39,
        "[2026-05-15 08:40:39] Capture target prefill CUDA graph end. elapsed=8.00 s, mem usage=0.5 GB.",
    ),
    (40, "[2026-05-15 08:40:40] max_total_num_tokens=46611, chunked_prefill_size=2048, max_prefill_tokens=16384"),
    (45, "[2026-05-15 08:40:45] The server is fired up and ready to roll!"),
]
EAGLE_0_4 = [
    (10, "[2026-05-15 08:40:10 TP0] Load weight begin. avail mem=78.00 GB"),
    (20, "[2026-05-15 08:40:20 TP0] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=62 GB"),
    (22, "[2026-05-15 08:40:22 TP0] Capture cuda graph begin. This can take up to several minutes. avail mem=9.96 GB"),
    (
        30,
        "[2026-05-15 08:40:30 TP0] Capture cuda graph end. Time elapsed: 8.00 s. mem usage=0.93 GB.",
    ),
    (31, "[2026-05-15 08:40:31 TP0] Load weight begin. avail mem=9.30 GB"),
    (
        33,
        "[2026-05-15 08:40:33 TP0] Load weight end. type=LlamaForCausalLMEagle3, dtype=torch.bfloat16, avail mem=7 GB",
    ),
    (
        34,
        "[2026-05-15 08:40:34 TP0] Capture draft cuda graph begin. This can take up to several minutes.",
    ),
    (
        36,
        "[2026-05-15 08:40:36 TP0] Capture draft cuda graph end. Time elapsed: 2.00 s. mem usage=0.2 GB.",
    ),
    (36, "[2026-05-15 08:40:36 TP0] Capture draft extend cuda graph begin. This can take up to several minutes."),
    (38, "[2026-05-15 08:40:38 TP0] Capture draft extend cuda graph end. Time elapsed: 2.00 s. mem usage=0.2 GB."),
    (39, "[2026-05-15 08:40:39 TP0] max_total_num_tokens=46611, chunked_prefill_size=2048, max_prefill_tokens=16384"),
    (42, "[2026-05-15 08:40:42] The server is fired up and ready to roll!"),
]
OVERLAPPED_0_5_23 = [
    (10, "[2026-05-15 08:40:10] Load weight begin. avail mem=78.00 GB"),
    (12, "[2026-05-15 08:40:12] Memory pool end. avail mem=9.90 GB"),
    (13, "[2026-05-15 08:40:13] Capture target decode CUDA graph begin. backend=full, num_tokens_per_bs=1, bs=[1, 2]"),
    (
        18,
        "[2026-05-15 08:40:18] Capture target decode CUDA graph end. elapsed=5.00 s, mem usage=0.5 GB.",
    ),
    (20, "[2026-05-15 08:40:20] Load weight end. Committed real weights after CUDA graph capture in 2.00 s (capture"),
    (21, "[2026-05-15 08:40:21] max_total_num_tokens=46611, chunked_prefill_size=2048, max_prefill_tokens=16384"),
    (25, "[2026-05-15 08:40:25] The server is fired up and ready to roll!"),
]


@pytest.mark.parametrize(
    ("entries", "end", "expected"),
    [
        pytest.param(
            TP2_0_4,
            57,
            [
                ("engine_start", 0, 21),
                ("weights_load", 21, 21),
                ("kv_cache", 42, 2),
                ("graph_capture", 44, 7),
                ("server_warmup", 51, 4),
                ("ready", 55, 2),
            ],
            id="two ranks: the first begins, the last ends",
        ),
        pytest.param(
            GPU_0_5_15,
            46,
            [
                ("engine_start", 0, 10),
                ("weights_load", 10, 10),
                ("kv_cache", 20, 5),
                ("graph_capture", 25, 14),
                ("server_warmup", 39, 6),
                ("ready", 45, 1),
            ],
            id="two captures are one phase",
        ),
        pytest.param(
            EAGLE_0_4,
            43,
            [
                ("engine_start", 0, 10),
                ("weights_load", 10, 10),
                ("kv_cache", 20, 2),
                ("graph_capture", 22, 9),
                ("weights_load", 31, 2),
                ("kv_cache", 33, 1),
                ("graph_capture", 34, 4),
                ("server_warmup", 38, 4),
                ("ready", 42, 1),
            ],
            id="a draft model comes after the model",
        ),
        pytest.param(
            OVERLAPPED_0_5_23,
            26,
            [
                ("engine_start", 0, 10),
                ("weights_load", 10, 3),
                ("graph_capture", 13, 5),
                ("server_warmup", 18, 7),
                ("ready", 25, 1),
            ],
            id="weights that load beside the capture",
        ),
        pytest.param([], 30, [("engine_start", 0, 30)], id="nothing logged yet"),
        pytest.param(
            TP2_0_4[:5], 41, [("engine_start", 0, 21), ("weights_load", 21, 20)], id="died while a rank loads"
        ),
        pytest.param(
            [(5, "INFO:     Started server process [7]"), (6, "The server is fired up and ready to roll!")],
            7,
            [("engine_start", 0, 5), ("server_warmup", 5, 1), ("ready", 6, 1)],
            id="an engine that says little",
        ),
        pytest.param(
            [(-1, "Load weight begin."), (99, "Load weight end.")],
            10,
            [("engine_start", 0, 0), ("weights_load", 0, 10), ("kv_cache", 10, 0)],
            id="times outside the span are clipped",
        ),
    ],
)
def test_engine_phases(entries, end, expected):
    phases = engine_phases(entries, 0, end)
    assert spans(phases, 0) == expected
    assert sum(phase["seconds"] for phase in phases) == end


@pytest.mark.parametrize(
    ("pulled_at", "container_start", "expected"),
    [
        (None, 103, [("container_create", 0, 3), ("engine_start", 3, 7)]),
        (102, 103, [("image_pull", 0, 2), ("container_create", 2, 1), ("engine_start", 3, 7)]),
        # It never started: the create has what is left.
        (102, None, [("image_pull", 0, 2), ("container_create", 2, 8)]),
        # Docker's clock and ours may differ by a little.
        (None, 99.9, [("container_create", 0, 0), ("engine_start", 0, 10)]),
        (None, 110.1, [("container_create", 0, 10), ("engine_start", 10, 0)]),
    ],
)
def test_startup_phases(pulled_at, container_start, expected):
    phases = startup_phases(
        [], launch_start=100, pulled_at=pulled_at, pull_bytes=5, container_start=container_start, end=110
    )
    assert spans(phases, 100) == expected
    assert [phase.get("bytes") for phase in phases if phase["name"] == "image_pull"] in ([], [5])
    assert sum(phase["seconds"] for phase in phases) == 10
