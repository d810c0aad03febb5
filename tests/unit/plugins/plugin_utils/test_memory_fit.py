"""What cannot fit is refused with the arithmetic; what might run never is."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import memory_fit

# Llama 3.1 70B, as its config.json says.
LLAMA_70B = {
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 8192,
    "torch_dtype": "bfloat16",
}  # fmt: skip
GB = 10**9


def memory(config=None, weights=141 * GB, gpu=80 * GB, tokens=(1024, 1280)):
    shape = memory_fit.shape_of(LLAMA_70B if config is None else config)
    return {"gpu_bytes": gpu, "weights_bytes": weights, "shape": shape, "input_tokens": tokens[0],
            "total_tokens": tokens[1]}  # fmt: skip


def test_kv_of_a_known_model():
    shape = memory_fit.shape_of(LLAMA_70B)
    assert shape["kv_values_per_token"] * shape["kv_bytes"] == 327_680, "320 KiB a token, as is well known of it"


def test_the_arithmetic_is_shown():
    said = memory_fit.misfit({"mem_fraction_static": 0.88, "tp_size": 1}, memory())
    assert said == (
        "needs at least 141.34 GB of each GPU: weights 141.00 GB / (tp 1 x pp 1) = 141.00 GB, and 0.34 GB of KV cache "
        "for one prompt of 1024 tokens; it may take 0.88 of 80.00 GB = 70.40 GB"
    )


@pytest.mark.parametrize(
    ("parameters", "fits"),
    [
        ({}, False),
        ({"tp_size": 2}, True),
        ({"tp_size": 2, "mem_fraction_static": 0.88}, False),
        ({"tp_size": 2, "mem_fraction_static": 0.9}, True),
        ({"tp_size": 2, "pp_size": 2, "mem_fraction_static": 0.5}, True),
        ({"tp_size": 4, "mem_fraction_static": 0.4}, False),
        ({"quantization": "fp8"}, True),
        ({"cpu_offload_gb": 100}, True),
        ({"load_format": "dummy"}, True),
        ({"torchao_config": "int4wo-128"}, True),
        ({"json_model_override_args": "{}"}, True),
        ({"quantization": None}, False),
        ({"device": "cpu"}, True),
    ],
)
def test_what_fits(parameters, fits):
    assert (memory_fit.misfit(parameters, memory()) == "") is fits


@pytest.mark.parametrize(
    ("config", "values"),
    [
        ({}, 0),
        (LLAMA_70B | {"sliding_window": 4096}, 0),
        (LLAMA_70B | {"sliding_window": None}, 163_840),
        (LLAMA_70B | {"layer_types": ["linear_attention"]}, 0),
        (LLAMA_70B | {"mamba_d_conv": 4}, 0),
        ({"text_config": LLAMA_70B, "num_hidden_layers": 3}, 163_840),
        (LLAMA_70B | {"head_dim": 64}, 81_920),
        ({"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 35_136),
    ],
)
def test_kv_values_per_token(config, values):
    assert memory_fit.shape_of(config)["kv_values_per_token"] == values


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"dtype": "bfloat16"}, 1.0),
        ({"torch_dtype": "float32"}, 0.5),
        ({}, 0.5),
        ({"quantization_config": {"bits": 4}}, 1.0),
    ],
)
def test_float32_is_loaded_as_16_bits(config, scale):
    assert memory_fit.shape_of(config)["weight_scale"] == scale


def test_a_checkpoint_that_is_quantised_already_is_counted_as_it_is():
    found = memory(LLAMA_70B | {"quantization_config": {"quant_method": "fp8"}}, weights=90 * GB)
    assert "weights 90.00 GB" in memory_fit.misfit({"quantization": "fp8"}, found)


@pytest.mark.parametrize(
    ("parameters", "gigabytes"),
    [({}, 33.55), ({"tp_size": 4}, 8.39), ({"tp_size": 16}, 4.19), ({"kv_cache_dtype": "fp8_e5m2"}, 16.78),
     ({"kv_cache_dtype": "fp4_e2m1"}, 8.39), ({"attn_cp_size": 2}, 0.0)],
)  # fmt: skip
def test_kv_cache_of_a_long_prompt(parameters, gigabytes):
    found = memory(weights=160 * GB, gpu=1 * GB, tokens=(102_400, 102_500))
    assert f"{gigabytes:.2f} GB of KV cache for one prompt of 102400" in memory_fit.misfit(parameters, found)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"context_length": 1279}, "requests have 1280 tokens, context_length is 1279"),
        ({"context_length": 1280}, ""),
        ({"context_length": 1000, "allow_auto_truncate": True}, ""),
        ({"max_total_tokens": 1000}, "prompts have 1024 tokens, max_total_tokens is 1000"),
        ({"max_total_tokens": 1024}, ""),
    ],
)
def test_a_request_must_fit_on_cpus_too(parameters, says):
    found = memory_fit.misfit({"device": "cpu", **parameters}, memory() | {"shape": None, "gpu_bytes": 0})
    assert found.endswith(says) if says else found == ""


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "config.json"], 20),
        (["model.safetensors", "pytorch_model.bin", "consolidated.safetensors", "original/model.safetensors"], 10),
        (["pytorch_model-1.bin"], 10),
        (["diffusion.safetensors"], 0),
    ],
)
def test_which_files_are_the_weights(paths, expected):
    assert memory_fit.weights_bytes({"path": path, "size": 10} for path in paths) == expected


def test_nothing_known_refuses_nothing():
    for unknown in ({"shape": None}, {"gpu_bytes": 0}, {"weights_bytes": 0}):
        assert memory_fit.misfit({}, memory() | unknown) == ""


def test_the_longest_request_of_all_workloads():
    workloads = [
        {"input_tokens": 100, "output_tokens": 900},
        {"input_tokens": 4000, "output_tokens": 8, "range_ratio": 0.25},
        {"dataset": "sharegpt", "output_tokens": 9000},
    ]
    assert memory_fit.request_tokens(workloads) == {"input_tokens": 1000, "total_tokens": 1002}
