# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(python3 -m MODULE ARGUMENTS), with the module's imports done once for many runs.

The source of this file is run inside a container (C(python3 -c SOURCE MODULE ARGUMENTS)), so it imports nothing of
preheat. Most of the time that a benchmark takes to begin goes into importing torch and transformers. So the first
client leaves a process behind that has imported MODULE and nothing more, and every run is a fork of it, in which
MODULE is executed as C(__main__): the same code from the same state as in a process of its own, whatever the version.
The run writes to the output of its client, and ends when the client does. Where no process can be left behind, the
client becomes the plain command.
"""

# pylint: disable=ansible-bad-function  # it is a program of its own there, and no module

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback

# The points of a trial follow each other within seconds; a server that is measured once gets its memory back.
IDLE_SECONDS = 120
REQUEST_BYTES = 128 * 1024
# What a shell says of a command that was killed.
KILLED = 137


def client(module, arguments, folder=None):
    """Runs C(python3 -m module arguments) in a fork of the process that waits in C(folder); returns its exit code."""
    name = hashlib.sha256(f"{module} {sys.executable} {os.getuid()}".encode()).hexdigest()[:16]
    path = os.path.join(folder or tempfile.gettempdir(), f"preheat-bench-{name}")
    try:
        with _locked(path):
            connection = _connect(path) or _begin(path, module)
        socket.send_fds(connection, [json.dumps(arguments).encode()], [1, 2])
    except (OSError, AttributeError) as error:  # before Python 3.9 there is no send_fds
        print(f"a process for each run, because none can wait: {error}", file=sys.stderr, flush=True)
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
    try:
        answer = connection.recv(REQUEST_BYTES)
    except ConnectionError:
        answer = b""
    return json.loads(answer) if answer else KILLED


@contextlib.contextmanager
def _locked(path):
    """One client at a time begins a process, and none connects to one that is about to end."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:  # said, because a process forked meanwhile has the file open too
            fcntl.flock(lock, fcntl.LOCK_UN)


def _connect(path):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
    except OSError:  # nobody was there yet, or nobody is any more
        connection.close()
        return None
    return connection


def _begin(path, module):
    """Leave a process that waits behind, and connect to it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.exists(path):
        os.unlink(path)
    listener.bind(path)
    listener.listen()
    if os.fork() == 0:
        try:
            os.setsid()
            # An output that stays open would keep the client's caller waiting.
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            _wait(listener, path, module)
        finally:
            os._exit(0)
    listener.close()
    return _connect(path)


def _wait(listener, path, module):
    try:
        importlib.import_module(module)
    except Exception:  # the run says it, in the client's output
        traceback.print_exc()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the runs
    while True:
        if not select.select([listener], [], [], IDLE_SECONDS)[0]:
            with _locked(path):
                if not select.select([listener], [], [], 0)[0]:
                    os.unlink(path)
                    return
        connection = listener.accept()[0]
        if os.fork() == 0:
            listener.close()
            _run(connection, module)
        connection.close()


def _run(connection, module):
    """One run, in its own process; never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        request, outputs, _flags, _address = socket.recv_fds(connection, REQUEST_BYTES, 2)
        for descriptor, output in zip((1, 2), outputs):
            os.dup2(output, descriptor)
            os.close(output)
        threading.Thread(target=_end_with_client, args=(connection,), daemon=True).start()
        sys.modules.pop(module, None)
        sys.argv = [module, *json.loads(request)]
        code = _exit_code(module)
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(json.dumps(code).encode())
    finally:
        os._exit(code)


def _end_with_client(connection):
    connection.recv(1)  # the client sends nothing more: this returns when it is gone
    os.killpg(0, signal.SIGKILL)


def _exit_code(module):
    """What C(python3 -m module) exits with."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return (ended.code or 0) & 0xFF
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(client(sys.argv[1], sys.argv[2:]))
