#!/usr/bin/env python3
"""The Hub for tests: serves folders as model repos to huggingface_hub 1.x and 2.x.

    python3 tests/lab/hub/hub.py --root DIR --state-dir DIR [--host 0.0.0.0] [--port 8090] [--cdn-port 8091]
                                 [--limit-mb-per-second N]

Every folder DIR/ORG/NAME is a repo (see hub_repos.py). LFS files are served from another origin, as on the real
Hub: the same host name that the client used, the CDN's port. Standard library only.

A test steers it by JSON under /__lab__/ (at either port):
    GET  health, repos          is it up; what is served: [{repo_id, refs: {name: commit}, bytes}]
    GET  stats                  requests and bytes: in all, per side (api, cdn), repo, client address, file; the log
    POST reset                  counters, faults and access rules to nothing
    POST faults                 one fault or a list of them: hub_control.Fault; [] clears all
    POST limit                  {mb_per_second: N or null}, for all connections together
    POST access                 {repo, kind: gated|private, tokens: [..], other_tokens: [..]}
In a test process: `with Hub(root, state_dir) as hub: ... hub.endpoint ... hub.control.stats()`.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import re
import secrets
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hub_control import Control, Fault
from hub_repos import File, Repos, Tree

CHUNK_BYTES = 256 * 1024
REPO = r"(?P<repo>[^/]+/[^/]+)"
API = re.compile(rf"/api/models/{REPO}(?:/(?P<what>revision|tree)/(?P<revision>[^/]+))?")
RESOLVE = re.compile(rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
CDN = re.compile(rf"/cdn/{REPO}/(?P<revision>[^/]+)/(?P<path>.+)")


class Refused(Exception):
    def __init__(self, status: int, code: str | None, message: str, headers: dict | None = None):
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args) -> None:  # the log is part of /__lab__/stats
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self._fault: Fault | None = None
        self._repo = self._path = ""
        target = urlsplit(self.path)
        try:
            if target.path.startswith("/__lab__/"):
                self._lab(target.path.removeprefix("/__lab__/"))
            else:
                self._hub(target.path, parse_qs(target.query))
        except Refused as refusal:
            self._json({"error": str(refusal)}, refusal.status, refusal.headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # the Hub

    def _hub(self, path: str, query: dict) -> None:
        side = self.server.side
        found = (CDN if side == "cdn" else RESOLVE).fullmatch(path) or (side == "api" and API.fullmatch(path)) or None
        fields = {key: unquote(value) for key, value in found.groupdict().items() if value} if found else {}
        self._repo, self._path = fields.get("repo", ""), fields.get("path", "")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.server.control.count_request(
            side,
            self.client_address[0],
            method=self.command,
            target=self.path,
            repo=self._repo,
            path=self._path,
            authorized=token is not None,
        )
        self._fault = self.server.control.take_fault(self.command, path)
        if self._fault and self._fault.kind == "status":
            wait = {"Retry-After": str(self._fault.retry_after)} if self._fault.retry_after is not None else {}
            raise Refused(self._fault.status, self._fault.error_code, f"fault of this test: {self._fault.status}", wait)
        if not found or self.command == "POST":
            raise Refused(404, None, f"nothing is served at {path}")
        if side == "cdn":
            if query.get("signature") != [self.server.sign(path)]:
                raise Refused(403, None, "the URL is not signed")
            tree, file = self._lookup(fields)
            # For clients that follow a redirect within one host, as newer releases of huggingface_hub do for HEAD.
            self._file(file, {"X-Repo-Commit": tree.commit, "ETag": f'"{file.etag}"'})
            return
        refusal = self.server.control.refusal(self._repo, token, content="path" in fields)
        if refusal:
            raise Refused(*refusal)
        if "path" in fields:
            self._resolve(*self._lookup(fields))
            return
        tree = self._tree(fields.get("revision", "main"))
        if fields.get("what") == "tree":
            self._listing(tree, path, query)
            return
        siblings = [{"rfilename": name} for name in tree.files]
        self._json(
            {"_id": tree.commit[:24], "id": self._repo, "modelId": self._repo, "sha": tree.commit, "siblings": siblings}
        )

    def _tree(self, revision: str) -> Tree:
        if not self.server.repos.exists(self._repo):
            # The real Hub does not tell strangers which repos exist.
            raise Refused(404 if self.headers.get("Authorization") else 401, "RepoNotFound", "Repository not found")
        tree = self.server.repos.tree(self._repo, revision)
        if not tree:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return tree

    def _lookup(self, fields: dict) -> tuple[Tree, File]:
        tree = self._tree(fields["revision"])
        file = tree.files.get(fields["path"])
        if not file or not file.unchanged():
            raise Refused(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": tree.commit})
        return tree, file

    def _listing(self, tree: Tree, path: str, query: dict) -> None:
        entries = tree.entries()
        if query.get("recursive") != ["true"]:
            entries = [entry for entry in entries if "/" not in entry["path"]]
        start, size = int(query.get("cursor", ["0"])[0]), self.server.page_size
        following = {}
        if start + size < len(entries):
            rest = "&".join(f"{key}={value[0]}" for key, value in query.items() if key != "cursor")
            following["Link"] = f'<http://{self.headers["Host"]}{path}?{rest}&cursor={start + size}>; rel="next"'
        self._json(entries[start : start + size], headers=following)

    def _resolve(self, tree: Tree, file: File) -> None:
        headers = {"X-Repo-Commit": tree.commit, "ETag": f'"{file.etag}"'}
        if not file.sha256:
            self._file(file, headers)
            return
        path = quote(f"/cdn/{self._repo}/{tree.commit}/{file.path}")
        host = self.headers["Host"].rsplit(":", 1)[0]
        location = f"http://{host}:{self.server.cdn_port}{path}?signature={self.server.sign(path)}"
        headers.update({"Location": location, "X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size)})
        self._json({}, 302, headers)

    def _file(self, file: File, headers: dict) -> None:
        start, end, status = 0, file.size, 200
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked and any(asked.groups()):
            first, last = asked.groups()
            start = int(first) if first else max(0, file.size - int(last))
            end = min(int(last) + 1, file.size) if first and last else file.size
            if start >= end:
                raise Refused(416, None, "Range not satisfiable", {"Content-Range": f"bytes */{file.size}"})
            status, headers = 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{file.size}"}
        if self._fault and self._fault.kind == "truncate":
            end = min(end, start + self._fault.after_bytes)
            headers.pop("Content-Range", None)
        self._head(status, {**headers, "Accept-Ranges": "bytes", "Content-Length": str(end - start)})
        if self.command == "GET":
            with file.location.open("rb") as source:
                source.seek(start)
                self._send(iter(lambda: source.read(min(CHUNK_BYTES, end - source.tell())), b""))

    # sending

    def _send(self, chunks) -> None:
        """Send a body, as slowly and as broken as the test asked for."""
        fault, sent = self._fault, 0
        for chunk in chunks:
            cut = fault.after_bytes - sent if fault and fault.kind in ("drop", "stall", "wrong_bytes") else -1
            if not 0 <= cut < len(chunk):
                sent += self._write(chunk)
                continue
            sent += self._write(chunk[:cut])
            rest = chunk[cut:]
            if fault.kind == "drop":
                self._hang_up()
                return
            if fault.kind == "stall":
                time.sleep(fault.seconds)
            else:
                rest = bytes(byte ^ 0xFF for byte in rest)
            sent += self._write(rest)

    def _write(self, data: bytes) -> int:
        if data:
            self.server.control.pace(len(data))
            self.wfile.write(data)
            self._count(len(data))
        return len(data)

    def _count(self, size: int) -> None:
        self.server.control.count_bytes(self.server.side, self.client_address[0], self._repo, self._path, size)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _head(self, status: int, headers: dict) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _json(self, body, status: int = 200, headers: dict | None = None) -> None:
        data = json.dumps(body).encode()
        if self._fault and self._fault.kind == "drop":
            self._hang_up()
            return
        self._head(status, {**(headers or {}), "Content-Type": "application/json", "Content-Length": str(len(data))})
        if self.command != "HEAD":
            self.wfile.write(data)
            if self._repo:
                self._count(len(data))

    # steering

    def _lab(self, action: str) -> None:
        control = self.server.control
        given = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        asked = f"{self.command} {action}"
        answers = {
            "GET health": lambda: {"status": "ok"},
            "GET repos": self.server.describe,
            "GET stats": control.stats,
        }
        if asked in answers:
            self._json(answers[asked]())
            return
        try:
            if asked == "POST reset":
                control.reset()
            elif asked == "POST faults":
                if given == []:
                    control.clear_faults()
                for fault in given if isinstance(given, list) else [given]:
                    control.add_fault(**fault)
            elif asked == "POST limit":
                control.mb_per_second = given["mb_per_second"]
            elif asked == "POST access":
                control.restrict(**given)
            else:
                raise Refused(404, None, f"no action {asked}; see the head of hub.py")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refused(400, None, f"{action}: {error}") from error
        self._json({"ok": True})


class Server(ThreadingHTTPServer):
    """One of the Hub's two origins."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], side: str, hub: Hub):
        super().__init__(address, Handler)
        self.side, self.control, self.repos, self._hub = side, hub.control, hub.repos, hub

    @property
    def cdn_port(self) -> int:
        return self._hub.cdn.server_address[1]

    @property
    def page_size(self) -> int:
        return self._hub.page_size

    def sign(self, path: str) -> str:
        return hmac.new(self._hub.secret, path.encode(), hashlib.sha256).hexdigest()[:16]

    def describe(self) -> list[dict]:
        described = []
        for name in self.repos.names():
            trees = {ref: self.repos.tree(name, ref) for ref in self.repos.refs(name)}
            size = sum(file.size for file in trees["main"].files.values())
            described.append(
                {"repo_id": name, "refs": {ref: tree.commit for ref, tree in trees.items()}, "bytes": size}
            )
        return described


class Hub:
    """Both origins; as a context manager it serves in the background, at free ports unless told otherwise."""

    page_size = 1000  # entries of a tree listing per answer, as on the real Hub

    def __init__(
        self,
        root: Path | str,
        state_dir: Path | str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        cdn_port: int = 0,
        mb_per_second: float | None = None,
    ):
        self.control = Control(mb_per_second)
        self.repos = Repos(Path(root), Path(state_dir))
        self.secret = secrets.token_bytes(16)
        self.api = Server((host, port), "api", self)
        self.cdn = Server((host, cdn_port), "cdn", self)

    @property
    def endpoint(self) -> str:
        host, port = self.api.server_address[:2]
        return f"http://{host}:{port}"

    def __enter__(self) -> Hub:
        for server in (self.api, self.cdn):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        for server in (self.api, self.cdn):
            server.shutdown()
            server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description="The Hub for tests.")
    parser.add_argument("--root", required=True, help="folder with ORG/NAME folders")
    parser.add_argument("--state-dir", required=True, help="folder for the cache of hashes")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--cdn-port", type=int, default=8091)
    parser.add_argument("--limit-mb-per-second", type=float)
    given = parser.parse_args()
    hub = Hub(
        given.root,
        given.state_dir,
        host=given.host,
        port=given.port,
        cdn_port=given.cdn_port,
        mb_per_second=given.limit_mb_per_second,
    )
    hub.api.describe()  # hashes large files now, not while the first client waits
    with hub:
        print(f"serving {given.root} at {given.host}:{given.port}, LFS at port {given.cdn_port}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
