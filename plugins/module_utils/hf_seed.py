# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of a snapshot that are on the host already, outside its cache: a Hub cache, a folder as
`hf download --local-dir` makes it, a plain folder, or a tarball of one of these. Read only; no network.

Its bytes are hashed like any others. Where the Hub cannot say what they should be, the seed's own list does.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import posixpath
import re
import tarfile
import threading
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import folder_name, parse_listing
from ansible_collections.preheat.fleet.plugins.module_utils.hf_errors import HubError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import COMMIT, WEIGHTS, HubFile, is_inside, matches
from ansible_collections.preheat.fleet.plugins.module_utils.hf_inventory import INDEXES, weights_of
from ansible_collections.preheat.fleet.plugins.module_utils.hf_seed_store import FolderStore, Store, TarStore, join
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_torrent import READ_BYTES, FilePass

LISTED, UNLISTED = "seed", "none"  # what hashes are compared with: a list that came with the bytes; nothing
MODEL_FILES = ("config.json", "model_index.json", *WEIGHTS)  # one of them lies in a folder that is a model's
LFS_BYTES = 10_000_000  # from which on the Hub takes no file but as LFS
LINK_BYTES = 1 << 20  # smaller files are copied: somebody may edit them in place
FICLONE = 0x40049409  # linux/fs.h: share the blocks of a file, on btrfs, xfs and others
ETAG = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
LOCAL_DIR = ".cache/huggingface"  # what `hf download --local-dir` knows of the files beside it


class Seed:
    """Opened when it is first asked: a cache that is complete needs no NFS."""

    def __init__(self, path: str, repo_id: str):
        self.path, self._repo_id = path, repo_id
        self._lock = threading.Lock()
        self._opened: tuple[Store, str | None] | None = None

    # where in the seed the repo is

    def _open(self) -> tuple[Store, str | None]:
        with self._lock:
            if self._opened is None:
                store = self._store()
                self._opened = store, self._find_root(store)
            return self._opened

    def _store(self) -> Store:
        path = Path(os.path.expandvars(os.path.expanduser(self.path)))
        remedy = "Set model_cache_seed (parameter seed) to a folder or tarball on this host, or leave it empty."
        try:
            if path.is_dir():
                os.listdir(str(path))
                return FolderStore(path)
            return TarStore(path)
        except (OSError, EOFError, tarfile.TarError) as error:
            what = "does not exist on this host" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            raise HubError("bad_seed", f"seed '{self.path}' {what}.", remedy) from error

    def _find_root(self, store: Store) -> str | None:
        """The folder of the repo: as a cache names it, as ORG/NAME, or all there is; None if there is none."""
        folder = folder_name(self._repo_id)
        if Path(self.path).name == folder and store.is_folder("snapshots"):
            return ""
        bases = store.bases()
        for base in bases:
            for name in (folder, f"hub/{folder}", self._repo_id):
                if store.is_folder(join(base, name)):
                    return join(base, name)
        is_cache = any(name.startswith("models--") for base in bases for name in store.names(base))
        if is_cache or not any(matches(name, MODEL_FILES) for name in store.names(bases[-1])):
            return None  # of other models
        return bases[-1]

    @property
    def _is_cache(self) -> bool:
        store, root = self._open()
        return root is not None and store.is_folder(join(root, "snapshots"))

    def _read(self, path: str) -> str | None:
        store, root = self._open()
        found = store.resolved(join(root or "", path))
        if root is None or found is None:
            return None
        with store.open(found) as stream:
            return stream.read().decode("utf-8", "replace")

    # what the seed says of itself

    def commit(self, revision: str) -> str | None:
        """The commit that a branch or tag stands for here."""
        if self._is_cache:
            said = (self._read(f"refs/{revision}") or "").strip()
            return said if COMMIT.fullmatch(said) else None
        commits = {found[0] for found in self._local_dir().values()}
        return commits.pop() if len(commits) == 1 else None

    def listing(self, commit: str) -> tuple[list[HubFile], str] | None:
        """(files of a commit, LISTED or UNLISTED): the Hub's listing of then, else the names of blobs, or what
        huggingface_hub has noted; else nothing but the bytes themselves. None if the seed has nothing of the commit."""
        store, root = self._open()
        if root is None:
            return None
        listed = parse_listing(self._read(f"{'' if self._is_cache else LOCAL_DIR + '/'}trees/{commit}.json"))
        if listed is not None:
            return self._checked(listed), LISTED
        noted = {} if self._is_cache else self._local_dir()
        if any(found[0] != commit for found in noted.values()):
            return None  # files of another commit
        folder = join(root, f"snapshots/{commit}" if self._is_cache else "")
        paths = [path for path in store.files(folder) if not path.startswith(".") or path == ".gitattributes"]
        at = {path: found for path in paths if (found := store.resolved(join(folder, path)))}
        self._check_shards(at)
        etags = {path: posixpath.basename(found) for path, found in at.items() if self._is_cache}
        etags.update({path: etag for path, (_commit, etag) in noted.items() if path in at})
        named = {path: etag for path, etag in etags.items() if ETAG.fullmatch(etag)}
        # Beside files that huggingface_hub has noted, others are not of the repo; else there are just bytes.
        nameless = [] if noted else [path for path in at if path not in named]
        files = [_as_listed(path, store.size(at[path]), etag) for path, etag in named.items()]
        files += [self._hashed(path, at[path]) for path in nameless]
        return (self._checked(files), UNLISTED if nameless else LISTED) if files else None

    def _checked(self, files: list[HubFile]) -> list[HubFile]:
        """Both names become parts of paths."""
        for file in files:
            if not is_inside(file.path) or not ETAG.fullmatch(file.etag):
                raise HubError("bad_seed", f"seed '{self.path}' lists the file {file.path!r}.", "Do not use it.")
        return files

    def _check_shards(self, at: dict[str, str]) -> None:
        """A list made of what is there must not pass for complete where shards are missing."""
        store, _root = self._open()
        for index in [path for path in at if matches(path, INDEXES)]:
            with store.open(at[index]) as stream:
                names = weights_of(stream.read().decode("utf-8", "replace")) or set()
            absent = sorted(name for name in names if join(posixpath.dirname(index), name) not in at)
            if absent:
                raise HubError(
                    "bad_seed",
                    f"seed '{self.path}' lacks {len(absent)} files that {index} names, among them {absent[0]}.",
                    "Make the seed anew from a complete snapshot.",
                )

    def _local_dir(self) -> dict[str, tuple[str, str]]:
        """{path: (commit, etag)} as `hf download --local-dir` has noted them."""
        store, root = self._open()
        folder, noted = f"{LOCAL_DIR}/download", {}
        for name in store.files(join(root or "", folder)):
            if name.endswith(".metadata"):
                lines = (self._read(f"{folder}/{name}") or "").split()
                if len(lines) >= 2 and COMMIT.fullmatch(lines[0]) and ETAG.fullmatch(lines[1]):
                    noted[name[: -len(".metadata")]] = (lines[0], lines[1])
        return noted

    def _hashed(self, path: str, at: str) -> HubFile:
        """With the hash that the Hub would list, had it these bytes: weights and large files are LFS there."""
        store, _root = self._open()
        size = store.size(at)
        as_lfs = matches(path, WEIGHTS) or size >= LFS_BYTES
        digest = hashlib.sha256() if as_lfs else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with store.open(at) as stream:
            for chunk in iter(lambda: stream.read(READ_BYTES), b""):
                digest.update(chunk)
        return _as_listed(path, size, digest.hexdigest())

    # its bytes

    def _at(self, path: str) -> str | None:
        store, root = self._open()
        return None if root is None else store.resolved(join(root, path))

    def find(self, commit: str, file: HubFile) -> str | None:
        """Where the bytes of a file should be, by its size; they are hashed when they are taken."""
        store, _root = self._open()
        names = [f"blobs/{file.etag}", f"snapshots/{commit}/{file.path}"] if self._is_cache else [file.path]
        for name in names:
            found = self._at(name)
            if found is not None and store.size(found) == file.size:
                return found
        return None

    def links(self, at: str, target_dir: Path) -> bool:
        """Whether taking a file needs no space."""
        store, _root = self._open()
        path = store.on_disk(at)
        return path is not None and _can_link(path, target_dir)

    @property
    def one_by_one(self) -> bool:
        return self._open()[0].one_by_one

    def position(self, at: str) -> int:
        return self._open()[0].position(at)

    def take(self, at: str, file: HubFile, target: Path) -> bool:
        """Put the file's bytes at target: by sharing blocks, by hard link, or as a copy. False, and nothing at target,
        if they are not those of the file."""
        store, _root = self._open()
        target.unlink(missing_ok=True)
        path = store.on_disk(at)
        found = FilePass(file, pieces=False)
        try:
            if path is not None and (_clone(path, target) or (_can_link(path, target.parent) and _link(path, target))):
                found.read(target)
            else:
                with store.open(at) as source, target.open("wb") as copy:
                    for chunk in iter(lambda: source.read(READ_BYTES), b""):
                        found.update(chunk)
                        copy.write(chunk)
                    copy.flush()
                    os.fdatasync(copy.fileno())
        except (OSError, EOFError, tarfile.TarError) as error:
            target.unlink(missing_ok=True)
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return False
        if not found.is_right:
            target.unlink()
        return found.is_right


def _as_listed(path: str, size: int, etag: str) -> HubFile:
    """A file as the Hub would list it: who has the hash of an LFS file has that of its pointer too."""
    if len(etag) != 64:
        return HubFile(path, size, etag)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{etag}\nsize {size}\n".encode()
    return HubFile(
        path, size, hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest(), etag
    )


def _clone(path: Path, target: Path) -> bool:
    with path.open("rb") as source, target.open("wb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), FICLONE, source.fileno())
        except OSError:
            return False
    return True


def _can_link(path: Path, target_dir: Path) -> bool:
    stat = path.stat()
    everybody_reads = stat.st_mode & 0o444 == 0o444
    while not target_dir.exists():
        target_dir = target_dir.parent
    return stat.st_size >= LINK_BYTES and everybody_reads and stat.st_dev == target_dir.stat().st_dev


def _link(path: Path, target: Path) -> bool:
    target.unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(str(path)), str(target))
    except OSError:  # the file system, or the owner of the file, does not allow it
        return False
    return True
