"""The Hub for tests within a test process: `hub = pytest.fixture(serving.serve)`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "lab" / "hub"))

from hub import Hub

REPO = "acme/tiny"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer/tokenizer.json": b"{}",
    "README.md": b"",
    "model-00001-of-00002.safetensors": bytes(range(256)) * 4000,
    "model-00002-of-00002.safetensors": b"second" * 50000,
}
SIZE = sum(len(data) for data in FILES.values())


class ServedHub(Hub):
    """With a folder of its own to publish in."""

    def __init__(self, folder: Path):
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        super().__init__(self.root, folder / "state")

    def publish(self, files: dict[str, bytes], repo: str = REPO, ref: str = "main") -> str:
        """Replace what a branch or tag holds; returns its commit."""
        folder = self.root / repo if ref == "main" else self.root / repo / ".revisions" / ref
        for path in folder.iterdir() if folder.is_dir() else []:
            if path.name != ".revisions":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return self.repos.tree(repo, ref).commit

    def requests(self) -> int:
        return self.control.stats()["requests"]

    def targets(self) -> list[str]:
        return [entry["target"] for entry in self.control.stats()["log"]]


def serve(tmp_path):
    with ServedHub(tmp_path / "hub") as hub:
        hub.publish(FILES)
        yield hub


def hf_model_params(endpoint, cache, /, **given) -> dict:
    """All parameters of the module hf_model, for REPO."""
    return {
        "state": "present",
        "repo_id": REPO,
        "revision": None,
        "cache_dir": str(cache),
        "allow_patterns": None,
        "ignore_patterns": None,
        "allow_pickle": False,
        "token": None,
        "endpoint": endpoint,
        "verify": "size",
        "max_workers": 4,
        "retries": 2,
        "min_free_bytes": 0,
        "fallback_endpoints": None,
        "stall_seconds": 10,
        "seed": None,
        **given,
    }
