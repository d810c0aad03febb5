"""A worker ends with its controller."""

import os
import signal
import subprocess
import sys
import time

import pytest

WORKER = """
import os, sys, time
from ansible_collections.preheat.fleet.plugins.plugin_utils.process import die_with_parent
if os.fork() == 0:
    os.setsid()  # as Ansible does with its workers
    die_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(60)
os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell a process that its parent died")
def test_die_with_parent():
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    controller = subprocess.Popen([sys.executable, "-c", WORKER], env=env, stdout=subprocess.PIPE, text=True)
    worker = int(controller.stdout.readline())
    controller.kill()
    controller.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its controller")
