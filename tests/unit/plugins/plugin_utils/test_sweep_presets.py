"""What ``preset`` means in a sweep, and what is left of it by the flags of an image."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_intent import PRESETS, SPACES
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_presets import fit_to_image, preset_lines, resolve

FLAGS = [
    {"names": ["model-path"], "least": 1, "most": 1, "choices": None},
    {"names": ["context-length"], "least": 1, "most": 1, "choices": None},
    {"names": ["quantization"], "least": 1, "most": 1, "choices": ["fp8"]},
    {"names": ["kv-cache-dtype"], "least": 1, "most": 1, "choices": ["auto", "fp8_e5m2"]},
]


def test_a_sweep_without_presets_stays_as_it_is():
    server = {"base": {"a": 1}, "space": {"b": [1]}, "where": ["b > 0"]}
    assert resolve(server) == ({**server, "presets": {}}, [])


def test_the_flags_of_the_presets_that_are_used_are_spelled_out():
    own = {"mine": {"max_model_len": 1024}, "unused": {"x": 1}}
    server = {"base": {"preset": "fp8"}, "presets": own}
    assert resolve(server)[0]["presets"] == {"fp8": PRESETS["fp8"]}
    server = {"space": {"preset": [None, "mine", ["throughput", "fp8"]]}, "presets": own}
    resolved, found = resolve(server)
    assert not found
    assert resolved["presets"] == {"mine": {"context_length": 1024}, **{n: PRESETS[n] for n in ("fp8", "throughput")}}
    assert resolved["space"] == server["space"]
    conditional = {"space": {"a": [1, 2], "preset": {"values": ["latency"], "when": "a > 1"}}}
    assert list(resolve(conditional)[0]["presets"]) == ["latency"]


def test_a_preset_of_ones_own_can_take_the_place_of_preheats():
    server = {"base": {"preset": "fp8"}, "presets": {"fp8": {"quantization": "w8a8_fp8"}}}
    assert resolve(server)[0]["presets"] == {"fp8": {"quantization": "w8a8_fp8"}}


def test_the_name_of_a_preset_as_a_space_is_what_it_searches():
    server = {"base": {"max_num_batched_tokens": 4096}, "space": {"tp_size": [1, 2], "preset": "throughput", "z": [1]}}
    resolved, found = resolve(server)
    assert not found
    left = [flag for flag in SPACES["throughput"] if flag != "chunked_prefill_size"]
    assert list(resolved["space"]) == ["tp_size", *left, "z"]
    assert resolved["space"]["schedule_conservativeness"] == SPACES["throughput"]["schedule_conservativeness"]
    assert resolved["base"] == server["base"]
    assert resolved["presets"] == {}


@pytest.mark.parametrize(
    ("server", "variable", "says"),
    [
        ({"base": {"preset": "latancy"}}, "sweep_server.base.preset", "Did you mean 'latency'?"),
        ({"space": {"preset": ["fp8", "fp9"]}}, "sweep_server.space.preset", "Did you mean 'fp8'?"),
        ({"space": {"preset": "fp9"}}, "sweep_server.space.preset", "Did you mean 'fp8'?"),
        ({"space": {"preset": "mine"}, "presets": {"mine": {}}}, "sweep_server.space.preset", "makes them a choice"),
        ({"space": {"preset": {"low": 1, "high": 2}}}, "sweep_server.space.preset", "Give a list of presets"),
        ({"space": {"preset": []}}, "sweep_server.space.preset", "Give a list of presets"),
        ({"base": {"preset": "mine"}, "presets": {"mine": [1]}}, "sweep_server.presets.mine", "Give flags"),
        ({"base": {"preset": "m"}, "presets": {"m": {"preset": "fp8"}}}, "sweep_server.presets.m", "no further preset"),
        (
            {"base": {"preset": "m"}, "presets": {"m": {"tp": 1, "tp_size": 2}}},
            "sweep_server.presets.m",
            "each flag once",
        ),
    ],
)
def test_what_is_wrong_with_presets(server, variable, says):
    resolved, found = resolve({"space": {}, **server})
    assert [item["variable"] for item in found] == [variable]
    assert says in found[0]["remedy"]
    # What else is wrong can be looked for.
    assert "preset" not in {**resolved["base"], **resolved["space"]}


def fitted(server, *answers):
    resolved, found = resolve(server)
    assert not found
    plan = {"server": resolved, "image": "engine:1"}
    return fit_to_image(plan, {f"gpu{number}": answer for number, answer in enumerate(answers, 1)})


def test_what_the_sweep_names_itself_must_be_accepted():
    server = {
        "base": {"max_model_len": 4096, "max_num_seqs": 4, "device": None},
        "space": {"kv_cache_dtype": ["auto", "fp8", "fp8_e5m2"], "gone": {"low": 1, "high": 9}, "preset": ["fp8"]},
    }
    _server, found, _notices = fitted(server, {"flags": FLAGS})
    said = [(item["host"], item["variable"], item["value"], item["message"]) for item in found]
    assert said == [
        ("gpu1", "sweep_server.base.max_num_seqs", 4, "--max-running-requests is no flag of the image's SGLang."),
        (
            "gpu1", "sweep_server.space.kv_cache_dtype", "fp8",
            "--kv-cache-dtype does not take 'fp8_e4m3' in the image's SGLang.",
        ),
        ("gpu1", "sweep_server.space.gone", 1, "--gone is no flag of the image's SGLang."),
    ]  # fmt: skip


def test_what_a_preset_gives_is_left_out_where_an_image_does_not_accept_it():
    more = [*FLAGS[:3], {**FLAGS[3], "choices": ["auto", "fp8_e4m3"]}]
    server, found, notices = fitted({"base": {"preset": "fp8"}}, {"flags": more}, {"flags": FLAGS})
    assert not found
    assert server["presets"] == {"fp8": {"quantization": "fp8"}}
    assert [(item["host"], item["variable"]) for item in notices] == [
        ("gpu2", "sweep_server.presets.fp8.kv_cache_dtype")
    ]
    assert preset_lines(server) == ["preset fp8: quantization = fp8"]


def test_a_preset_of_ones_own_must_be_accepted():
    server = {"base": {"preset": "mine"}, "presets": {"mine": {"kv_cache_dtype": "bf16"}}}
    _server, found, notices = fitted(server, {"flags": FLAGS}, {"flags": FLAGS})
    assert [(item["host"], item["variable"]) for item in found] == [
        ("gpu1", "sweep_server.presets.mine.kv_cache_dtype"), ("gpu2", "sweep_server.presets.mine.kv_cache_dtype")
    ]  # fmt: skip
    assert not notices


def test_hosts_that_do_not_tell_are_good_to_know():
    failed = {"failed": False, "msg": "no Python."}
    server, found, notices = fitted({"base": {"any": 1}}, None, {"flags": [], "reason": "why"}, failed)
    assert (server["base"], found) == ({"any": 1}, [])
    assert [(item["host"], item["value"]) for item in notices] == [(f"gpu{n}", "engine:1") for n in (1, 2, 3)]
    assert ["why." in notices[1]["message"], "no Python." in notices[2]["message"]] == [True, True]
