# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The Hugging Face cache of a host, and which files of a repo count.
    DOCUMENTATION = r"""
options:
  cache_dir:
    description:
      - The cache, which is what E(HF_HUB_CACHE) names for C(huggingface_hub).
      - Without it, the one that C(huggingface_hub) uses for this user and environment, in most cases
        C(~/.cache/huggingface/hub).
    type: path
  allow_patterns:
    description:
      - Shell patterns of the files that are wanted, matched against the whole path in the repo.
      - Without it weights as C(*.safetensors), configuration, tokenizer, chat template and small texts.
        Second copies of the weights (C(original/), C(metal/), C(consolidated*.safetensors) beside others) are left out.
    type: list
    elements: str
  ignore_patterns:
    description: Shell patterns of files that are not wanted although O(allow_patterns) has them.
    type: list
    elements: str
  allow_pickle:
    description:
      - Accept pickled files (C(*.bin), C(*.pt), C(*.pth), C(*.ckpt), C(*.pkl), C(*.pickle)).
      - Loading one can run code of its publisher.
    type: bool
    default: false
"""
