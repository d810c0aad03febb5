# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers can take their weights from one daemon of SGLang's weight cache, and why others cannot."""

from __future__ import annotations

import json
import os
import re

MINIMUM_VERSION = (0, 5, 19)

# Flags that schedule requests, size pools or write logs: they touch no weight, and servers of one daemon may differ in
# them. All others count, for some change weights after they were loaded, and SGLang compares only a few.
FREE = frozenset(
    {
        "chunked_prefill_size",
        "cuda_graph_bs",
        "cuda_graph_bs_decode",
        "cuda_graph_bs_prefill",
        "cuda_graph_max_bs",
        "cuda_graph_max_bs_decode",
        "cuda_graph_max_bs_prefill",
        "decode_log_interval",
        "disable_cuda_graph",
        "disable_cuda_graph_padding",
        "disable_decode_cuda_graph",
        "disable_overlap_schedule",
        "disable_prefill_cuda_graph",
        "disable_radix_cache",
        "enable_metrics",
        "enable_mixed_chunk",
        "log_level",
        "log_requests",
        "max_prefill_tokens",
        "max_queued_requests",
        "max_running_requests",
        "max_total_tokens",
        "mem_fraction_static",
        "num_continuous_decode_steps",
        "radix_eviction_policy",
        "schedule_conservativeness",
        "schedule_policy",
        "skip_server_warmup",
        "stream_interval",
        "watchdog_timeout",
    }
)
# What SGLang's server takes for the beginning of tp_size; the daemon would, for that of its own tp_rank.
_FULL_NAMES = {"tp": "tp_size", "pp": "pp_size"}
_UNVERIFIED = "SGLang has not verified this quantisation with shared weights"
_ADAPTERS = "adapters change layers after the weights were loaded"
_IN_HOST_MEMORY = "weights would lie in the host's memory"
# Beginnings of flags that cannot go together with the daemon, and why not.
_REFUSED = {
    "weight_cache": "the module sets it",
    "speculative_": "the daemon does not hold the draft model's weights, and SGLang refuses the combination",
    "nnodes": "a server on several hosts needs daemons that find each other, which preheat does not start",
    "enable_lora": _ADAPTERS,
    "lora_": _ADAPTERS,
    "enable_eplb": "it moves experts between GPUs while the server runs",
    "enable_memory_saver": "the server could not release weights that the daemon holds",
    "cpu_offload": _IN_HOST_MEMORY,
    "offload_": _IN_HOST_MEMORY,
    "torchao_config": _UNVERIFIED,
    "modelopt_": _UNVERIFIED,
    "remote_instance_weight_loader": "weights would come from another server",
}
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def refusal(params, model_directory):
    """Why a server with these arguments of sglang_server cannot share weights; None if it can, as far as they tell."""
    given = _given(params["parameters"])
    if not params["gpus"] or params["gpu_access"] == "none" or given.get("device") == "cpu":
        return "the server gets no GPU, and the daemon keeps weights in GPU memory"
    if params["ipc_mode"] or params["network_mode"] == "host":
        return "ipc_mode and network_mode: the server joins the daemon's namespaces, so leave both at their defaults"
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        if "expandable_segments:true" in str(params["environment"].get(name, "")).replace(" ", "").lower():
            return f"environment.{name}: memory in expandable segments cannot be shared"
    return _flags_refusal(given) or _quantisation_refusal(given.get("quantization"), model_directory)


def _flags_refusal(given):
    for name in sorted(given):
        why = next((why for start, why in _REFUSED.items() if name.startswith(start)), None)
        # One host is what is anyway.
        if why and not (name == "nnodes" and _whole(given[name]) == 1):
            return f"parameters.{name}: {why}"
    if given.get("load_format", "auto") not in ("auto", "safetensors"):
        return f"parameters.load_format: '{given['load_format']}' is not how the daemon loads weights"
    if given.get("log_level", "info") not in ("debug", "info"):
        return f"parameters.log_level: at '{given['log_level']}' the server does not say where its weights came from"
    if _size(given, "dp_size", "data_parallel_size", "dp") > 1 and "enable_dp_attention" not in given:
        return "parameters.dp_size: the daemon holds one replica of the model"
    return None


def _quantisation_refusal(asked, model_directory):
    """SGLang's own rule (IPC_QUANT_ALLOWLIST in its weight_cache/protocol.py): not quantised, or fp8 by blocks."""
    try:
        with open(os.path.join(model_directory, "config.json"), encoding="utf-8") as stream:
            config = json.load(stream)
    except (OSError, ValueError):
        config = {}
    stored = config.get("quantization_config") or config.get("compression_config") or {}
    method = asked or stored.get("quant_method")
    if not method or (method == "fp8" and stored.get("weight_block_size")):
        return None
    return f"quantisation '{method}': SGLang shares only weights that are not quantised, or in fp8 by blocks"


def version_refusal(version):
    """Why an image with this version of SGLang (None: it has none) has no such daemon; None if it has."""
    match = _VERSION.match(version or "")
    if match and tuple(int(part) for part in match.groups()) >= MINIMUM_VERSION:
        return None
    least = ".".join(str(part) for part in MINIMUM_VERSION)
    return f"the image has {'SGLang ' + version if version else 'no SGLang that says its version'}, it takes {least}"


def daemon_parameters(parameters):
    """The parameters that decide what the weights are: all but those of FREE."""
    return {
        _FULL_NAMES.get(name, name): value for name, value in parameters.items() if name.replace("-", "_") not in FREE
    }


def ranks(parameters):
    """How many GPUs the daemon holds weights on."""
    given = _given(parameters)
    tensor, pipeline = ("tp_size", "tensor_parallel_size", "tp"), ("pp_size", "pipeline_parallel_size", "pp")
    return _size(given, *tensor) * _size(given, *pipeline)


def _given(parameters):
    """The parameters that become flags, as flag_arguments sees them, under one spelling."""
    return {
        name.replace("-", "_"): value
        for name, value in parameters.items()
        if value is not None and value is not False and value not in ([], ())
    }


def _size(given, *names):
    return next((_whole(given[name]) for name in names if name in given), 1)


def _whole(value):
    try:
        return int(value)
    except (TypeError, ValueError):
        return 1
