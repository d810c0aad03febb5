# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry for the engine of this host alone, over a folder of files named by their sha256.

An engine takes images from 127.0.0.0/8 over plain HTTP without being told to, checks every digest itself, unpacks only
the layers that it lacks, and records the registry's digest, which 'docker load' loses.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ansible_collections.preheat.fleet.plugins.module_utils.oci_registry import INDEXES, MANIFESTS

_FILE = re.compile(r"/v2/.+/(manifests|blobs)/sha256:([0-9a-f]{64})")


@contextmanager
def serve(folder):
    """The address (C(127.0.0.1:PORT)) of a registry that has every image of the folder under every name, by digest."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"folder": folder}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    folder = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer(with_body=True)

    def do_HEAD(self):
        self._answer(with_body=False)

    def _answer(self, with_body):
        if self.path == "/v2/":
            self._begin(HTTPStatus.OK, 0, {})
            return
        asked = _FILE.fullmatch(self.path)
        path = os.path.join(self.folder, asked.group(2)) if asked else ""
        if not os.path.isfile(path):
            self._begin(HTTPStatus.NOT_FOUND, 0, {})
            return
        with open(path, "rb") as stream:
            kind = media_type(stream) if asked.group(1) == "manifests" else "application/octet-stream"
            size = os.fstat(stream.fileno()).st_size
            digest = f"sha256:{asked.group(2)}"
            self._begin(HTTPStatus.OK, size, {"Content-Type": kind, "Docker-Content-Digest": digest})
            if with_body:
                shutil.copyfileobj(stream, self.wfile, 1 << 20)

    def _begin(self, status, size, headers):
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", str(size))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format, *_args):
        """Nothing: a module's output is its result."""


def media_type(stream):
    """Of a manifest or index; the OCI format may leave it out of the document."""
    document = json.load(stream)
    stream.seek(0)
    return document.get("mediaType") or (INDEXES if "manifests" in document else MANIFESTS)[0]
