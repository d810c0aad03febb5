# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repo in the Hugging Face cache of a host, in the layout that huggingface_hub 1.x and 2.x share.

    blobs/<etag>  snapshots/<commit>/<path> -> blob  refs/<revision>  trees/<commit>.json

Reads and checks; what writes here (links, refs, listings) is atomic. Standard library only, no network.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HUB, HubFile

OK, UNLINKED, DAMAGED, MISSING = "ok", "unlinked", "damaged", "missing"
LISTING_VERSION = 1  # that of huggingface_hub 2.x
CHUNK_BYTES = 1 << 20


def default_cache_dir() -> str:
    """Where huggingface_hub keeps its cache for this user."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return os.path.expandvars(os.path.expanduser(given))


def folder_name(repo_id: str) -> str:
    return "models--" + repo_id.replace("/", "--")


def repo_ids(cache_dir) -> list[str]:
    """The models of a cache, by name; a cache that does not exist holds none."""
    root = Path(cache_dir)
    folders = sorted(root.glob("models--*")) if root.is_dir() else []
    return [folder.name[len("models--") :].replace("--", "/") for folder in folders if folder.is_dir()]


class RepoCache:
    def __init__(self, cache_dir, repo_id: str):
        self.cache_dir = Path(cache_dir)
        self.path = self.cache_dir / folder_name(repo_id)
        self.blobs = self.path / "blobs"
        self.locks = self.cache_dir / ".locks" / self.path.name

    def snapshot(self, commit: str) -> Path:
        return self.path / "snapshots" / commit

    def commits(self) -> list[str]:
        return _names(self.path / "snapshots")

    # refs

    def refs(self) -> dict[str, str]:
        """{branch or tag: commit}"""
        root = self.path / "refs"
        found = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix != ".tmp"]
        return {path.relative_to(root).as_posix(): path.read_text().strip() for path in found}

    def ref(self, revision: str) -> str | None:
        return self.refs().get(revision)

    def write_ref(self, revision: str, commit: str) -> None:
        # No newline: huggingface_hub takes the whole file as the commit.
        _write_atomically(self.path / "refs" / revision, commit)

    # the Hub's listing of a commit; huggingface_hub 2.x reads and writes the same file

    def _listing(self, commit: str) -> Path:
        return self.path / "trees" / (commit + ".json")

    def listing(self, commit: str) -> list[HubFile] | None:
        return parse_listing(self._listing_text(commit))

    def listing_origin(self, commit: str) -> str:
        """Who said what the commit consists of: HUB, or what a seed said in its place."""
        try:
            return json.loads(self._listing_text(commit) or "{}").get("origin", HUB)
        except ValueError:
            return HUB

    def _listing_text(self, commit: str) -> str | None:
        try:
            return self._listing(commit).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None  # absent or unreadable: the Hub is asked again

    def write_listing(self, commit: str, files: list[HubFile], origin: str = HUB) -> None:
        entries = {}
        for file in sorted(files, key=lambda file: file.path):
            entry = {"size": file.size, "blob_id": file.git_sha1}
            if file.sha256:
                entry.update(lfs_sha256=file.sha256, lfs_size=file.size)
            if file.xet_hash:
                entry["xet_hash"] = file.xet_hash
            entries[file.path] = entry
        said = {"origin": origin} if origin != HUB else {}  # which huggingface_hub passes over
        text = json.dumps({"format_version": LISTING_VERSION, **said, "files": entries}, indent=1)
        _write_atomically(self._listing(commit), text)

    def share_listing(self, commit: str) -> None:
        """huggingface_hub writes it for its own user only; without it, other users cannot check the snapshot."""
        path = self._listing(commit)
        if path.stat().st_mode & 0o777 != 0o644 and os.access(path, os.W_OK) and path.stat().st_uid == os.geteuid():
            path.chmod(0o644)

    # files

    def blob(self, file: HubFile) -> Path:
        return self.blobs / file.etag

    def check(self, commit: str, file: HubFile, hashes: bool = False) -> str:
        """Whether the snapshot has the file: by size, or (hashes) by every byte."""
        pointer, blob = self.snapshot(commit) / file.path, self.blob(file)
        if pointer.is_file() and not pointer.is_symlink():  # caches copied without links look so
            return OK if _is_right(pointer, file, hashes) else DAMAGED
        if not blob.exists():
            return MISSING
        if not _is_right(blob, file, hashes):
            return DAMAGED
        return (
            OK if pointer.is_symlink() and os.path.realpath(str(pointer)) == os.path.realpath(str(blob)) else UNLINKED
        )

    def remove_file(self, commit: str, file: HubFile) -> None:
        """Take a damaged file away, so that nothing can load it meanwhile."""
        pointer = self.snapshot(commit) / file.path
        for path in (pointer, self.blob(file)):
            if os.path.lexists(str(path)):
                path.unlink()

    def link(self, commit: str, file: HubFile) -> None:
        pointer = self.snapshot(commit) / file.path
        pointer.parent.mkdir(parents=True, exist_ok=True)
        temporary = pointer.with_name(f"{pointer.name}.{uuid.uuid4().hex[:8]}.tmp")
        os.symlink(os.path.relpath(str(self.blob(file)), str(pointer.parent)), str(temporary))
        os.replace(str(temporary), str(pointer))

    def leftovers(self) -> list[Path]:
        """What killed downloads have left: a running one holds the lock of its blob."""
        found = sorted(self.blobs.glob("*.incomplete")) if self.blobs.is_dir() else []
        return [path for path in found if not _is_locked(self.lock(path.name.split(".")[0]))]

    def is_busy(self) -> bool:
        """Whether a download of some file is going on; what may not be asked counts as one."""
        return self.locks.is_dir() and any(_is_locked(path) for path in self.locks.glob("*.lock"))

    def lock(self, etag: str) -> Path:
        """The lock that huggingface_hub takes to fetch a blob."""
        return self.locks / (etag + ".lock")

    def size_bytes(self, file: HubFile) -> int:
        try:
            return self.blob(file).stat().st_size
        except OSError:
            return 0


def parse_listing(text: str | None) -> list[HubFile] | None:
    """The files of a listing; None if it is of another version or none at all."""
    try:
        data = json.loads(text or "")
        if data["format_version"] != LISTING_VERSION:
            return None
        return [
            HubFile(path, info["size"], info["blob_id"], info.get("lfs_sha256"), info.get("xet_hash"))
            for path, info in data["files"].items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def has_hash(path, file: HubFile) -> bool:
    """sha256 of an LFS file, git's sha1 of another."""
    digest = hashlib.sha256()
    if not file.sha256:
        digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(str(path)), usedforsecurity=False)
    with open(str(path), "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest() == file.etag


def free_bytes(path) -> int:
    """What an ordinary user may still write below path, which need not exist yet."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    stat = os.statvfs(str(path))
    return stat.f_bavail * stat.f_frsize


def _is_locked(path: Path) -> bool:
    """Asked without creating or changing anything."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # held, or not ours to ask
        return True
    return False


def _is_right(path: Path, file: HubFile, hashes: bool) -> bool:
    return path.stat().st_size == file.size and (not hashes or has_hash(path, file))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o644)
        os.replace(str(temporary), str(path))
    finally:
        if temporary.exists():
            temporary.unlink()
