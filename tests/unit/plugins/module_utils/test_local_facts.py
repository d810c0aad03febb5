"""The local facts: written as one, read by Ansible's own code, launches kept few."""

from __future__ import annotations

import multiprocessing
import os
from types import SimpleNamespace

import pytest
from ansible.module_utils.facts.system.local import LocalFactCollector

from ansible_collections.preheat.fleet.plugins.module_utils import local_facts


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "root" / "preheat.fact")


def as_ansible_reads(folder) -> dict:
    warnings: list[str] = []
    module = SimpleNamespace(params={"fact_path": str(folder)}, warn=warnings.append)
    found = LocalFactCollector().collect(module)["local"]
    assert warnings == []
    return found.get("preheat")


def test_ansible_reads_what_is_noted_through_the_link(path, tmp_path):
    folder = tmp_path / "facts.d"
    local_facts.note(path, lambda facts: {**facts, "warm": {"models": []}})
    assert local_facts.link(path, str(folder))
    assert as_ansible_reads(folder) == {"schema_version": 1, "warm": {"models": []}}
    assert not local_facts.link(path, str(folder))
    local_facts.note(path, lambda facts: {**facts, "cache": {"size_bytes": 1}})  # without touching the link
    assert as_ansible_reads(folder) == {"schema_version": 1, "warm": {"models": []}, "cache": {"size_bytes": 1}}
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert sorted(os.listdir(folder)) == ["preheat.fact"]
    assert sorted(os.listdir(os.path.dirname(path))) == ["preheat.fact", "preheat.fact.lock"]


def test_the_link_replaces_what_was_there(path, tmp_path):
    folder = tmp_path / "facts.d"
    folder.mkdir()
    (folder / "preheat.fact").write_text("{}")
    assert local_facts.link(path, str(folder), check_mode=True)
    assert not (folder / "preheat.fact").is_symlink()
    assert local_facts.link(path, str(folder))
    assert os.readlink(folder / "preheat.fact") == path


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 99}'])
def test_a_file_that_is_not_understood_is_begun_anew(path, text):
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as stream:
        stream.write(text)
    local_facts.note(path, lambda facts: {**facts, "a": 1})
    assert local_facts.read(path) == {"schema_version": 1, "a": 1}


def _count(path, times):
    for _ in range(times):
        local_facts.note(path, lambda facts: {**facts, "n": facts.get("n", 0) + 1})


def test_writers_do_not_lose_each_other_s_facts(path):
    workers = [multiprocessing.Process(target=_count, args=(path, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert local_facts.read(path)["n"] == 100


def report(name="s", *, identity=None, ready=False, error=None, phases=(), cache=None):
    return {
        "container": {"name": name, "id": identity, "image": "i:1", "image_digest": "sha256:1"},
        "model": {"repo_id": "o/m", "commit": "c" * 40}, "ready": ready, "cache": cache or {},
        "phases": [{"name": phase, "start": 0.0, "seconds": seconds} for phase, seconds in phases],
        **({"error": {"class": error}} if error else {}),
    }  # fmt: skip


def test_a_launch_in_slices_is_one(path):
    first = report(identity="1", phases=[("image_pull", 3.0), ("engine_start", 1.0)], cache={"weights_rung": "disk"})
    last = report(
        identity="1", ready=True, phases=[("engine_start", 2.0), ("weights_load", 1.5), ("weights_load", 0.5)]
    )
    facts = local_facts.with_launch({"warm": 1}, first, 100.0)
    (launch,) = local_facts.with_launch(facts, last, 110.0)["launches"]
    assert launch["phases"] == {"image_pull": 3.0, "engine_start": 2.0, "weights_load": 2.0}
    assert (launch["start"], launch["seconds"], launch["ready"]) == (100.0, 7.0, True)
    assert launch["cache"] == {"weights_rung": "disk"}


def test_a_launch_that_failed_is_the_one_that_was_begun():
    facts = local_facts.with_launch({}, report(identity="1"), 100.0)
    facts = local_facts.with_launch(facts, report(error="out_of_memory"), 110.0)
    assert [(launch["start"], launch["error_class"]) for launch in facts["launches"]] == [(100.0, "out_of_memory")]
    facts = local_facts.with_launch(facts, report(error="bad_flag"), 120.0)
    assert [launch["error_class"] for launch in facts["launches"]] == ["bad_flag", "out_of_memory"]


def test_the_last_launches_are_kept_newest_first():
    facts = {}
    for number in range(8):
        facts = local_facts.with_launch(facts, report(identity=str(number), ready=True), float(number))
    assert [launch["start"] for launch in facts["launches"]] == [7.0, 6.0, 5.0, 4.0, 3.0]
