"""Presets and the names of other engines, as SGLang's flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_help, sglang_intent
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_intent import expand

HELP = Path(__file__).parents[2] / "data" / "sglang-help"


@pytest.mark.parametrize(
    ("parameters", "flags"),
    [
        ({}, {}),
        ({"mem_fraction_static": 0.9, "no_flag_of_ours": [1]}, {"mem_fraction_static": 0.9, "no_flag_of_ours": [1]}),
        (
            {"tensor_parallel_size": 2, "max_model_len": 8192, "gpu_memory_utilization": 0.9, "max_num_seqs": 64},
            {"tp_size": 2, "context_length": 8192, "mem_fraction_static": 0.9, "max_running_requests": 64},
        ),
        ({"max-model-len": 8192, "tp": 2}, {"context_length": 8192, "tp_size": 2}),
        ({"enable_prefix_caching": False}, {"disable_radix_cache": True}),
        ({"enable_prefix_caching": True}, {"disable_radix_cache": False}),
        ({"enable_prefix_caching": None}, {"disable_radix_cache": None}),
        ({"kv_cache_dtype": "fp8"}, {"kv_cache_dtype": "fp8_e4m3"}),
        ({"kv_cache_dtype": "fp8_e5m2", "quantization": "fp8"}, {"kv_cache_dtype": "fp8_e5m2", "quantization": "fp8"}),
        ({"preset": "fp8"}, {"quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"}),
        ({"preset": None}, {}),
        ({"preset": []}, {}),
        # What is given explicitly wins, whichever name it has, and null takes a flag of the preset away.
        ({"preset": "fp8", "kv_cache_dtype": None}, {"quantization": "fp8", "kv_cache_dtype": None}),
    ],
)
def test_expand(parameters, flags):
    assert expand(parameters) == flags
    assert expand(flags) == flags


def test_what_is_given_wins_over_a_preset_under_any_name():
    assert expand({"preset": "throughput", "max_num_batched_tokens": 512})["chunked_prefill_size"] == 512


def test_of_several_presets_the_later_win():
    presets = {"a": {"x": 1, "y": 1}, "b": {"y": 2}}
    assert expand({"preset": ["a", "b"]}, presets) == {"x": 1, "y": 2}
    assert expand({"preset": ["b", "a"]}, presets) == {"x": 1, "y": 1}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"preset": "trhoughput"}, "'trhoughput' is no preset. Known: fp8, latency, long_context, throughput."),
        ({"tp": 1, "tensor_parallel_size": 2}, "'tp' and 'tensor_parallel_size' are the same flag"),
        ({"enable_prefix_caching": True, "disable_radix_cache": True}, "are the same flag"),
    ],
)
def test_refused(parameters, says):
    with pytest.raises(ValueError, match="parameters") as caught:
        expand(parameters)
    assert says in str(caught.value)


@pytest.mark.parametrize("version", ["0.4.10", "0.5.15", "0.5.23"])
def test_every_sglang_accepts_what_presets_and_names_stand_for(version):
    flags = sglang_help.parse((HELP / f"{version}.txt").read_text())
    given = [(flag, value) for preset in sglang_intent.PRESETS.values() for flag, value in preset.items()]
    given += [(flag, v) for space in sglang_intent.SPACES.values() for flag, values in space.items() for v in values]
    given += [(flag, v) for flag, renamed in sglang_intent.VALUES.items() for v in renamed.values()]
    assert [(*one, wrong) for one in given if (wrong := sglang_help.wrong(flags, *one))] == []
    mapped = {*sglang_intent.NAMES.values(), *sglang_intent.OPPOSITES.values()}
    assert [flag for flag in mapped if len(sglang_help.find(flags, flag)) != 1] == []


def test_the_space_of_a_preset_holds_what_it_gives():
    assert sglang_intent.SPACES.keys() == sglang_intent.PRESETS.keys()
    for name, flags in sglang_intent.PRESETS.items():
        for flag, value in flags.items():
            assert value in sglang_intent.SPACES[name][flag]
        # So the baseline is one of its points, and no launch of its own.
        assert all(None in values for values in sglang_intent.SPACES[name].values())
