"""Which files of a repo a snapshot needs."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile, Selection, matches

LLAMA = [
    ".gitattributes",
    "LICENSE.txt",
    "README.md",
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "original/consolidated.00.pth",
    "original/params.json",
    "tokenizer.json",
]


def files(paths):
    return [HubFile(path, 1, path) for path in paths]


def chosen(paths, **given):
    return [file.path for file in Selection(**given).of(files(paths))]


@pytest.mark.parametrize(
    ("paths", "given", "expected"),
    [
        (LLAMA, {}, [path for path in LLAMA if not path.startswith("original/")]),
        (["config.json", "pytorch_model.bin"], {}, ["config.json"]),
        (["config.json", "pytorch_model.bin"], {"allow_pickle": True}, ["config.json", "pytorch_model.bin"]),
        (["a.safetensors", "modeling_x.py"], {}, ["a.safetensors"]),
        (["consolidated.safetensors", "model.safetensors"], {}, ["model.safetensors"]),
        (["consolidated.safetensors", "params.json"], {}, ["consolidated.safetensors", "params.json"]),
        (LLAMA, {"allow_patterns": ["original/"], "allow_pickle": True}, LLAMA[7:9]),
        (LLAMA, {"allow_patterns": ["original/"]}, ["original/params.json"]),
        (LLAMA, {"allow_patterns": ["*.json"], "ignore_patterns": ["original/*"]}, [*LLAMA[3:4], LLAMA[6], LLAMA[9]]),
        (["chat_template.jinja", "vocab.txt", "a.tiktoken"], {}, ["chat_template.jinja", "vocab.txt", "a.tiktoken"]),
        (["x.Safetensors"], {}, []),
        ([], {}, []),
    ],
)
def test_selection(paths, given, expected):
    assert chosen(paths, **given) == expected


@pytest.mark.parametrize(
    ("paths", "given", "expected"),
    [
        (["config.json", "pytorch_model.bin"], {}, ["pytorch_model.bin"]),
        (["config.json", "pytorch_model.bin"], {"allow_pickle": True}, []),
        (["model.gguf", "README.md"], {}, ["model.gguf"]),
        (["model.safetensors", "pytorch_model.bin"], {}, []),
        (["tokenizer.json"], {}, []),
    ],
)
def test_weights_left_out(paths, given, expected):
    assert Selection(**given).weights_left_out(files(paths)) == expected


@pytest.mark.parametrize("ending", ["bin", "pt", "pth", "ckpt", "pkl", "pickle"])
def test_no_pattern_lets_a_pickle_in_unless_asked(ending):
    assert chosen([f"x.{ending}"], allow_patterns=["*"]) == []
    assert chosen([f"x.{ending}"], allow_patterns=["*"], allow_pickle=True) == [f"x.{ending}"]


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a/b.json", "*.json", True),
        ("a/b.json", "a/", True),
        ("ab/b.json", "a/", False),
        ("a.json", "b*", False),
        ("A.json", "a.json", False),
    ],
)
def test_patterns(path, pattern, expected):
    assert matches(path, [pattern]) is expected
