#!/usr/bin/env python3
"""Writes a Llama-architecture model of a real size with random weights: config, bf16 safetensors shards, tokenizer.

usage: make_model.py SHAPE FOLDER TOKENIZER_FOLDER [--layers N]      with the GPU where there is one

Random weights load, compile, capture and compute exactly like trained ones; only the text that comes out is noise.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

SHAPES = {
    # Mistral-Nemo-12B's layers, with the tokenizer's own vocabulary: 22.5 GB
    "nemo-12b": {
        "hidden_size": 5120,
        "intermediate_size": 14336,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    },
    # Llama-3-8B's layers, with the tokenizer's own vocabulary: 14.5 GB
    "llama-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    },
    # for rehearsals without a GPU: 17 MB
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 32000,
    },
}
SHARD_BYTES = 5_000_000_000
STANDARD_DEVIATION = 0.02


def config(shape: dict) -> dict:
    heads = shape["num_attention_heads"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **shape,
        "num_key_value_heads": max(1, heads // 4),
        "head_dim": 128 if shape["hidden_size"] >= 4096 else shape["hidden_size"] // heads,
        "hidden_act": "silu",
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "initializer_range": STANDARD_DEVIATION,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "bfloat16",
    }


def tensor_shapes(config: dict):
    """(name, shape) of every tensor, in the order of the layers."""
    hidden, inter, dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key_value = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, rows, columns in (
            ("self_attn.q_proj", query, hidden),
            ("self_attn.k_proj", key_value, hidden),
            ("self_attn.v_proj", key_value, hidden),
            ("self_attn.o_proj", hidden, query),
            ("mlp.gate_proj", inter, hidden),
            ("mlp.up_proj", inter, hidden),
            ("mlp.down_proj", hidden, inter),
        ):
            yield f"{prefix}{name}.weight", (rows, columns)
        yield f"{prefix}input_layernorm.weight", (hidden,)
        yield f"{prefix}post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (config["vocab_size"], hidden)


def shards(tensors):
    """Groups (name, shape) into lists of at most SHARD_BYTES."""
    group, group_bytes = [], 0
    for name, shape in tensors:
        size = 2 * torch.Size(shape).numel()
        if group and group_bytes + size > SHARD_BYTES:
            yield group
            group, group_bytes = [], 0
        group.append((name, shape))
        group_bytes += size
    yield group


def weights(shape, device: str) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return (torch.randn(shape, dtype=torch.bfloat16, device=device) * STANDARD_DEVIATION).cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description="A model with random weights.")
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--layers", type=int)
    given = parser.parse_args()
    start = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    settings = config(SHAPES[given.shape])
    settings["num_hidden_layers"] = given.layers or settings["num_hidden_layers"]
    given.folder.mkdir(parents=True)
    groups = list(shards(tensor_shapes(settings)))
    index, size = {}, 0
    for number, group in enumerate(groups, 1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        tensors = {name: weights(shape, device) for name, shape in group}
        save_file(tensors, given.folder / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, file))
        size += sum(tensor.nbytes for tensor in tensors.values())
    total = {"metadata": {"total_size": size}, "weight_map": index}
    (given.folder / "model.safetensors.index.json").write_text(json.dumps(total, indent=1))
    (given.folder / "config.json").write_text(json.dumps(settings, indent=1))
    for file in given.tokenizer.iterdir():
        shutil.copy(file, given.folder)
    seconds = time.monotonic() - start
    print(f"{given.shape}: {size / 1e9:.1f} GB in {len(groups)} shards, made on {device} in {seconds:.1f} s")


if __name__ == "__main__":
    main()
