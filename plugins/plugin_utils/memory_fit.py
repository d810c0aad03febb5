# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a launch can fit into its GPUs at all: the least that it needs, against the most that it may take.

Only what is certain to fail is refused. Whatever makes a launch need less in a way that is not counted here
(offloading, weights quantised while they are loaded, layers with a window) counts as needing nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# The weights that SGLang reads; others (consolidated.safetensors, original/) are the same once more.
_WEIGHTS = (re.compile(r"model[^/]*\.safetensors"), re.compile(r"pytorch_model[^/]*\.bin"))
# Parameters by which weights take less of a GPU than their files say.
_SHRINKING = re.compile(r"offload|quant|torchao|load_format|_only\Z|weight_cache|override|lite")
# What a config says of layers that do not keep every token of the context.
_PARTIAL = re.compile(r"sliding|window|layer_types|mamba|linear_|hybrid|attention_chunk|full_attention|ssm|conv")


def weights_bytes(files: Iterable[Mapping[str, Any]]) -> int:
    """Bytes of the weights among a manifest's files (``{path, size}``); 0 if that is not certain."""
    files = list(files)
    for pattern in _WEIGHTS:
        if found := [file["size"] for file in files if pattern.fullmatch(file["path"])]:
            return sum(found)
    return 0


def shape_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a model's config.json decides its memory.

    ``weight_scale``: what becomes of a byte of a file at least (float32 is loaded as 16 bits). ``kv_values_per_token``:
    values of all layers together, 0 if they are not certain; ``kv_heads`` says into how many parts tensor parallelism
    can cut them, 1 for a latent (MLA) that every GPU holds. ``kv_bytes``: of a value, unless kv_cache_dtype is given.
    """
    nested = config.get("text_config")
    text: Mapping[str, Any] = nested if isinstance(nested, Mapping) else config
    quantised = any(part.get("quantization_config") or part.get("compression_config") for part in (text, config))
    dtype = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype")
    values, heads = 0, 1
    if not any(_PARTIAL.search(name) and value not in (None, False, [], {}) for name, value in text.items()):
        values, heads = _kv_of(text)
    return {
        "weight_scale": 1.0 if quantised or dtype in ("bfloat16", "float16") else 0.5,
        "quantised": quantised,
        "kv_values_per_token": values,
        "kv_heads": heads,
        "kv_bytes": 1 if quantised else 2,
    }


def _kv_of(text: Mapping[str, Any]) -> tuple[int, int]:
    """Values per token and the heads that they are cut into; (0, 1) for what is not the usual attention."""

    def whole(name: str, default: int = 0) -> int:
        value = text.get(name)
        return value if isinstance(value, int) and value > 0 else default

    layers, heads = whole("num_hidden_layers"), whole("num_attention_heads")
    if not layers or not heads:
        return 0, 1
    if whole("kv_lora_rank"):
        return layers * (whole("kv_lora_rank") + whole("qk_rope_head_dim")), 1
    kv_heads = whole("num_key_value_heads", heads)
    return 2 * layers * kv_heads * whole("head_dim", whole("hidden_size") // heads), kv_heads


def misfit(parameters: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    """Why a launch with these server parameters must fail; empty if it may fit.

    ``memory``: ``{gpu_bytes, weights_bytes, shape, input_tokens, total_tokens}``; tokens are those of the longest
    request that every launch has to serve, 0 if they are not known.
    """
    context, pool = parameters.get("context_length"), parameters.get("max_total_tokens")
    if not parameters.get("allow_auto_truncate"):
        if isinstance(context, int) and memory["total_tokens"] > context:
            return f"a workload's requests have {memory['total_tokens']} tokens, context_length is {context}"
        if isinstance(pool, int) and memory["input_tokens"] > pool:
            return f"a workload's prompts have {memory['input_tokens']} tokens, max_total_tokens is {pool}"
    shape = memory.get("shape")
    if not shape or not memory["gpu_bytes"] or not memory["weights_bytes"] or parameters.get("device") == "cpu":
        return ""
    # Of a checkpoint that is quantised already the flag only says so.
    uncertain = [name for name, value in parameters.items() if value and _SHRINKING.search(name)]
    if [name for name in uncertain if not (name == "quantization" and shape["quantised"])]:
        return ""
    tp, pp = parameters.get("tp_size") or 1, parameters.get("pp_size") or 1
    fraction = parameters.get("mem_fraction_static") or 1.0
    weights = memory["weights_bytes"] * shape["weight_scale"] / (tp * pp)
    kv = memory["input_tokens"] * _kv_bytes_per_token(parameters, shape, tp) / pp
    room = memory["gpu_bytes"] * fraction
    if weights + kv <= room:
        return ""
    whole = _gb(memory["weights_bytes"] * shape["weight_scale"])
    return (
        f"needs at least {_gb(weights + kv)} of each GPU: weights {whole} / (tp {tp} x pp {pp}) = {_gb(weights)}, and "
        f"{_gb(kv)} of KV cache for one prompt of "
        f"{memory['input_tokens']} tokens; it may take {fraction:g} of {_gb(memory['gpu_bytes'])} = {_gb(room)}"
    )


def _kv_bytes_per_token(parameters: Mapping[str, Any], shape: Mapping[str, Any], tp: int) -> float:
    """Of one GPU, for all layers. A head is on one GPU at least; context parallelism is not counted."""
    if any("cp_size" in name and value for name, value in parameters.items()):
        return 0.0
    dtype = str(parameters.get("kv_cache_dtype") or "auto")
    sizes = {"auto": shape["kv_bytes"], "bfloat16": 2, "bf16": 2}
    size = sizes.get(dtype, 1 if "fp8" in dtype else 0.5)
    return shape["kv_values_per_token"] * size / min(tp, shape["kv_heads"])


def request_tokens(workloads: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """``{input_tokens, total_tokens}`` of the longest request that every launch has to serve at least."""
    longest = {"input_tokens": 0, "total_tokens": 0}
    for workload in workloads:
        given, made = workload.get("input_tokens") or 0, workload.get("output_tokens") or 0
        ratio = workload.get("range_ratio") or 1.0
        longest["input_tokens"] = max(longest["input_tokens"], int(given * ratio))
        longest["total_tokens"] = max(longest["total_tokens"], int((given + made) * ratio) if given else 0)
    return longest


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
