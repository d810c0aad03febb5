# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How modules reach the agent of their host: a process of its own, and a Unix socket in a folder of the user alone.

The agent outlives the module that starts it, and ends when nobody has asked it anything for a while: the controller is
gone then. Nothing of this listens on a network.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import socketserver
import stat
import tempfile
import threading
import time
import traceback
from pathlib import Path

ANSWER_SECONDS = 60
START_SECONDS = 30


class NoAgent(Exception):
    """No agent answers: it was not started, or has ended."""


def folder() -> Path:
    """Where sockets are; refused if somebody else could have put them there."""
    path = Path(tempfile.gettempdir()) / f"preheat-swarm-{os.geteuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} is not a folder of this user alone (mode 0700); remove it")
    return path


def socket_path(run: str, cache_dir: str) -> Path:
    name = hashlib.sha256(f"{run}\0{cache_dir}".encode()).hexdigest()[:24]
    return folder() / f"{name}.sock"


def ask(path: Path, request: dict) -> dict:
    """The agent's answer; an error there is raised here."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(ANSWER_SECONDS + request.get("wait_seconds", 0))
        try:
            link.connect(str(path))
            link.sendall(json.dumps(request).encode() + b"\n")
            with link.makefile("rb") as answer:
                line = answer.readline()
        except (FileNotFoundError, ConnectionError) as error:
            raise NoAgent(str(error)) from error
    if not line:
        raise NoAgent("the agent ended while it was asked")
    return json.loads(line)


def stop(path: Path) -> bool:
    """End the agent, if there is one, and wait for its end: until then it holds locks. Says whether there was one."""
    try:
        ask(path, {"stop": True})
    except NoAgent:
        path.unlink(missing_ok=True)  # of one that was killed
        return False
    end = time.monotonic() + ANSWER_SECONDS
    while path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return True


class Server(socketserver.ThreadingUnixStreamServer):
    """Answers requests with agent.answer(request) until the agent says that it has ended."""

    daemon_threads = True

    def __init__(self, path: Path, agent):
        self.agent = agent
        super().__init__(str(path), _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        self.wfile.write(json.dumps(self.server.agent.answer(request)).encode() + b"\n")


def start(path: Path, make_agent) -> dict:
    """Fork a process that serves make_agent(); returns what the agent says of itself once it can be asked.

    Forked and not executed: what a module is made of is gone from the disk when the module ends.
    """
    stop(path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _serve(path, make_agent, writer)
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as report:
        said = report.read()
    if not said:
        raise NoAgent("the agent ended before it was ready")
    return json.loads(said)


def _serve(path: Path, make_agent, writer: int) -> None:
    """The agent's process, which never returns to the module's code."""
    try:
        _leave_streams(keep=writer)
        agent = make_agent()
        server = Server(path, agent)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    except BaseException as error:  # told to the module, which is all that can still report it
        said = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        os.write(writer, json.dumps(said).encode())
        os._exit(1)
    os.write(writer, json.dumps(agent.introduce()).encode())
    os.close(writer)
    try:
        agent.run()
        time.sleep(0.1)  # the answer to the request that ended it is still on its way
    finally:
        server.server_close()
        agent.close()
        path.unlink(missing_ok=True)
        os._exit(0)


def _leave_streams(keep: int) -> None:
    """Whoever waits for the module's output must not wait for the agent."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    for descriptor in range(3, 256):
        if descriptor != keep:
            try:
                os.close(descriptor)
            except OSError:
                continue
    os.chdir("/")
