from __future__ import annotations

import os
import shutil

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_page_cache

MIB = 1 << 20

TOOLS = [
    pytest.param(True, id="fincore", marks=pytest.mark.skipif(not shutil.which("fincore"), reason="needs util-linux")),
    pytest.param(False, id="mincore"),
]


@pytest.fixture(params=TOOLS)
def fraction(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(sglang_page_cache.shutil, "which", lambda name: None)
    return sglang_page_cache.resident_fraction


def write(path, size, drop=False):
    path.write_bytes(os.urandom(size))
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    if drop:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return str(path)


def test_hot_cold_and_half(tmp_path, fraction):
    hot = write(tmp_path / "hot", MIB)
    cold = write(tmp_path / "cold", MIB, drop=True)
    assert fraction([hot]) == 1.0
    assert fraction([cold]) == 0.0
    assert fraction([hot, cold]) == pytest.approx(0.5)


def test_a_part_of_a_page_counts_whole(tmp_path, fraction):
    assert fraction([write(tmp_path / "small", 5000)]) == 1.0


def test_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(sglang_page_cache.shutil, "which", lambda name: None)
    monkeypatch.setattr(sglang_page_cache, "_WINDOW_BYTES", 256 * 1024)
    assert sglang_page_cache.resident_fraction([write(tmp_path / "hot", MIB + 1)]) == 1.0


@pytest.mark.parametrize("sizes", [[], [0]])
def test_nothing_to_measure(tmp_path, fraction, sizes):
    assert fraction([write(tmp_path / str(size), size) for size in sizes]) is None
