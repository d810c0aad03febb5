#!/usr/bin/env python3
"""Trains a byte-level BPE tokenizer of 32000 tokens on Python sources, as a Hugging Face tokenizer folder.

usage: make_tokenizer.py OUT_FOLDER SOURCE_FOLDER
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = {"pad_token": "<|pad|>", "bos_token": "<|bos|>", "eos_token": "<|eos|>"}
CHAT_TEMPLATE = (
    "{% for m in messages %}<|bos|>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def main() -> None:
    out, sources = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = (file.read_text(errors="ignore") for file in sorted(sources.rglob("*.py"))[:1500])
    trainer = trainers.BpeTrainer(
        vocab_size=32000, special_tokens=list(SPECIAL.values()), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL, "chat_template": CHAT_TEMPLATE}
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    (out / "special_tokens_map.json").write_text(json.dumps(SPECIAL, indent=1))


if __name__ == "__main__":
    main()
