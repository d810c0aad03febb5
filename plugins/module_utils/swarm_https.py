# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whole files from host to host over HTTPS: what a swarm uses where a host has no libtorrent. Standard library only.

The controller makes one key pair for the run. Its certificate is the only one that either side accepts, and both show
it, so that hosts of the run are answered and nobody else. Addresses that are no peers are not even shaken hands with.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import socketserver
import ssl
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

READ_BYTES = 1 << 18
UPLOADS = 2  # files that a host gives at once: with more, all peers would wait for the end of all
SILENCE_SECONDS = 10  # of a peer, until it is left


class Busy(Exception):
    """The peer gives to others already: ask another one, or again."""


class Limit:
    """A rate in bytes per second that threads share; 0 is none."""

    def __init__(self, bytes_per_second: int, clock=time.monotonic, sleep=time.sleep):
        self._rate, self._clock, self._sleep = bytes_per_second, clock, sleep
        self._lock, self._free_at = threading.Lock(), clock()

    def wait_for(self, size: int) -> None:
        """Returns when size more bytes may go."""
        if not self._rate:
            return
        with self._lock:
            start = max(self._clock(), self._free_at)
            self._free_at = start + size / self._rate
        self._sleep(max(0.0, start - self._clock()))


def contexts(identity: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server's, client's) from a PEM with the run's key and certificate; it touches the disk in the folder only."""
    descriptor, name = tempfile.mkstemp(dir=str(folder))  # of this user alone
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(identity)
        return _context(ssl.PROTOCOL_TLS_SERVER, name, identity), _context(ssl.PROTOCOL_TLS_CLIENT, name, identity)
    finally:
        os.unlink(name)


def _context(kind, name: str, identity: str) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # the certificate is the run's and not a host's
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(name)
    context.load_verify_locations(cadata=identity)
    return context


class Server(socketserver.ThreadingTCPServer):
    """Gives the files that find(etag) knows: a path, or None."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: str, port: int, context: ssl.SSLContext, find, limit: Limit):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.context, self.find, self.limit = context, find, limit
        self.slots = threading.Semaphore(UPLOADS)
        self.allowed: set[str] = set()
        self._count_lock, self.bytes_sent = threading.Lock(), 0
        super().__init__((address, port), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def allow(self, addresses: list[str]) -> None:
        """From now on only these are answered."""
        self.allowed = {str(ipaddress.ip_address(address)) for address in addresses}

    def verify_request(self, request, client_address) -> bool:
        return str(ipaddress.ip_address(client_address[0])) in self.allowed

    def count(self, size: int) -> None:
        with self._count_lock:
            self.bytes_sent += size

    def handle_error(self, request, client_address) -> None:
        """A peer that left, or a stranger: neither is of interest."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def setup(self) -> None:
        # In this connection's own thread: who is silent in the handshake keeps nobody else waiting.
        self.request.settimeout(SILENCE_SECONDS)
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self) -> None:
        path = self.server.find(self.path.strip("/"))
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].split("-")[0])
        if path is None:
            self.send_error(404)
        elif not self.server.slots.acquire(blocking=False):
            self.send_error(503)
        else:
            try:
                self._give(path, start)
            finally:
                self.server.slots.release()

    def _give(self, path: Path, start: int) -> None:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size - start
            self.send_response(206)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            stream.seek(start)
            for data in iter(lambda: stream.read(READ_BYTES), b""):
                self.server.limit.wait_for(len(data))
                self.wfile.write(data)
                self.server.count(len(data))

    def log_message(self, *_args) -> None:
        """There is nobody to read it."""


def read(
    peer: tuple[str, int], etag: str, start: int, *, source: str, context: ssl.SSLContext, limit: Limit, write
) -> None:
    """write(data) gets the peer's bytes of a file from start to its end. Raises Busy, or OSError if it breaks off.

    source: this host's address, from which the peer expects it; a host may have several.
    """
    link = http.client.HTTPSConnection(
        peer[0], peer[1], context=context, timeout=SILENCE_SECONDS, source_address=(source, 0)
    )
    try:
        link.request("GET", f"/{etag}", headers={"Range": f"bytes={start}-"})
        answer = link.getresponse()
        if answer.status == 503:
            raise Busy
        if answer.status != 206:
            raise ConnectionError(f"HTTP {answer.status}")
        while data := answer.read(READ_BYTES):
            limit.wait_for(len(data))
            write(data)
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        link.close()
