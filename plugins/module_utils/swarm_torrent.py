# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The torrent of one file of a snapshot, made in the same pass over its bytes that checks it against the Hub's hash.

Every host that holds the file makes the same torrent: its name is the blob's, its pieces follow from the size, and the
run's secret is part of it. So nobody has to wait for somebody's torrent file, and who does not know the secret cannot
know the info-hash, which is what a peer must name before it is answered at all.
"""

from __future__ import annotations

import hashlib

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile

PIECES = 128  # as many as keep all hosts busy while a file is still spreading
PIECE_BYTES = (16 << 10, 8 << 20)
READ_BYTES = 1 << 20
# Where units end of a file that is shared while it still arrives; a unit costs its handshakes, and time to announce it.
UNIT_ENDS = (0.5, 0.75, 0.875)
UNITS_FROM_BYTES = 2 << 20


def piece_bytes(size: int) -> int:
    """A power of two that cuts a file into PIECES or more, within limits."""
    smallest, largest = PIECE_BYTES
    return min(largest, max(smallest, 1 << max(0, (max(1, size) // PIECES).bit_length() - 1)))


def units(size: int) -> list[range]:
    """The pieces of each of a file's units; a small file is one."""
    piece = piece_bytes(size)
    count = -(-size // piece)
    if size < UNITS_FROM_BYTES:
        return [range(count)]
    marks = [0, *(int(count * end) for end in UNIT_ENDS), count]
    return [range(first, last) for first, last in zip(marks, marks[1:])]


class FilePass:
    """Hashes a file's bytes, given in order: the Hub's hash and, where peers will need them, the pieces'."""

    def __init__(self, file: HubFile, pieces: bool = True):
        self._file = file
        start = b"" if file.sha256 else b"blob %d\0" % file.size
        self._whole = hashlib.sha256() if file.sha256 else hashlib.sha1(start, usedforsecurity=False)
        self._piece_bytes = piece_bytes(file.size) if pieces else 0
        self._piece, self._room = self._new_piece(), self._piece_bytes
        self._pieces: list[bytes] = []
        self.size = 0  # of the bytes so far

    def _new_piece(self):
        return hashlib.sha1(usedforsecurity=False)

    def update(self, data) -> None:
        self._whole.update(data)
        self.size += len(data)
        if not self._piece_bytes:
            return
        view = memoryview(data)
        while view:
            self._piece.update(view[: self._room])
            taken = min(self._room, len(view))
            view, self._room = view[taken:], self._room - taken
            if not self._room:
                self._pieces.append(self._piece.digest())
                self._piece, self._room = self._new_piece(), self._piece_bytes

    def read(self, path) -> FilePass:
        with open(path, "rb") as stream:
            for chunk in iter(lambda: stream.read(READ_BYTES), b""):
                self.update(chunk)
        return self

    @property
    def is_right(self) -> bool:
        return self._whole.hexdigest() == self._file.etag

    def covers(self, pieces: range) -> bool:
        """Whether these have been read and hashed."""
        return self.size >= min(self._file.size, pieces.stop * self._piece_bytes)

    def torrent(self, secret: str, only: range | None = None) -> bytes:
        """Bencoded, private, BitTorrent v1. After the last byte, or (only) after the last byte of these pieces: the
        torrent is of the whole file, but has no hashes of the others, which nobody must ask for."""
        pieces = [*self._pieces, *([self._piece.digest()] if self._room < self._piece_bytes else [])]
        if only is not None:
            count = -(-self._file.size // self._piece_bytes)
            nothing = bytes(hashlib.sha1(usedforsecurity=False).digest_size)
            pieces = [pieces[piece] if piece in only else nothing for piece in range(count)]
        info = {
            "length": self._file.size,
            "name": self._file.etag,
            "piece length": self._piece_bytes,
            "pieces": b"".join(pieces),
            "preheat run": secret,
            "private": 1,
        }
        return _bencode({"info": info})


def _bencode(value) -> bytes:
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    return b"d" + b"".join(_bencode(key) + _bencode(value[key]) for key in sorted(value)) + b"e"
