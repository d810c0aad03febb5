# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters by intent: presets, and names that other engines use too, as SGLang's own flags.

Presets follow SGLang's documentation: "Hyperparameter Tuning", "Server Arguments" and "Quantized KV Cache"
(https://docs.sglang.io/advanced_features/hyperparameter_tuning.html and its neighbours). They hold only flags that
scheduling and number formats need; how a model is spread over GPUs is for the sweep to say.
"""

from __future__ import annotations

PRESET = "preset"

# A preset's flags, for one launch.
PRESETS: dict[str, dict] = {
    # More requests at once: "decrease --schedule-conservativeness to a value like 0.3". Fewer steps of the scheduler:
    # several decoding steps in a row "can potentially increase throughput" at the cost of the time to first token.
    "throughput": {"chunked_prefill_size": 8192, "num_continuous_decode_steps": 4, "schedule_conservativeness": 0.3},
    # Prefill in small pieces, together with the tokens that others wait for (Sarathi-Serve, OSDI 2024); "increase
    # --schedule-conservativeness to a value like 1.3", so that no request is retracted and begun again.
    "latency": {"chunked_prefill_size": 2048, "enable_mixed_chunk": True, "schedule_conservativeness": 1.3},
    # Memory for caches instead of activations: "reducing --chunked-prefill-size to 4096", "lowering
    # --max-running-requests"; lpm serves requests that share a long beginning one after the other.
    "long_context": {"chunked_prefill_size": 4096, "max_running_requests": 32, "schedule_policy": "lpm"},
    # Weights of 16 bits are quantised while they are loaded. fp8_e4m3 is recommended over fp8_e5m2 for accuracy.
    "fp8": {"quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"},
}

# What is worth searching for the same intent: SGLang's own choice (None), the preset's value, and what lies beside it.
SPACES: dict[str, dict] = {
    "throughput": {
        "chunked_prefill_size": [None, 8192, 16384],
        "num_continuous_decode_steps": [None, 4],
        "schedule_conservativeness": [None, 0.3],
        "mem_fraction_static": [None, 0.9],
    },
    "latency": {
        "chunked_prefill_size": [None, 1024, 2048],
        "enable_mixed_chunk": [None, True],
        "schedule_conservativeness": [None, 1.3],
        "max_running_requests": [None, 32],
    },
    "long_context": {
        "chunked_prefill_size": [None, 2048, 4096],
        "max_running_requests": [None, 16, 32],
        "schedule_policy": [None, "lpm"],
    },
    "fp8": {"quantization": [None, "fp8"], "kv_cache_dtype": [None, "fp8_e4m3", "fp8_e5m2"]},
}

# vLLM's names and SGLang's further ones, with SGLang's flag. docs/how-to/write-a-sweep.md says where senses differ.
NAMES = {
    "tensor_parallel_size": "tp_size",
    "tp": "tp_size",
    "pipeline_parallel_size": "pp_size",
    "pp": "pp_size",
    "data_parallel_size": "dp_size",
    "dp": "dp_size",
    "expert_parallel_size": "ep_size",
    "ep": "ep_size",
    "max_model_len": "context_length",
    "gpu_memory_utilization": "mem_fraction_static",
    "max_num_seqs": "max_running_requests",
    "max_num_batched_tokens": "chunked_prefill_size",
    "block_size": "page_size",
    "seed": "random_seed",
    "enforce_eager": "disable_cuda_graph",
}
# Names whose sense is the opposite of the flag's.
OPPOSITES = {"enable_prefix_caching": "disable_radix_cache"}
# Values that are called otherwise, by flag.
VALUES = {"kv_cache_dtype": {"fp8": "fp8_e4m3"}}


def _plain(name):
    text = str(name)
    return text if text.startswith("-") else text.replace("-", "_")


def flag_of(name):
    """SGLang's flag, with underscores, for a parameter's name; the name itself where it has no other."""
    plain = _plain(name)
    return NAMES.get(plain) or OPPOSITES.get(plain) or plain


def value_of(name, value):
    """The flag's value for a parameter's value; None stays None, which leaves the flag out."""
    if _plain(name) in OPPOSITES and value is not None:
        return not value
    renamed = VALUES.get(flag_of(name), {})
    return renamed.get(value, value) if isinstance(value, str) else value


def preset_names(choice):
    """The presets that a value of C(preset) names: a name, several of which the later win, or none."""
    if choice is None or choice is False:
        return []
    return [str(name) for name in choice] if isinstance(choice, (list, tuple)) else [str(choice)]


def expand(parameters, presets=None):
    """Parameters as SGLang's flags: those of C(preset), over which the others win, under SGLang's names.

    C(presets) are the flags of each known preset, by default PRESETS. What is expanded already stays as it is. Raises
    ValueError for an unknown preset and for two names of one flag.
    """
    known = PRESETS if presets is None else presets
    flags = {}
    for name in preset_names(parameters.get(PRESET)):
        if name not in known:
            raise ValueError(f"parameters.{PRESET}: '{name}' is no preset. Known: {', '.join(sorted(known))}.")
        flags.update(known[name])
    seen = {}
    for name, value in parameters.items():
        if name == PRESET:
            continue
        flag = flag_of(name)
        if flag in seen:
            raise ValueError(f"parameters: '{seen[flag]}' and '{name}' are the same flag; keep one.")
        seen[flag] = name
        flags[flag] = value_of(name, value)
    return flags
