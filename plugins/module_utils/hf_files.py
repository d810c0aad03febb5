# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a Hub repo, and which of them a snapshot needs. Pure, standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB = "hub"  # who lists a commit's files, unless another origin is noted

# Loading one of these runs code that the file brings along.
PICKLES = ("*.bin", "*.ckpt", "*.pkl", "*.pickle", "*.pt", "*.pth")
OTHER_WEIGHTS = ("*.gguf", "*.h5", "*.msgpack", "*.onnx")
WEIGHTS = ("*.safetensors", *PICKLES, *OTHER_WEIGHTS)
# Weights as safetensors, configuration, tokenizer, chat template, and the small texts beside them.
DEFAULT_ALLOW = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.md",
    "*.model",
    "*.tiktoken",
    "*.txt",
    "*.yaml",
    "*.yml",
    ".gitattributes",
    "LICENSE*",
)
# Where publishers keep a second copy of the same weights.
DEFAULT_IGNORE = ("metal/*", "original/*")
SECOND_COPY = "consolidated*.safetensors"


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub lists it: sha256 where it is LFS, else git_sha1 is the hash of its content."""

    path: str
    size: int
    git_sha1: str
    sha256: str | None = None
    xet_hash: str | None = None

    @property
    def etag(self) -> str:
        """The name of its blob in the cache."""
        return self.sha256 or self.git_sha1

    def summary(self) -> dict:
        digest = {"sha256": self.sha256} if self.sha256 else {"git_sha1": self.git_sha1}
        return {"path": self.path, "size": self.size, **digest}


@dataclass(frozen=True)
class Selection:
    """Which files are wanted; without patterns of one's own, the defaults above."""

    allow_patterns: list[str] | None = None
    ignore_patterns: list[str] | None = None
    allow_pickle: bool = False

    def of(self, files: list[HubFile]) -> list[HubFile]:
        allow, ignore = self.allow_patterns, self.ignore_patterns
        if allow is None:
            allow = [*DEFAULT_ALLOW, *(PICKLES if self.allow_pickle else ())]
            ignore = [*DEFAULT_IGNORE, *_second_copies(files)] if ignore is None else ignore
        chosen = [file for file in files if matches(file.path, allow) and not matches(file.path, ignore or ())]
        if not self.allow_pickle:
            chosen = [file for file in chosen if not matches(file.path, PICKLES)]
        return chosen

    def weights_left_out(self, files: list[HubFile]) -> list[str]:
        """The repo's weights, if it has some and none of them is selected."""
        if any(matches(file.path, WEIGHTS) for file in self.of(files)):
            return []
        return [file.path for file in files if matches(file.path, WEIGHTS)]


def matches(path: str, patterns) -> bool:
    """Shell patterns over the whole path, as huggingface_hub reads them: a folder/ stands for all below it."""
    return any(fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern) for pattern in patterns)


def is_inside(path: str) -> bool:
    """Whether a path stays below the folder that it is relative to."""
    return not (path.startswith("/") or ".." in path.split("/") or "\\" in path)


def _second_copies(files: list[HubFile]) -> list[str]:
    """consolidated*.safetensors repeats the weights, unless it is all there is."""
    weights = [file.path for file in files if "/" not in file.path and file.path.endswith(".safetensors")]
    return [SECOND_COPY] if any(not fnmatchcase(path, SECOND_COPY) for path in weights) else []
