from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_flags import RESERVED, flag_arguments, parameters_of


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ({}, []),
        ({"tp_size": 2}, ["--tp-size", "2"]),
        ({"tp-size": 2}, ["--tp-size", "2"]),
        ({"mem_fraction_static": 0.85}, ["--mem-fraction-static", "0.85"]),
        ({"enable_metrics": True}, ["--enable-metrics"]),
        ({"enable_metrics": False, "quantization": None, "cuda_graph_bs": []}, []),
        ({"cuda_graph_bs": [1, 2, 4]}, ["--cuda-graph-bs", "1", "2", "4"]),
        ({"chat_template": "my template.jinja"}, ["--chat-template", "my template.jinja"]),
        ({"served_model_name": "$(touch /tmp/x); a'b\"c"}, ["--served-model-name", "$(touch /tmp/x); a'b\"c"]),
        ({"json_model_override_args": {"b": 1, "a": [2]}}, ["--json-model-override-args", '{"a": [2], "b": 1}']),
        ({"lora_paths": [{"lora_name": "x"}]}, ["--lora-paths", '{"lora_name": "x"}']),
        # 0 is a value; what starts with a dash would be read as the next flag.
        ({"random_seed": 0}, ["--random-seed", "0"]),
        ({"offload_group_size": -1}, ["--offload-group-size=-1"]),
        ({"completion_template": "--x"}, ["--completion-template=--x"]),
        # The order of a dictionary means nothing.
        ({"tp_size": 1, "dtype": "auto"}, ["--dtype", "auto", "--tp-size", "1"]),
    ],
)
def test_flags(parameters, arguments):
    assert flag_arguments(parameters) == arguments
    assert flag_arguments(parameters_of(["python3", "-m", "sglang.launch_server", *arguments])) == arguments


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (["python3", "-m", "sglang.launch_server"], {}),
        (["--enable-metrics"], {"enable_metrics": True}),
        (["--tp-size", "2", "--mem-fraction-static", "0.85"], {"tp_size": 2, "mem_fraction_static": 0.85}),
        (["--cuda-graph-bs", "1", "2"], {"cuda_graph_bs": [1, 2]}),
        (["--random-seed=-1", "--chat-template=--x"], {"random_seed": -1, "chat_template": "--x"}),
        (["--json-model-override-args", '{"a": [2]}'], {"json_model_override_args": {"a": [2]}}),
        # What only looks like a number, or like another type, stays a text.
        (["--revision", "1234567890e1"], {"revision": "1234567890e1"}),
        (
            ["--a", "0.80", "--b", "true", "--c", "NaN", "--d", "007"],
            {"a": "0.80", "b": "true", "c": "NaN", "d": "007"},
        ),
    ],
)
def test_parameters_of_a_command(arguments, parameters):
    assert parameters_of(arguments) == parameters


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"--tp-size": 2}, "not the name of an SGLang flag"),
        ({"tp size": 2}, "not the name of an SGLang flag"),
        ({"": 2}, "not the name of an SGLang flag"),
        ({3: 2}, "not the name of an SGLang flag"),
        ({"tp_size": 1, "tp-size": 2}, "same flag"),
        ({"cuda_graph_bs": [1, [2]]}, "parameters.cuda_graph_bs"),
        ({"cuda_graph_bs": [1, None]}, "parameters.cuda_graph_bs"),
        ({"cuda_graph_bs": [True]}, "parameters.cuda_graph_bs"),
        ({"model_path": "x"}, "repo_id"),
        ({"port": 1}, "container_port"),
        ({"api_key": "sk-1234"}, "docker inspect"),
    ],
)
def test_refused(parameters, says):
    with pytest.raises(ValueError, match="parameters") as caught:
        flag_arguments(parameters)
    assert says in str(caught.value)
    assert "sk-1234" not in str(caught.value)


@pytest.mark.parametrize("flag", sorted(RESERVED))
def test_reserved_in_either_spelling(flag):
    for name in {flag, flag.replace("-", "_")}:
        with pytest.raises(ValueError, match="not given here"):
            flag_arguments({name: "x"})
