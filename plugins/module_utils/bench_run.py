# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One benchmark run inside a server's container, through the Docker Engine's exec API."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
import time
import uuid

from ansible_collections.preheat.fleet.plugins.module_utils import (
    bench_command,
    bench_result,
    docker_client,
    docker_failure,
)

TAIL_CHARACTERS = 4000
# The exit code of a process that was killed, such as by the end of its container.
KILLED = 137
DEATH_SECONDS = 5
# What argparse exits with.
USAGE_ERROR = 2


class BenchmarkError(Exception):
    """A benchmark that gave no result: C(error) is C({class, message, remedy, exit_code, log_tail})."""

    def __init__(self, error_class, message, remedy, exit_code=None, output=""):
        super().__init__(message)
        self.error = {
            "class": error_class,
            "message": message,
            "remedy": remedy,
            "exit_code": exit_code,
            "log_tail": output[-TAIL_CHARACTERS:],
        }


def output_file():
    return f"/tmp/preheat-bench-{uuid.uuid4().hex}.jsonl"


class ServerContainer:
    """The running container of a server, and commands in it."""

    def __init__(self, client, name):
        self._client, self._name = client, name
        state = self.state()
        if state is None:
            raise BenchmarkError(
                "container_missing", f"there is no container {name!r}", "Start the server with sglang_server first."
            )
        if not state["Running"]:
            raise BenchmarkError(
                "crashed",
                f"container {name!r} is {state['Status']}, not running",
                "Read its log (docker logs) and start it again with sglang_server.",
                exit_code=state["ExitCode"],
            )

    def state(self):
        """What the engine says of the container; None if there is none."""
        found = self._client.container(self._name)
        return found["State"] if found else None

    def execute(self, argv):
        """C((exit code, standard output, standard error)) of a command; a container that ends kills its commands."""
        api = self._client.api
        try:
            command = api.exec_create(self._name, argv, environment=bench_command.ENVIRONMENT)["Id"]
            output, problems = api.exec_start(command, demux=True)
            exit_code = api.exec_inspect(command)["ExitCode"]
        except docker_client.docker_errors.APIError as error:
            # Only a container that is not there any more is the server's fault and not the engine's.
            if error.status_code not in (404, 409):
                raise
            return KILLED, "", docker_failure.explanation(error)
        texts = [(stream or b"").decode("utf-8", "replace") for stream in (output, problems)]
        return (KILLED if exit_code is None else exit_code, *texts)

    def put(self, path):
        """Copy a file of the host into the container, unless it is there; returns its path inside."""
        size, changed = os.path.getsize(path), os.stat(path).st_mtime_ns
        name = "preheat-dataset-" + hashlib.sha256(f"{path} {size} {changed}".encode()).hexdigest()[:16]
        inside = f"/tmp/{name}"
        # By its size, as a copy that was interrupted leaves a part.
        if self.execute(["stat", "-c", "%s", inside])[1].strip() != str(size):
            with tempfile.TemporaryFile() as archive:
                with tarfile.open(fileobj=archive, mode="w") as tar, open(path, "rb") as content:
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.mode = size, 0o644
                    tar.addfile(entry, content)
                archive.seek(0)
                self._client.api.put_archive(self._name, "/tmp", archive)
        return inside

    def is_running(self, patience_seconds=0):
        """Whether it runs, and goes on to for a while: its processes die a moment before the engine says so."""
        deadline = time.monotonic() + patience_seconds
        while True:
            state = self.state()
            running = bool(state and state["Running"])
            if not running or time.monotonic() >= deadline:
                return running
            time.sleep(0.2)


def run(container, params, path):
    """Flush, measure and read the result back; returns the fields of the module's result."""
    start, begin = time.time(), time.monotonic()
    flushed = _flush(container, params["container_port"]) if params["flush_cache"] else {"succeeded": False}
    tokenizer_path = params["tokenizer_path"] or _tokenizer_path(container, params["container_port"])
    dataset_path = container.put(params["dataset_file"]) if params["dataset_file"] else None
    command = bench_command.benchmark_command(params, tokenizer_path, path, dataset_path)
    try:
        _measure(container, params, command)
        text = container.execute(["cat", path])[1]
    finally:
        # The container may have died during the run; there is nothing to clean up then.
        if container.is_running():
            container.execute(["rm", "-f", path])
    exact = params["output_tokens"] if _lengths_are_exact(params) else None
    try:
        summary = bench_result.summarize(bench_result.parse(text), params["num_prompts"], exact)
    except bench_result.ResultError as error:
        raise BenchmarkError(
            "unreadable_result",
            f"bench_serving ended without an error, but {error}",
            "Run the returned command in the container to see what this version of SGLang writes.",
            output=text,
        ) from error
    timing = {"command": command, "start": start, "seconds": round(time.monotonic() - begin, 3)}
    return dict(summary, flush_cache={"requested": params["flush_cache"], **flushed}, seed=params["seed"], **timing)


def _lengths_are_exact(params):
    return params["range_ratio"] == 1 and "--disable-ignore-eos" not in (params["extra_args"] or [])


def _tokenizer_path(container, port):
    exit_code, output, problems = container.execute(bench_command.tokenizer_command(port))
    if exit_code:
        _check_alive(container, exit_code, problems)
        raise BenchmarkError(
            "benchmark_failed",
            f"the server did not lead to its tokenizer: {_last_line(problems)}",
            "Give tokenizer_path, the path of the model's snapshot inside the container.",
            exit_code=exit_code,
            output=output + problems,
        )
    return _last_line(output)


def _flush(container, port):
    exit_code, output, problems = container.execute(bench_command.flush_command(port))
    try:
        flushed = json.loads(output)
    except ValueError:
        flushed = {"succeeded": False, "message": _last_line(problems)}
    if exit_code or not flushed["succeeded"]:
        _check_alive(container, exit_code, problems)
        raise BenchmarkError(
            "flush_cache_failed",
            f"the server did not flush its radix cache: {flushed['message']}",
            "Give the server's port as container_port, let its other requests end, or set flush_cache to false.",
            exit_code=exit_code,
            output=output + problems,
        )
    return flushed


def _measure(container, params, command):
    begin = time.monotonic()
    exit_code, output, problems = container.execute(bench_command.with_imports_done(command))
    if exit_code == 0:
        return
    text = output + problems
    if exit_code in bench_command.TIMEOUT_EXIT_CODES and time.monotonic() - begin >= params["timeout_seconds"]:
        raise BenchmarkError(
            "timeout",
            f"the benchmark did not end within timeout_seconds={params['timeout_seconds']}",
            "Give fewer num_prompts, a higher concurrency or a longer timeout_seconds.",
            exit_code=exit_code,
            output=text,
        )
    _check_alive(container, exit_code, text)
    if exit_code == USAGE_ERROR and " error: " in _last_line(problems):
        raise BenchmarkError(
            "bad_flag",
            f"bench_serving of this image refuses its arguments: {_last_line(problems).partition(' error: ')[2]}",
            "Choose a dataset and extra_args that this version of SGLang has, or another image.",
            exit_code=exit_code,
            output=text,
        )
    raise BenchmarkError(
        "benchmark_failed",
        f"bench_serving exited with {exit_code}: {_last_line(problems or output)}",
        "Check tokenizer_path, backend and extra_args against the server's model and version.",
        exit_code=exit_code,
        output=text,
    )


def _check_alive(container, exit_code, text):
    """A command that failed because the server's container ended is the server's failure."""
    if container.is_running(DEATH_SECONDS if exit_code == KILLED else 0):
        return
    raise BenchmarkError(
        "crashed",
        "the server's container ended during the benchmark",
        "Read the server's log for the cause.",
        exit_code=(container.state() or {}).get("ExitCode"),
        output=text,
    )


def _last_line(text):
    return text.strip().rsplit("\n", 1)[-1].rstrip(".") or "no output"
