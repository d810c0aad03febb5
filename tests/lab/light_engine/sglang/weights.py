"""The model's files, found and read as an offline SGLang finds and reads them."""

import json
import os
from pathlib import Path


class ModelMissing(OSError):
    pass


def cache_folder() -> Path:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def find_snapshot(model: str, revision: str | None = None) -> Path:
    """The folder of a local path, or of a Hub id's snapshot in the cache. The Hub is never asked."""
    if Path(model).is_dir():
        return Path(model)
    repo = cache_folder() / f"models--{model.replace('/', '--')}"
    reference = repo / "refs" / (revision or "main")
    snapshot = repo / "snapshots" / (reference.read_text().strip() if reference.is_file() else revision or "main")
    if not (snapshot / "config.json").is_file():
        raise ModelMissing(
            f"We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached"
            f" files. Model {model!r}, looked for in {snapshot}."
        )
    return snapshot


def read_weights(snapshot: Path) -> int:
    """Read every shard to its end; the bytes read. A shard that the index names and the disk lacks is an error."""
    index = snapshot / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = sorted(path.name for path in snapshot.glob("*.safetensors"))
    if not names:
        raise ModelMissing(f"Cannot find any model weights with `{snapshot}`")
    total_bytes = 0
    for name in names:
        with (snapshot / name).open("rb") as shard:
            while block := shard.read(1 << 20):
                total_bytes += len(block)
    return total_bytes
