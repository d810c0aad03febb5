"""Torrents and hashes of one pass over a file."""

from __future__ import annotations

import hashlib

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_torrent import (
    PIECE_BYTES,
    FilePass,
    piece_bytes,
    units,
)

DATA = bytes(range(256)) * 300


def lfs(data: bytes) -> HubFile:
    return HubFile("model.safetensors", len(data), "0" * 40, hashlib.sha256(data).hexdigest())


def plain(data: bytes) -> HubFile:
    return HubFile("config.json", len(data), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, PIECE_BYTES[0]), (1, PIECE_BYTES[0]), (16 << 20, 128 << 10), (1 << 30, 8 << 20), (1 << 40, PIECE_BYTES[1])],
)
def test_pieces_are_powers_of_two_within_limits(size, expected):
    assert piece_bytes(size) == expected


@pytest.mark.parametrize("size", [16 << 20, (16 << 20) + 1, 100_000_000, 999_999_999])
def test_a_large_file_has_as_many_pieces_as_keep_all_hosts_busy(size):
    assert size / piece_bytes(size) >= 64


@pytest.mark.parametrize("kind", [lfs, plain])
@pytest.mark.parametrize("chunk", [1000, 16 << 10, len(DATA)])
def test_right_bytes_are_right_however_they_come(kind, chunk):
    found = FilePass(kind(DATA))
    for start in range(0, len(DATA), chunk):
        found.update(DATA[start : start + chunk])
    assert found.is_right


@pytest.mark.parametrize("kind", [lfs, plain])
@pytest.mark.parametrize("wrong", [DATA[:-1], DATA + b"x", DATA[:-1] + b"x", b""])
def test_wrong_bytes_are_wrong(kind, wrong):
    found = FilePass(kind(DATA))
    found.update(wrong)
    assert not found.is_right


def test_all_holders_make_the_same_torrent_and_strangers_another(tmp_path):
    (tmp_path / "blob").write_bytes(DATA)
    whole = FilePass(lfs(DATA)).read(tmp_path / "blob")
    parts = FilePass(lfs(DATA))
    for start in range(0, len(DATA), 777):
        parts.update(DATA[start : start + 777])
    assert whole.torrent("secret") == parts.torrent("secret")
    assert whole.torrent("secret") != whole.torrent("other")


def test_a_torrent_is_private_and_holds_the_hashes_of_all_pieces():
    found = FilePass(lfs(DATA))
    found.update(DATA)
    torrent = found.torrent("secret")
    size = piece_bytes(len(DATA))
    hashes = b"".join(hashlib.sha1(DATA[start : start + size]).digest() for start in range(0, len(DATA), size))
    assert b"7:privatei1e" in torrent
    assert b"6:pieces%d:%s" % (len(hashes), hashes) in torrent


@pytest.mark.parametrize("size", [1, 2 << 20, 3 << 20, (16 << 20) + 1, 5_000_000_000])
def test_units_cover_every_piece_once_and_get_smaller(size):
    cut = units(size)
    pieces = [piece for unit in cut for piece in unit]
    assert pieces == list(range(-(-size // piece_bytes(size))))
    assert [len(unit) for unit in cut[:-1]] == sorted((len(unit) for unit in cut[:-1]), reverse=True)
    assert len(cut) == (4 if size >= 2 << 20 else 1)


def test_a_unit_s_torrent_can_be_made_before_the_rest_has_come():
    data = bytes(range(256)) * (12 << 10)
    early, whole = FilePass(lfs(data)), FilePass(lfs(data))
    unit = units(len(data))[0]
    end = unit.stop * piece_bytes(len(data))
    early.update(data[: end - 1])
    assert not early.covers(unit)
    early.update(data[end - 1 : end])
    assert early.covers(unit)
    whole.update(data)
    torrent = early.torrent("secret", unit)
    assert torrent == whole.torrent("secret", unit)
    hashes = torrent.split(b"6:pieces")[1].split(b":", 1)[1]
    assert hashes[: 20 * len(unit)] == whole.torrent("secret").split(b"6:pieces")[1].split(b":", 1)[1][: 20 * len(unit)]
    assert hashes[20 * len(unit) :].startswith(bytes(20))  # of pieces that nobody must ask for
