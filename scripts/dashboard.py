#!/usr/bin/env python3
"""Serves the study of a sweep to a browser, by Optuna's dashboard. Read only: nothing there can touch a running sweep.

Usage: dashboard.py results/NAME [--host 127.0.0.1] [--port 8080]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".collections"))

import optuna
import optuna_dashboard

from ansible_collections.preheat.fleet.plugins.plugin_utils import study_store, study_view

SECONDS = 2.0


class Dashboard:
    """Optuna's dashboard of the sweep in a folder, as a WSGI application.

    It can write: notes, values, even delete the study under the slots that run it. It gets a copy, at most every
    ``SECONDS`` anew, and only reading gets through, so that nobody believes to have written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._study: optuna.Study | None = None
        self._journal: int | None = None
        self._app: Any = None
        self._copied = 0.0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refuse(start_response, "403 Forbidden", "This dashboard shows a sweep and changes nothing of it.")
        with self._lock:
            if self._app is None or time.monotonic() - self._copied >= SECONDS:
                try:
                    self._copy()
                except (FileNotFoundError, KeyError):  # a run begins, and makes the study anew
                    if self._app is None:
                        return _refuse(start_response, "503 Service Unavailable", "The sweep has no study yet.")
            app = self._app
        return app(environ, start_response)

    def _copy(self) -> None:
        plan = json.loads((self._folder / "sweep.json").read_text())
        # Every run makes its journal anew, and Optuna would go on with what it knows of the old one.
        journal = None if plan.get("storage") else (self._folder / "study.journal").stat().st_ino
        if self._study is None or journal != self._journal:
            store = study_store.store_of(plan, self._folder)
            self._study = optuna.load_study(study_name=self._folder.name, storage=store.storage())
            self._journal = journal
        self._app = optuna_dashboard.wsgi(study_view.copy_of(self._study, plan))
        self._copied = time.monotonic()


def _refuse(start_response: Any, status: str, reason: str) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """A browser asks every few seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a sweep's folder of results")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; whoever reaches it can read all")
    parser.add_argument("--port", type=int, default=8080)
    args = parser.parse_args()
    if not (args.folder / "sweep.json").is_file():
        parser.error(f"{args.folder} has no sweep.json: give the folder of a sweep that was begun, as results/demo.")
    try:
        server = make_server(args.host, args.port, Dashboard(args.folder.resolve()), Server, Quiet)
    except OSError as error:
        parser.error(f"{args.host}:{args.port}: {error.strerror}. Choose another --port, or --host.")
    url = f"http://{args.host}:{server.server_port}/dashboard/studies/0"
    print(f"Optuna's dashboard of {args.folder}, read only: {url} (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
