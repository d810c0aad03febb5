"""What the Hub for tests serves: folders ORG/NAME below a root, each a model repo.

The folder's own files are the branch main; every folder below its .revisions/ is a further branch or tag of
that name. A commit is derived from the content, so the same files have the same commit on every machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
LFS_THRESHOLD_BYTES = 10 * 1024 * 1024
REVISIONS_FOLDER = ".revisions"


@dataclass(frozen=True)
class File:
    """One file of a tree: git_sha1 is that of the file, or of its pointer where the file is LFS."""

    path: str
    location: Path
    size: int
    mtime_ns: int
    git_sha1: str
    sha256: str | None = None
    pointer_size: int | None = None

    @property
    def etag(self) -> str:
        return self.sha256 or self.git_sha1

    def unchanged(self) -> bool:
        try:
            stat = self.location.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True)
class Tree:
    commit: str
    files: dict[str, File]

    def entries(self) -> list[dict]:
        """The listing as the endpoint /tree gives it, folders included."""
        folders = {str(parent) for path in self.files for parent in Path(path).parents if str(parent) != "."}
        listing = [
            {
                "type": "directory",
                "oid": hashlib.sha1(f"{self.commit}{name}".encode()).hexdigest(),
                "size": 0,
                "path": name,
            }
            for name in folders
        ]
        for file in self.files.values():
            entry = {"type": "file", "oid": file.git_sha1, "size": file.size, "path": file.path}
            if file.sha256:
                entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
            listing.append(entry)
        return sorted(listing, key=lambda entry: entry["path"])


def git_blob_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repos:
    """All repos below a root; hashes of large files are kept in the state folder by size and time of change."""

    def __init__(self, root: Path, state_dir: Path):
        self._root = Path(root)
        self._hash_file = Path(state_dir) / "hashes.json"
        self._lock = threading.Lock()
        self._trees: dict[tuple[str, str], Tree] = {}
        try:
            self._hashes: dict[str, list] = json.loads(self._hash_file.read_text())
        except (OSError, ValueError):
            self._hashes = {}

    def names(self) -> list[str]:
        return sorted(
            f"{org.name}/{repo.name}"
            for org in self._root.iterdir()
            if org.is_dir()
            for repo in org.iterdir()
            if repo.is_dir()
        )

    def exists(self, repo: str) -> bool:
        return repo in self.names()

    def refs(self, repo: str) -> dict[str, Path]:
        folder = self._root / repo
        revisions = folder / REVISIONS_FOLDER
        named = {child.name: child for child in revisions.iterdir()} if revisions.is_dir() else {}
        return {"main": folder, **named}

    def tree(self, repo: str, revision: str) -> Tree | None:
        """The tree of a branch, tag or commit; None if there is no such revision."""
        with self._lock:
            known = self._trees.get((repo, revision))
            if known:
                return known
            found = None
            for name, folder in self.refs(repo).items():
                tree = self._scan(repo, folder)
                self._trees[repo, tree.commit] = tree
                if revision in (name, tree.commit):
                    found = tree
            return found

    def _scan(self, repo: str, folder: Path) -> Tree:
        files = {}
        for location in sorted(folder.rglob("*")):
            path = location.relative_to(folder).as_posix()
            if location.is_file() and not path.startswith(REVISIONS_FOLDER + "/"):
                files[path] = self._file(path, location)
        listing = "".join(f"{file.path}\0{file.etag}\0{file.size}\n" for file in files.values())
        return Tree(hashlib.sha1(f"{repo}\n{listing}".encode()).hexdigest(), files)

    def _file(self, path: str, location: Path) -> File:
        stat = location.stat()
        if not path.endswith(LFS_SUFFIXES) and stat.st_size <= LFS_THRESHOLD_BYTES:
            return File(path, location, stat.st_size, stat.st_mtime_ns, git_blob_sha1(location.read_bytes()))
        sha256 = self._sha256(location, stat)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {stat.st_size}\n".encode()
        return File(path, location, stat.st_size, stat.st_mtime_ns, git_blob_sha1(pointer), sha256, len(pointer))

    def _sha256(self, location: Path, stat: os.stat_result) -> str:
        known = self._hashes.get(str(location))
        if known and known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return known[2]
        digest = hashlib.sha256()
        with location.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        self._hashes[str(location)] = [stat.st_size, stat.st_mtime_ns, digest.hexdigest()]
        self._hash_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._hash_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._hashes))
        temporary.replace(self._hash_file)
        return digest.hexdigest()
