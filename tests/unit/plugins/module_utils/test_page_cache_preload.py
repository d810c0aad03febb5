from __future__ import annotations

import os

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import page_cache_preload, sglang_page_cache
from ansible_collections.preheat.fleet.plugins.module_utils.page_cache_preload import Preload

CHUNK = 256 * 1024
MIB = 1 << 20


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(page_cache_preload, "CHUNK_BYTES", CHUNK)


def write(path, size, resident=0):
    """A file of which the first bytes are in RAM."""
    path.write_bytes(os.urandom(size))
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    os.posix_fadvise(descriptor, resident, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return str(path)


def test_what_is_cold_is_read_and_nothing_the_second_time(tmp_path):
    paths = [write(tmp_path / "b", MIB), write(tmp_path / "a", MIB + 5000, resident=MIB + 5000)]
    plan = Preload(paths, 10 * MIB)
    assert (plan.bytes_total, plan.bytes_to_read, plan.bytes_left) == (2 * MIB + 5000, MIB, 0)
    assert plan.fraction(plan.resident_bytes_before) == pytest.approx(0.5, abs=0.01)
    done = plan.run(readers=3)
    assert (done["bytes_read"], done["resident_fraction_after"]) == (MIB, 1.0)
    again = Preload(paths, 10 * MIB)
    assert again.bytes_to_read == 0
    assert again.run(readers=3)["bytes_read"] == 0


def test_of_a_file_only_what_is_missing_is_read(tmp_path):
    # The kernel keeps and drops pages in folios, so the border is not exactly where it was asked for.
    plan = Preload([write(tmp_path / "half", 32 * MIB, resident=16 * MIB)], 64 * MIB)
    assert plan.bytes_to_read == pytest.approx(16 * MIB, abs=4 * MIB)
    missing = plan.bytes_to_read
    assert plan.run(readers=1)["bytes_read"] == missing
    assert Preload(list(plan.sizes), 64 * MIB).bytes_to_read == 0


@pytest.mark.parametrize(("budget", "to_read"), [(0, 0), (MIB // 2, 0), (MIB + CHUNK, CHUNK), (3 * MIB, MIB)])
def test_a_budget_is_for_all_that_is_resident(tmp_path, budget, to_read):
    paths = [write(tmp_path / "a", MIB, resident=MIB), write(tmp_path / "b", MIB)]
    plan = Preload(paths, budget)
    assert (plan.bytes_to_read, plan.bytes_left) == (to_read, MIB - to_read)
    assert plan.run(readers=2)["bytes_read"] == to_read
    # Readahead may bring more.
    assert sglang_page_cache.resident_bytes(paths)[paths[1]] >= to_read


def test_where_the_kernel_does_not_tell_everything_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a", MIB, resident=MIB)
    monkeypatch.setattr(page_cache_preload, "resident_bytes", lambda paths: None)
    plan = Preload([path], 10 * MIB)
    assert (plan.resident_bytes_before, plan.bytes_to_read) == (None, MIB)
    assert plan.run(readers=1) == {
        "bytes_read": MIB,
        "resident_fraction_after": None,
        "seconds": pytest.approx(0, abs=60),
    }
