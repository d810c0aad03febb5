# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a server did not start: the class, a message and a remedy, from its exit code and its log."""

from __future__ import annotations

import re

# (class, pattern, remedy). The first pattern that is found in a line of the log decides; that line is the message.
# The order matters: what stops the engine first stands before what can also be logged in passing. No pattern begins
# with a wildcard: SGLang logs its settings in one line of 15 KB.
_CAUSES = (
    (
        "bad_flag",
        r"^[\w./ -]+: error: .",
        "Correct or remove the parameter. 'python3 -m sglang.launch_server --help' in the image lists the flags "
        "of its version.",
    ),
    (
        "bad_flag",
        r"ValueError: .*is greater than the derived context_length"
        r"|(?:AssertionError|ValueError|RuntimeError): .*must be divisible by",
        "Change the parameter to what this model allows.",
    ),
    (
        "out_of_memory",
        r"Not enough memory\. Please try to increase --mem-fraction-static",
        "The weights leave no room for the KV cache: raise mem_fraction_static, use more GPUs (tp_size) or a "
        "smaller or quantised model.",
    ),
    (
        "out_of_memory",
        r"The memory capacity is unbalanced\. Some GPUs may be occupied by other processes",
        "Stop what else uses these GPUs ('nvidia-smi' names it), or choose GPUs of equal memory.",
    ),
    (
        "out_of_memory",
        r"(?:CUDA|HIP) out of memory|CUDA error: out of memory|cudaErrorMemoryAllocation|hipErrorOutOfMemory"
        r"|CUBLAS_STATUS_ALLOC_FAILED|Cuda failure 2 'out of memory'",
        "Lower mem_fraction_static, chunked_prefill_size or the largest batch of the CUDA graphs, use more GPUs "
        "(tp_size), and see that nothing else uses these GPUs.",
    ),
    (
        "out_of_memory",
        r"can't allocate memory: you tried to allocate|std::bad_alloc|Cannot allocate memory|^MemoryError\b"
        r"|[Ee]xit code: -9\b|terminated with -9\b",
        "The host's memory did not suffice: free some, lower max_total_tokens or the number of loading threads, "
        "or use a larger host.",
    ),
    (
        "out_of_memory",
        r"No space left on device.*/dev/shm|/dev/shm.*No space left on device|insufficient shared memory"
        r"|[Ee]xit code: -7\b",
        "Raise shm_size, or set ipc_mode to host.",
    ),
    (
        "port_in_use",
        r"error while attempting to bind on address|\[Errno 98\]|EADDRINUSE|Port is already in use\."
        r"|at \d+ is not available in \d+ seconds",
        "Choose another port, leave port at 0 for a free one, or stop what listens there (with network_mode host "
        "a server also needs its internal ports: set nccl_port or dist_init_addr apart).",
    ),
    (
        "model_missing",
        r"(?:LocalEntryNotFoundError|OfflineModeIsEnabled|HFValidationError|RepositoryNotFoundError): "
        r"|Cannot find any model weights with|does not appear to have a file named"
        r"|is not a local folder and is not a valid model identifier"
        # Of a model without generation_config.json an offline server says the same in passing.
        r"|^(?!.*Failed to load generation config).*We couldn't connect to 'https?://"
        r"|Can't load (?:the )?(?:tokenizer|configuration|config) (?:for|of)",
        "The server runs offline from the host's cache: fetch the model, and any draft model or adapter that the "
        "parameters name, with preheat.fleet.hf_model first.",
    ),
    (
        "crashed",
        r"Found no NVIDIA driver|No CUDA GPUs are available|No accelerator \(.*\) .*is available"
        r"|invalid device ordinal|Torch not compiled with CUDA enabled",
        "The container sees no such GPU: list the GPUs in gpus, check gpu_access, and that tp_size is not larger "
        "than their number. On a host without GPUs set the parameter device to cpu.",
    ),
    (
        "crashed",
        r"FATAL tini.* exec .* failed",
        "The image has no such program: use an image with SGLang in it, or set command to how it starts its server.",
    ),
    (
        "crashed",
        r"no kernel image is available for execution on the device",
        "The image was built for other GPUs: use an image for this GPU generation.",
    ),
)
_COMPILED = tuple((name, re.compile(pattern), remedy) for name, pattern, remedy in _CAUSES)

_FRAME = re.compile(r'File "([^"]+)", line \d+')
_EXCEPTION = re.compile(r"^(?:\[[^\]]*\] )?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)\b.*)$", re.M)
_ARGUMENT_FILES = re.compile(r"/(?:server_args[^/]*|arg_groups/[^/]*)\.py$")

OOM_KILLED_REMEDY = "The kernel killed it for memory: free some on the host, or lower what the parameters ask for."
CRASH_REMEDY = "Read log_tail for the cause; return_log gives the complete log."


def _last_exception(text):
    found = _EXCEPTION.findall(text)
    return found[-1].strip() if found else None


def _raised_by_arguments(text):
    """Whether the last traceback ends in SGLang's checks of its own arguments."""
    frames = _FRAME.findall(text.rpartition("Traceback (most recent call last)")[2])
    return bool(frames and _ARGUMENT_FILES.search(frames[-1]))


def _line(text):
    return text.strip()[:500]


def classify(exit_code, oom_killed, text):
    """(class, message, remedy) of a server that ended while it started."""
    ended = f"the server ended with exit code {exit_code} before it was ready"
    if oom_killed:
        return "out_of_memory", f"{ended}: out of the container's or the host's memory", OOM_KILLED_REMEDY
    lines = text.splitlines()
    for name, pattern, remedy in _COMPILED:
        line = next((line for line in lines if pattern.search(line)), None)
        if line is not None:
            return name, f"{ended}: {_line(line)}", remedy
    exception = _last_exception(text)
    if exception and _raised_by_arguments(text):
        return "bad_flag", f"{ended}: {_line(exception)}", "Change the parameters as SGLang's message asks."
    if exit_code == 2 and "usage:" in text:
        return "bad_flag", ended, "Correct the parameters; log_tail shows SGLang's usage message."
    if exception:
        return "crashed", f"{ended}: {_line(exception)}", CRASH_REMEDY
    if exit_code == 137:
        return "crashed", f"{ended}: something outside killed it (SIGKILL)", OOM_KILLED_REMEDY
    return "crashed", ended, CRASH_REMEDY
