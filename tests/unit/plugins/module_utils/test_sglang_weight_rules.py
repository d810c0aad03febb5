from __future__ import annotations

import json

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_weight_rules as rules


def refusal(tmp_path, config=None, **changes):
    (tmp_path / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
    params = {
        "parameters": {"tp_size": 2, "mem_fraction_static": 0.85},
        "gpus": ["GPU-a", "GPU-b"],
        "gpu_access": "auto",
        "ipc_mode": None,
        "network_mode": "bridge",
        "environment": {},
    }
    return rules.refusal({**params, **changes}, str(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parameters": {"nnodes": 1, "enable_lora": False, "speculative_algorithm": None, "lora_paths": []}},
        {"parameters": {"load_format": "safetensors", "attention_backend": "flashinfer"}},
        {"parameters": {"dp_size": 2, "tp_size": 2, "enable_dp_attention": True}},
        {"parameters": {"log_level": "debug"}},
        {"environment": {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}},
        {"config": {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}},
    ],
)
def test_accepted(tmp_path, changes):
    assert refusal(tmp_path, **changes) is None


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"gpus": []}, "no GPU"),
        ({"gpu_access": "none"}, "no GPU"),
        ({"parameters": {"device": "cpu"}}, "no GPU"),
        ({"ipc_mode": "host"}, "ipc_mode"),
        ({"network_mode": "host"}, "network_mode"),
        ({"environment": {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:1, expandable_segments:True"}}, "PYTORCH_CUDA"),
        ({"parameters": {"weight_cache_mode": "client"}}, "parameters.weight_cache_mode: the module sets it"),
        ({"parameters": {"speculative-algorithm": "EAGLE"}}, "parameters.speculative_algorithm"),
        ({"parameters": {"nnodes": 2}}, "parameters.nnodes"),
        ({"parameters": {"lora_paths": ["a=b"]}}, "parameters.lora_paths"),
        ({"parameters": {"cpu_offload_gb": 4}}, "parameters.cpu_offload_gb"),
        ({"parameters": {"load_format": "dummy"}}, "parameters.load_format"),
        ({"parameters": {"dp_size": "2"}}, "parameters.dp_size"),
        ({"parameters": {"log_level": "warning"}}, "parameters.log_level"),
        ({"parameters": {"quantization": "fp8"}}, "quantisation 'fp8'"),  # by tensor: not stored by blocks
        ({"config": {"quantization_config": {"quant_method": "fp8"}}}, "quantisation 'fp8'"),
        ({"config": {"quantization_config": {"quant_method": "awq"}}}, "quantisation 'awq'"),
        ({"config": {"compression_config": {"quant_method": "compressed-tensors"}}}, "compressed-tensors"),
    ],
)
def test_refused_with_the_reason(tmp_path, changes, names):
    assert names in refusal(tmp_path, **changes)


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("0.5.19", None),
        ("0.5.23", None),
        ("0.6.0rc1", None),
        ("1.0.0", None),
        ("0.5.15.post1", "SGLang 0.5.15.post1, it takes 0.5.19"),
        ("0.4.10", "SGLang 0.4.10"),
        (None, "no SGLang that says its version"),
        ("dev", "SGLang dev"),
    ],
)
def test_versions(version, says):
    reason = rules.version_refusal(version)
    assert reason is None if says is None else says in reason


def test_what_schedules_does_not_decide_what_the_weights_are():
    parameters = {"tp_size": 2, "mem-fraction-static": 0.8, "chunked_prefill_size": 1, "attention_backend": "triton"}
    assert rules.daemon_parameters(parameters) == {"tp_size": 2, "attention_backend": "triton"}


def test_a_short_name_is_not_the_daemon_s_own_tp_rank():
    assert rules.daemon_parameters({"tp": 2, "pp": 2}) == {"tp_size": 2, "pp_size": 2}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [({}, 1), ({"tp_size": 4}, 4), ({"tp": "2", "pp-size": 2}, 4), ({"tensor_parallel_size": 8, "pp_size": None}, 8)],
)
def test_ranks(parameters, expected):
    assert rules.ranks(parameters) == expected
