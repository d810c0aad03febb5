"""The module as Ansible runs it, where there is no engine; servers are in test_sglang_inspection.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("args", "error_class", "says"),
    [
        ({"docker_host": "unix:///nowhere.sock"}, "engine_unreachable", "docker_host 'unix:///nowhere.sock'"),
        ({"docker_host": "unix:///nowhere.sock", "name": "chat"}, "engine_unreachable", "Start the Docker engine"),
        ({"timeout_seconds": 0}, "invalid", "timeout_seconds is 0"),
        ({"name": "chat", "match_labels": {"a": "b"}}, None, "mutually exclusive"),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_what_fails_says_why(tmp_path, args, error_class, says, check_mode):
    file = tmp_path / "args.json"
    file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check_mode}}))
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.preheat.fleet.plugins.modules.sglang_server_info", file],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")},
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(done.stdout)
    assert result["failed"]
    assert says in result["msg"]
    assert result.get("error", {}).get("class") == error_class
