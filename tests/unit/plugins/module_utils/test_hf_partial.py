from __future__ import annotations

import os

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.hf_partial import cut, file_to_fill, held_ranges

STEP = 1 << 20


@pytest.mark.parametrize(
    ("held", "parts"),
    [
        ([], [(0, 4, False), (4, 8, False), (8, 10, False)]),
        ([(0, 10)], [(0, 10, True)]),
        ([(0, 3), (6, 9)], [(0, 3, True), (3, 4, False), (4, 6, False), (6, 9, True), (9, 10, False)]),
    ],
)
def test_what_is_held_is_cut_out(held, parts):
    assert cut(10, 4, held) == parts


def test_nothing_to_cut():
    assert cut(0, 4, []) == []


BLOCK = os.stat(__file__).st_blksize


@pytest.mark.parametrize(
    ("ranges", "held"),
    [
        ([], []),
        ([(0, STEP)], [(0, STEP)]),
        ([(0, 1000)], [(0, 1000)]),  # the end of a file is exact
        ([(2 * STEP, 3 * STEP)], [(2 * STEP, 3 * STEP)]),
        # before a hole, the last block may have been written in part
        ([(0, STEP), (2 * STEP, 3 * STEP)], [(0, STEP - BLOCK), (2 * STEP, 3 * STEP)]),
        ([(0, 10), (2 * STEP, 3 * STEP)], [(2 * STEP, 3 * STEP)]),
        ([(0, 5 * STEP)], []),  # larger than the file should be
    ],
)
def test_what_was_written(tmp_path, ranges, held):
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    for start, end in ranges:
        os.pwrite(descriptor, b"x" * (end - start), start)
    found = held_ranges(descriptor, 4 * STEP)
    os.close(descriptor)
    assert found == held


def test_the_largest_part_that_was_left_is_filled(tmp_path):
    for name, size in (("e.a.incomplete", STEP), ("e.b.incomplete", 2 * STEP), ("other.c.incomplete", 3 * STEP)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert file_to_fill(tmp_path, "e") == tmp_path / "e.b.incomplete"


def test_a_new_part_has_a_name_of_its_own(tmp_path):
    first, second = (file_to_fill(tmp_path, "e") for _ in range(2))
    assert first != second
    assert first.name.startswith("e.")
    assert first.name.endswith(".incomplete")
