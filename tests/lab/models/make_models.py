"""Make the lab's models: real architectures, real tokenizers, random weights. Runs in the lab's SGLang image.

    python3 make_models.py OUTPUT_FOLDER

Writes OUTPUT_FOLDER/preheat-lab/NAME in the layout of a Hub repo. The same image makes the same bytes every time, so
that a model's commit on the Hub for tests stays the same too.
"""

import glob
import os
import sys
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"  # the tokenizer's training is only deterministic on one thread
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

SEED = 1
CONTEXT_LENGTH = 4096
SPECIAL_TOKENS = {"pad_token": "<|pad|>", "bos_token": "<|bos|>", "eos_token": "<|eos|>"}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|bos|>{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# Python's own sources are text that every image has.
CORPUS = sorted(glob.glob("/usr/lib/python3.11/*.py"))


def make_tokenizer(vocabulary_size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((Path(path).read_text(encoding="utf-8") for path in CORPUS), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=CONTEXT_LENGTH, chat_template=CHAT_TEMPLATE, **SPECIAL_TOKENS
    )


def make_model(
    folder: Path, model_class: type, config_class: type, shard_size: str, pickle: bool, **shape: int
) -> None:
    tokenizer = make_tokenizer(shape["vocab_size"])
    config = config_class(
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **shape,
    )
    torch.manual_seed(SEED)
    model = model_class(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size=shard_size)
    tokenizer.save_pretrained(folder)
    if pickle:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "README.md").write_text(f"# {folder.name}\n\nRandom weights, for preheat's tests.\n", encoding="utf-8")
    size_bytes = sum(path.stat().st_size for path in folder.iterdir())
    shards = len(list(folder.glob("*.safetensors")))
    print(f"{folder.parent.name}/{folder.name}: {size_bytes / 1e6:.1f} MB, {shards} shards")


def main(output: Path) -> None:
    make_model(
        # The smallest that is a real model; its pickle is there to be left alone.
        output / "preheat-lab" / "tiny-llama",
        LlamaForCausalLM,
        LlamaConfig,
        "400KB",
        pickle=True,
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    make_model(
        # Large enough that a bandwidth limit or a dropped connection shows.
        output / "preheat-lab" / "small-qwen2",
        Qwen2ForCausalLM,
        Qwen2Config,
        "10MB",
        pickle=False,
        vocab_size=8192,
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
