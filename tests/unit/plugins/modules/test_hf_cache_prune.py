"""hf_cache_prune as Ansible runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_cache import K, commit, snapshot

ROOT = Path(__file__).parents[4]
MODULE = "ansible_collections.preheat.fleet.plugins.modules.hf_cache_prune"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("hub_cache.NOW", time.time())
    snapshot(tmp_path / "hub", "old/a", "a", {"a": 300}, days=30)
    snapshot(tmp_path / "hub", "new/b", "b", {"b": 200}, days=10)
    return tmp_path / "hub"


def run(cache, check=False, diff=False, **given):
    arguments = {
        "cache_dir": str(cache), "docker_host": "", "_ansible_check_mode": check, "_ansible_diff": diff, **given,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")},
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_check_mode_says_what_the_run_then_frees(cache):
    budget = "3MB"  # of 5 million bytes
    foretold = run(cache, check=True, diff=True, budget_bytes=budget)
    assert foretold["changed"]
    assert foretold["budget_bytes"] == 3 << 20
    assert [(unit["repo_id"], unit["commit"], unit["kind"]) for unit in foretold["freed"]] == [
        ("old/a", commit("a"), "revision")
    ]
    assert list(foretold["diff"]["before"]) == [foretold["freed"][0]["path"]]
    assert Path(foretold["freed"][0]["path"]).is_dir()
    done = run(cache, budget_bytes=budget)
    assert (done["freed"], done["freed_bytes"] // K) == (foretold["freed"], 300)
    assert [unit["repo_id"] for unit in done["kept"]] == ["new/b"]
    assert not Path(done["freed"][0]["path"]).exists()
    again = run(cache, budget_bytes=budget)
    assert (again["changed"], again["freed"], again["short_bytes"]) == (False, [], 0)
    assert "diff" not in again


def test_what_keeps_a_model_is_said(cache):
    found = run(cache, budget_bytes=1, keep=[{"repo_id": "old/a"}], keep_used_within_seconds=11 * 86400)
    assert found["changed"] is False
    assert {unit["repo_id"]: unit["why"] for unit in found["kept"]} == {
        "old/a": "this play needs it", "new/b": "used lately",
    }  # fmt: skip
    assert found["short_bytes"] > 400 * K


def test_an_engine_that_does_not_answer_stops_all(cache, tmp_path):
    found = run(cache, budget_bytes=1, docker_host=f"unix://{tmp_path}/none.sock")
    assert found["failed"]
    assert "nothing was removed" in found["msg"]
    assert (cache / "models--old--a").is_dir()


def test_compiled_kernels(cache, tmp_path):
    for name, days in (("old", 40), ("new", 1)):
        folder = tmp_path / "jit" / name
        folder.mkdir(parents=True)
        os.utime(folder, (0, time.time() - days * 86400))
    assert run(cache, jit_cache_dir=str(tmp_path / "jit"))["changed"] is False
    found = run(cache, jit_cache_dir=str(tmp_path / "jit"), jit_unused_seconds=30 * 86400)
    assert [unit["kind"] for unit in found["freed"]] == ["jit"]
    assert sorted(os.listdir(tmp_path / "jit")) == ["new"]
