"""Many runs of a module for the price of one import: each must be as if it had run alone."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import bench_warm

# The import leaves a mark, so that imports can be counted; so does state that one run could leave to the next.
MODULE = """
import os, random, sys, time
import heavy
STATE = []
if __name__ == "__main__":
    STATE.append(1)
    heavy.STATE.append(1)
    print(os.environ.get("MARK"), sys.argv[1:], len(STATE), len(heavy.STATE), __name__)
    print(sys.argv[0].rsplit("/")[-1], file=sys.stderr)
    if "sleep" in sys.argv:
        open("started", "w").write(str(os.getpid()))
        time.sleep(60)
    if "die" in sys.argv:
        os.kill(os.getpid(), 9)
    if "raise" in sys.argv:
        raise ValueError("no such thing")
    if "exit" in sys.argv:
        sys.exit(int(sys.argv[-1]) if sys.argv[-1].isdigit() else sys.argv[-1])
"""


@pytest.fixture
def start(tmp_path):
    """Starts C(python3 -c SOURCE bench ...) as in a container; every waiting process ends with the test."""
    (tmp_path / "bench.py").write_text(MODULE)
    (tmp_path / "heavy.py").write_text("open('imports', 'a').write('x')\nSTATE = []\n")
    source = inspect.getsource(bench_warm).replace("IDLE_SECONDS = 120", "IDLE_SECONDS = 3")
    source = f"exec(compile({source!r}, {bench_warm.__file__!r}, 'exec'))"  # by its name, for make coverage
    environment = {"TMPDIR": str(tmp_path), "MARK": "m", "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}

    def start(*arguments, module="bench", **changes):
        return subprocess.Popen(
            [sys.executable, "-c", source, module, *arguments],
            cwd=tmp_path, env=environment | changes, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    yield start
    deadline = time.monotonic() + 30
    while list(tmp_path.glob("preheat-bench-*[!k]")) and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.fixture
def run(start):
    def run(*arguments, **changes):
        process = start(*arguments, **changes)
        output, problems = process.communicate(timeout=30)
        return process.returncode, output, problems

    return run


def test_runs_share_the_import_and_nothing_else(run, tmp_path):
    answers = [run("--seed", "7") for _ in range(3)]
    assert answers == [(0, "m ['--seed', '7'] 1 1 __main__\n", "bench.py\n")] * 3
    assert (tmp_path / "imports").read_text() == "x"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["exit", "2"], 2, ""),
        (["exit", "what is wrong"], 1, "what is wrong\n"),
        (["raise"], 1, "ValueError: no such thing\n"),
        (["die"], 137, ""),
    ],
)
def test_a_run_that_fails_says_so_and_the_next_one_runs(run, tmp_path, arguments, code, says):
    found, _output, problems = run(*arguments)
    assert (found, problems.endswith(says)) == (code, True), problems
    assert run()[0] == 0
    assert (tmp_path / "imports").read_text() == "x"


def test_a_module_that_cannot_be_imported_is_the_runs_failure(run):
    code, _output, problems = run(module="no_such_module")
    assert code == 1
    assert "No module named no_such_module" in problems


def test_a_client_that_is_ended_takes_its_run_with_it(start, run, tmp_path):
    client = start("sleep")
    while not (tmp_path / "started").exists() or not (tmp_path / "started").read_text():
        time.sleep(0.05)
    pid = int((tmp_path / "started").read_text())
    client.send_signal(signal.SIGTERM)
    client.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")
    assert run()[0] == 0


def test_runs_at_the_same_time(start, tmp_path):
    clients = [start(str(number)) for number in range(4)]
    for number, client in enumerate(clients):
        assert client.communicate(timeout=30)[0].startswith(f"m ['{number}']")
    assert (tmp_path / "imports").read_text() == "x"


def test_a_socket_that_nobody_listens_at_is_replaced(run, tmp_path):
    assert run()[0] == 0
    (left,) = [path for path in tmp_path.glob("preheat-bench-*") if path.suffix != ".lock"]
    os.rename(left, tmp_path / "gone")
    left.touch()
    assert run()[0] == 0


def test_where_nothing_can_wait_each_run_is_a_process(run, tmp_path):
    too_long = tmp_path / ("x" * 120)  # for the address of a socket
    too_long.mkdir()
    for _ in range(2):
        code, output, problems = run("exit", "3", TMPDIR=str(too_long))
        assert (code, output) == (3, "m ['exit', '3'] 1 1 __main__\n")
        assert "a process for each run" in problems
    assert (tmp_path / "imports").read_text() == "xx"
