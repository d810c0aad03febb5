from __future__ import annotations

import io
import os
import tarfile

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_jit_archive
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_jit_archive import ArchiveError, pack, unpack

OLD = 1_700_000_000_123_456_789
NOW = 1_800_000_000


def write(path, data=b"compiled", at=OLD, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(at, at))
    return path


@pytest.fixture
def seed(tmp_path):
    write(tmp_path / "seed/triton/ab/kernel.cubin")
    write(tmp_path / "seed/flashinfer/ops/prefill.so", b"x" * 5000, mode=0o755)
    return tmp_path / "seed"


@pytest.fixture
def archive(seed, tmp_path):
    return str(tmp_path / "jit.tar.gz"), pack(str(seed), str(tmp_path / "jit.tar.gz"), NOW)["sha256"]


def test_there_and_the_same(seed, archive, tmp_path):
    done = unpack(*archive, str(tmp_path / "new"))
    assert done == {"files_written": 2, "bytes_written": 5008, "files_kept": 0}
    for path in ("triton/ab/kernel.cubin", "flashinfer/ops/prefill.so"):
        ours, theirs = tmp_path / "new" / path, seed / path
        assert ours.read_bytes() == theirs.read_bytes()
        # To the nanosecond: ninja builds again what is a trace newer than its log says.
        assert ours.stat().st_mtime_ns == theirs.stat().st_mtime_ns == OLD
        assert ours.stat().st_mode == theirs.stat().st_mode
    assert unpack(*archive, str(tmp_path / "new")) == {"files_written": 0, "bytes_written": 0, "files_kept": 2}
    assert sorted(os.listdir(tmp_path / "new/triton/ab")) == ["kernel.cubin"]


def test_the_same_files_give_the_same_archive(seed, archive, tmp_path):
    again = pack(str(seed), str(tmp_path / "again"), NOW)
    assert (again["sha256"], again["files"], again["bytes"]) == (archive[1], 2, os.path.getsize(archive[0]))


def test_what_is_no_finished_kernel_is_not_packed(seed, tmp_path):
    write(seed / "flashinfer/ops/decode.so", at=(NOW + 1) * 10**9)  # a linker may still be at it
    write(seed / "flashinfer/ops/decode.lock")
    (seed / "flashinfer/shadow").symlink_to("/etc/shadow")
    assert pack(str(seed), str(tmp_path / "again"), NOW)["files"] == 2


@pytest.mark.parametrize(("at", "stays"), [(OLD + 1, True), (OLD, True), (OLD - 1, False)])
def test_nothing_newer_is_overwritten(archive, tmp_path, at, stays):
    mine = write(tmp_path / "new/triton/ab/kernel.cubin", b"mine", at)
    assert unpack(*archive, str(tmp_path / "new"))["files_kept"] == stays
    assert (mine.read_bytes() == b"mine") is stays


def test_check_mode_writes_nothing(archive, tmp_path):
    assert unpack(*archive, str(tmp_path / "new"), check_mode=True)["files_written"] == 2
    assert not (tmp_path / "new").exists()


def test_another_archive_than_expected(archive, tmp_path):
    with pytest.raises(ArchiveError, match="has the sha256"):
        unpack(archive[0], "0" * 64, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def hostile(tmp_path, **fields):
    member = tarfile.TarInfo("triton/evil")
    for name, value in fields.items():
        setattr(member, name, value)
    member.size = 4 if member.isreg() else 0
    path = tmp_path / "hostile.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(b"evil") if member.isreg() else None)
    return str(path), sglang_jit_archive.sha256(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "../evil"},
        {"name": "a/../../evil"},
        {"name": "/tmp/preheat-evil"},
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.DIRTYPE},
    ],
)
def test_members_that_are_no_plain_files_below_the_folder(tmp_path, fields):
    with pytest.raises(ArchiveError, match="no plain file below"):
        unpack(*hostile(tmp_path, **fields), str(tmp_path / "new"))
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "new").exists()


def test_a_link_that_a_container_left_is_not_followed(archive, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "new/triton").symlink_to(tmp_path / "outside")
    with pytest.raises(ArchiveError, match="no plain file below"):
        unpack(*archive, str(tmp_path / "new"))
    assert not list((tmp_path / "outside").iterdir())
