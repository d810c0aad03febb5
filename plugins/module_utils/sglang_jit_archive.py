# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of compiled kernels as one file, to bring it to hosts with the same image and the same kind of GPU."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_jit_cache import kernel_files

_BLOCK_BYTES = 1 << 20


class ArchiveError(Exception):
    """An archive that must not be unpacked. The text says why."""


def pack(folder, archive, settled_before):
    """Write the regular files under C(folder) into C(archive), a tar.gz; returns its C(sha256), C(files), C(bytes).

    Links, locks and logs are left out, and what was written since C(settled_before) (epoch seconds): it may be half a
    file, as linkers write in place. The same files give the same archive, byte by byte.
    """
    files = sorted((path, status) for path, status in kernel_files(folder) if status.st_mtime < settled_before)
    with (
        open(archive, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=1, mtime=0) as out,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, status in files:
            member = tarfile.TarInfo(path)
            member.size, member.mode = status.st_size, status.st_mode & 0o777
            # ninja compares times to the nanosecond; tarfile's own float would lose the last digits.
            seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
            member.mtime = seconds
            member.pax_headers = {"mtime": f"{seconds}.{nanoseconds:09d}"}
            with open(os.path.join(folder, path), "rb") as stream:
                tar.addfile(member, stream)
    size = os.path.getsize(archive)
    return {"sha256": sha256(archive), "files": len(files), "bytes": size}


def unpack(archive, expected_sha256, folder, check_mode=False):
    """Bring the files of C(archive) under C(folder), where there is none of that name or an older one.

    Returns C(files_written), C(bytes_written), C(files_kept). ArchiveError, before anything is written, for another
    archive than expected and for members that are no plain files below the folder.
    """
    found = sha256(archive)
    if found != expected_sha256:
        raise ArchiveError(f"archive '{archive}' has the sha256 {found}, not {expected_sha256}")
    done = {"files_written": 0, "bytes_written": 0, "files_kept": 0}
    with tarfile.open(archive, mode="r:gz") as tar:
        members = tar.getmembers()
        for member in members:
            _check(member, folder)
        for member in members:
            target = os.path.join(folder, member.name)
            if os.path.lexists(target) and os.lstat(target).st_mtime_ns >= _mtime_ns(member):
                done["files_kept"] += 1
                continue
            done["files_written"] += 1
            done["bytes_written"] += member.size
            if not check_mode:
                _write(tar, member, target)
    return done


def _check(member, folder):
    """A container may write into the folder, and so may have put links there: none is followed out of it."""
    target = os.path.join(folder, member.name)
    parent = os.path.realpath(os.path.dirname(target))
    top = os.path.realpath(folder)
    parts = member.name.split("/")
    if not member.isreg() or os.path.isabs(member.name) or ".." in parts or os.path.commonpath([top, parent]) != top:
        raise ArchiveError(f"'{member.name}' in the archive is no plain file below '{folder}'")


def _write(tar, member, target):
    """Complete under another name first: a server may look for the file at any time."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(target), suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as out:
            shutil.copyfileobj(tar.extractfile(member), out, _BLOCK_BYTES)
        os.chmod(temporary, member.mode & 0o777)
        os.utime(temporary, ns=(_mtime_ns(member),) * 2)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _mtime_ns(member):
    seconds, _point, fraction = member.pax_headers["mtime"].partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9])


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()
