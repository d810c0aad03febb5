from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_failure import classify

LOGS = Path(__file__).parents[2] / "data" / "sglang-logs"
SCHEDULER = "[2026-05-15 08:40:50 TP0] Scheduler hit an exception: Traceback (most recent call last):\n"
FRAME = '  File "/sgl-workspace/sglang/python/sglang/srt/model_executor/model_runner.py", line 415, in __init__\n'
ARGUMENTS = (
    "Traceback (most recent call last):\n"
    '  File "/sgl-workspace/sglang/python/sglang/launch_server.py", line 14, in <module>\n'
    "    server_args = prepare_server_args(sys.argv[1:])\n"
    '  File "/sgl-workspace/sglang/python/sglang/srt/server_args.py", line 6613, in check_server_args\n'
)
KILLED = "[2026-05-15 08:40:50] Received sigquit from a child process. It usually means the child failed.\n"

# Texts that SGLang, PyTorch and Hugging Face's libraries print, from their sources and from public issues.
CASES = [
    (
        "bad_flag",
        2,
        "usage: x [-h]\nlaunch_server.py: error: unrecognized arguments: --enable-reasoning\n",
    ),
    ("bad_flag", 2, "launch_server.py: error: argument --dtype: invalid choice: 'fp3' (choose from 'auto', 'half')\n"),
    ("bad_flag", 2, "launch_server.py: error: argument --tp-size: invalid int value: 'two'\n"),
    ("bad_flag", 2, "sglang serve: error: the following arguments are required: --model-path/--model\n"),
    ("bad_flag", 1, ARGUMENTS + "AssertionError: chunked_prefill_size must be divisible by page_size\n"),
    ("bad_flag", 1, ARGUMENTS + "ValueError: Invalid value for attention backend\n"),
    (
        "bad_flag",
        1,
        SCHEDULER + FRAME + "ValueError: User-specified context_length (999999) is greater than the derived "
        "context_length (32768). This may lead to incorrect model outputs or CUDA errors.\n" + KILLED,
    ),
    (
        "out_of_memory",
        -9,
        SCHEDULER + FRAME + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 312.00 MiB. GPU 0 has a "
        "total capacity of 79.11 GiB of which 80.00 MiB is free.\n" + KILLED,
    ),
    ("out_of_memory", 1, SCHEDULER + "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.00 GiB.\n"),
    ("out_of_memory", 1, SCHEDULER + "RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be\n"),
    (
        "out_of_memory",
        1,
        SCHEDULER + FRAME + "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. "
        "Current value: mem_fraction_static=0.3\n" + KILLED,
    ),
    (
        "out_of_memory",
        1,
        SCHEDULER + FRAME + "ValueError: The memory capacity is unbalanced. Some GPUs may be occupied by other "
        "processes. pre_model_load_memory=23.3, local_gpu_memory=78.8\n",
    ),
    (
        "out_of_memory",
        1,
        "RuntimeError: Rank 0 scheduler died during initialization (exit code: -9). If exit code is -9 (SIGKILL), a "
        "common cause is the OS OOM killer.\n",
    ),
    ("out_of_memory", 1, "[2026-05-15 08:40:50] Rank 0 scheduler is dead.\n[2026-05-15 08:40:50] Exit code: -9\n"),
    (
        "out_of_memory",
        1,
        "RuntimeError: [enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 1099511627776 bytes. Error code 12 (Cannot allocate memory)\n",
    ),
    (
        "out_of_memory",
        135,
        "Bus error. It is possible that dataloader's workers are out of insufficient shared memory\n",
    ),
    (
        "port_in_use",
        1,
        "[2026-05-15 08:40:50] ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 30000): "
        "address already in use\n",
    ),
    ("port_in_use", 1, "ValueError: Port is already in use. dist_init_port=30233 port_base=30234\n"),
    (
        "port_in_use",
        1,
        "ValueError: nccl_port at 30233 is not available in 30 seconds. nccl_port is used by a process\n",
    ),
    (
        "port_in_use",
        1,
        SCHEDULER + "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network "
        "address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use\n",
    ),
    (
        "model_missing",
        1,
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
        "cached files.\n",
    ),
    (
        "model_missing",
        1,
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the "
        "specified revision on the local disk and outgoing traffic has been disabled.\n",
    ),
    ("model_missing", 1, SCHEDULER + "RuntimeError: Cannot find any model weights with `org/name`\n"),
    ("model_missing", 1, "OSError: /models/x does not appear to have a file named config.json.\n"),
    ("model_missing", 1, "OSError: Can't load tokenizer for '/models/x'. If you were trying to load it from\n"),
    ("crashed", 1, "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU\n"),
    ("crashed", 1, "RuntimeError: No accelerator (CUDA, XPU, HPU, NPU, MUSA, MPS) or platform plugin is available.\n"),
    ("crashed", 1, SCHEDULER + FRAME + "KeyError: 'lm_head.weight'\n" + KILLED),
    ("crashed", 127, "[FATAL tini (7)] exec python3 failed: No such file or directory\n"),
    ("crashed", 139, "Fatal Python error: Segmentation fault\n"),
    ("crashed", 0, ""),
]


@pytest.mark.parametrize(("expected", "exit_code", "text"), CASES)
def test_class(expected, exit_code, text):
    error_class, message, remedy = classify(exit_code, False, "[2026-05-15 08:40:12] server_args=...\n" + text)
    assert error_class == expected
    assert str(exit_code) in message
    assert remedy.endswith(".")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("launch_server.py: error: unrecognized arguments: --no-such\n", "unrecognized arguments: --no-such"),
        (SCHEDULER + FRAME + "KeyError: 'lm_head.weight'\n" + KILLED, "KeyError: 'lm_head.weight'"),
        (ARGUMENTS + "AssertionError: tp_size must be divisible by moe_dp_size\n", "divisible by moe_dp_size"),
    ],
)
def test_message_quotes_the_cause(text, part):
    assert part in classify(1, False, text)[1]


@pytest.mark.parametrize(
    "healthy",
    [
        # Said in passing by servers that start well, or that fail for another reason.
        "[2026-05-15 08:40:12] Port 30233 is already in use, trying port 30234\n",
        "Warning: User-specified context_length (9) is greater than the derived context_length (4). This may lead to\n",
        "[2026-05-15 08:40:12] Ignore import error when loading sglang.srt.models.x: No module named 'cutlass'\n",
        "server_args=ServerArgs(port=30000, watchdog_timeout=300, exit code: 0)\n",
    ],
)
def test_not_fooled(healthy):
    assert classify(1, False, healthy + SCHEDULER + "KeyError: 'x'\n")[0] == "crashed"


def test_a_real_server_out_of_memory():
    text = (LOGS / "0.5.15.post1-h100-out-of-memory.log").read_text()
    error_class, message, remedy = classify(137, False, text)
    assert error_class == "out_of_memory"
    assert "Tried to allocate 64.00 MiB. GPU 0 has a total capacity of 79.18 GiB" in message
    assert remedy.startswith("Lower mem_fraction_static")


@pytest.mark.parametrize(
    "name",
    [
        "0.5.15-cpu-startup.log",
        "0.5.23-cpu-startup.log",
        "0.5.15.post1-h100-triton-jit-cold.log",
        "0.5.15.post1-h100-flashinfer-jit-warm.log",
        "0.5.15.post1-h100-bare-jit-cold.log",
    ],
)
def test_not_fooled_by_what_a_real_server_logs_when_it_starts_well(name):
    assert classify(1, False, (LOGS / name).read_text() + SCHEDULER + FRAME + "KeyError: 'x'\n")[0] == "crashed"


def test_long_lines_take_no_time():
    """SGLang logs its settings in one line; a pattern that backtracks over it took 20 seconds."""
    begin = time.perf_counter()
    assert classify(1, False, "server_args=" + "some_setting=None, " * 2000 + "\nKeyError: 'x'\n")[0] == "crashed"
    assert time.perf_counter() - begin < 1


def test_killed_for_memory_by_the_kernel():
    error_class, message, _remedy = classify(137, True, "")
    assert error_class == "out_of_memory"
    assert "137" in message


def test_killed_by_somebody_else():
    error_class, message, _remedy = classify(137, False, "[2026-05-15 08:40:12] Load weight begin.\n")
    assert error_class == "crashed"
    assert "SIGKILL" in message
