"""What genuine help texts say, and what is refused by them. The texts are excerpts of what three versions print."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_help

HELP = Path(__file__).parents[2] / "data" / "sglang-help"
VERSIONS = ["0.4.10", "0.5.15", "0.5.23"]


def flags_of(version):
    return sglang_help.parse((HELP / f"{version}.txt").read_text())


def entry(version, name):
    (found,) = sglang_help.find(flags_of(version), name)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_names_values_and_choices(version):
    assert set(entry(version, "tp_size")["names"]) == {"tp-size", "tensor-parallel-size"}
    assert "ep" in entry(version, "expert_parallel_size")["names"]
    assert (entry(version, "tp_size")["least"], entry(version, "tp_size")["most"]) == (1, 1)
    assert entry(version, "tp_size")["choices"] is None
    radix = {"names": ["disable-radix-cache"], "least": 0, "most": 0, "choices": None}
    assert entry(version, "disable_radix_cache") == radix
    trust = {"names": ["trust-remote-code"], "least": 0, "most": 0, "choices": None}
    assert entry(version, "trust_remote_code") == trust  # its description stands beside it
    assert entry(version, "kv_cache_dtype")["choices"][:3] == ["auto", "fp8_e5m2", "fp8_e4m3"]
    paths = {"names": ["lora-paths"], "least": 0, "most": None, "choices": None}
    assert entry(version, "lora_paths") == paths


def test_what_only_some_versions_have():
    graphs = {"names": ["cuda-graph-bs"], "least": 1, "most": None, "choices": None}
    assert entry("0.4.10", "cuda_graph_bs") == graphs
    ratio = {"names": ["hybrid-kvcache-ratio"], "least": 0, "most": 1, "choices": None}
    assert entry("0.4.10", "hybrid_kvcache_ratio") == ratio
    assert entry("0.4.10", "lora_target_modules")["choices"][-1] == "all"
    outer = ["experts-shared-outer-loras", "no-experts-shared-outer-loras"]
    assert entry("0.5.15", "experts_shared_outer_loras")["names"] == outer
    assert "enable-hicache" in entry("0.5.23", "enable_hierarchical_cache")["names"]


def test_as_python_3_13_and_a_wide_terminal_print_it():
    text = """usage: sglang serve [-h] --model-path MODEL_PATH [--tp-size TP_SIZE]

options:
  -h, --help                                                        show this help message and exit
  --model-path, --model MODEL_PATH                                  The path of the model weights.
  --tp-size, --tensor-parallel-size TP_SIZE                         The tensor parallelism size.
  -q, --quantization {awq,fp8}                                      The quantization method, see --help.
  --skip-server-warmup                                              If set, skip warmup.
"""
    assert sglang_help.parse(text) == [
        {"names": ["help"], "least": 0, "most": 0, "choices": None},
        {"names": ["model-path", "model"], "least": 1, "most": 1, "choices": None},
        {"names": ["tp-size", "tensor-parallel-size"], "least": 1, "most": 1, "choices": None},
        {"names": ["quantization"], "least": 1, "most": 1, "choices": ["awq", "fp8"]},
        {"names": ["skip-server-warmup"], "least": 0, "most": 0, "choices": None},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Traceback (most recent call last):\nImportError: libcuda.so.1: cannot open shared object file",
        "usage: vllm [-h]\n\noptions:\n  -h, --help  show this\n  --model MODEL\n",
    ],
)
def test_what_is_no_help_of_sglang(text):
    assert sglang_help.parse(text) == []


@pytest.mark.parametrize(
    ("version", "name", "value"),
    [
        ("0.5.15", "tp_size", 2),
        ("0.5.15", "tensor-parallel-size", 2),
        ("0.5.15", "mem_fraction", 0.8),  # argparse takes what is short for one flag
        ("0.5.15", "kv_cache_dtype", "fp8_e4m3"),
        ("0.5.15", "log_requests_level", 2),
        ("0.5.15", "cuda_graph_bs", [1, 2, 4]),
        ("0.5.15", "disable_radix_cache", True),
        ("0.4.10", "hybrid_kvcache_ratio", True),
        ("0.4.10", "hybrid_kvcache_ratio", 0.5),
        ("0.4.10", "lora_paths", [{"lora_name": "x"}]),
        # What gives no flag is no flag's business.
        ("0.5.15", "no_such_flag", None),
        ("0.5.15", "no_such_flag", False),
        ("0.5.15", "no_such_flag", []),
    ],
)
def test_accepted(version, name, value):
    assert sglang_help.wrong(flags_of(version), name, value) is None


@pytest.mark.parametrize(
    ("version", "name", "value", "message", "remedy"),
    [
        ("0.5.15", "chunked_prefil_size", 1, "--chunked-prefil-size is no flag", "chunked_prefill_size"),
        ("0.5.15", "qqqqqqq", 1, "--qqqqqqq is no flag", "sglang.launch_server --help"),
        ("0.5.15", "kv_cache_dtype", "fp8_e4m4", "does not take 'fp8_e4m4'", "Did you mean 'fp8_e4m3'? Choices: auto,"),
        ("0.5.15", "log_requests_level", 9, "does not take '9'", "Choices: 0, 1, 2, 3."),
        ("0.4.10", "lora_target_modules", ["q_proj", "x"], "does not take 'x'", "q_proj"),
        ("0.5.15", "disable_radix_cache", 1, "takes no value", "Write true"),
        ("0.5.15", "mem_fraction_static", True, "needs a value", "Give one"),
        ("0.5.15", "cuda_graph_bs", True, "needs a value", "Give one"),
        ("0.5.15", "quantization", True, "needs a value", "fp8"),
        ("0.5.15", "chunked_prefill_size", [1024, 2048], "takes one value", "in space"),
        # Of 0.5.23, where argparse would call it ambiguous.
        ("0.5.23", "cuda_graph_max_bs", 8, "short for several flags", "--cuda-graph-max-bs-decode"),
        ("0.4.10", "enable_prefill_delayer", True, "is no flag", ""),
    ],
)
def test_refused(version, name, value, message, remedy):
    said, what_to_do = sglang_help.wrong(flags_of(version), name, value)
    assert message in said
    assert remedy in what_to_do
    assert what_to_do
