from __future__ import annotations

import os

from ansible_collections.preheat.fleet.plugins.plugin_utils import durable_files


def test_content_is_synced_before_its_name_and_the_name_after_it(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("rename"), replace(old, new)))
    durable_files.write_durably(tmp_path / "a", "text")
    assert calls == [str(tmp_path / f".a.{os.getpid()}.tmp"), "rename", str(tmp_path)]


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    file = tmp_path / "a"
    file.write_text("before")
    durable_files.write_whole(file, "after")
    assert file.read_text() == "after"
    assert os.listdir(tmp_path) == ["a"]
