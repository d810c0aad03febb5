"""Each image is asked once, whatever host has it, and its answer is kept."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import image_flags

PLAN = {"image": "engine:1"}
FLAGS = [{"names": ["model-path"], "least": 1, "most": 1, "choices": None}]
OTHERS = [{"names": ["model-path", "model"], "least": 1, "most": 1, "choices": None}]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "preheat" / "flags"


def facts(image_id=None, venv=True):
    return {"images": {"engine:1": {"present": image_id is not None, "id": image_id}}, "venv_exists": venv}


def to_ask(plan=PLAN, **found):
    hostvars = {host: {"gpu_host_preflight_result": {"facts": said}} if said else {} for host, said in found.items()}
    return image_flags.hosts_to_ask(plan, list(found), hostvars)


def test_one_host_of_each_image_is_asked():
    assert to_ask(a=facts("sha256:1"), b=facts("sha256:1"), c=facts("sha256:2"), d=facts(), e=None) == "a,c"
    # Only who has preheat's Python can be asked.
    assert to_ask(a=facts("sha256:1", venv=False), b=facts("sha256:1")) == "b"


def test_nobody_is_asked_for_what_is_known_or_not_wanted():
    assert to_ask(a=facts("sha256:1", venv=False), b=facts(), c=None) == image_flags.NO_HOST
    assert to_ask({}, a=facts("sha256:1")) == image_flags.NO_HOST
    assert to_ask({**PLAN, "check_flags": False}, a=facts("sha256:1")) == image_flags.NO_HOST
    image_flags.keep("sha256:1", FLAGS)
    assert to_ask(a=facts("sha256:1"), b=facts("sha256:2")) == "b"


def test_an_answer_holds_for_all_that_have_the_image_and_is_kept(cache):
    found = {"a": facts("sha256:1"), "b": facts("sha256:1"), "c": facts("sha256:2")}
    answer = {"flags": FLAGS, "reason": "", "image_id": "sha256:1"}
    other = {"flags": OTHERS, "reason": "", "image_id": "sha256:2"}
    said = image_flags.answers(PLAN, found, {"a": answer, "b": None, "c": other})
    assert said == {"a": answer, "b": answer, "c": other}
    assert sorted(path.name for path in cache.iterdir()) == ["1.json", "2.json"]
    later = image_flags.answers(PLAN, found, {})
    assert {host: known["flags"] for host, known in later.items()} == {"a": FLAGS, "b": FLAGS, "c": OTHERS}


def test_who_lacks_the_image_will_get_what_others_have_by_its_name():
    image_flags.keep("sha256:1", FLAGS)
    said = image_flags.answers(PLAN, {"a": facts("sha256:1"), "b": facts(), "c": {}}, {})
    assert [known["flags"] for known in said.values()] == [FLAGS] * 3


def test_nobody_knows():
    found = {"a": facts("sha256:1"), "b": facts()}
    assert image_flags.answers(PLAN, found, {"a": None}) == {"a": None, "b": None}


@pytest.mark.parametrize("answer", [{"flags": [], "reason": "no", "image_id": "sha256:1"}, {"msg": "no Python"}])
def test_who_could_not_say_is_not_asked_again_in_this_run_but_nothing_is_kept(cache, answer):
    found = {"a": facts("sha256:1"), "b": facts("sha256:1")}
    assert image_flags.answers(PLAN, found, {"a": answer}) == {"a": answer, "b": answer}
    assert not cache.exists()


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"image_id": "sha256:2", "flags": [1]}'])
def test_what_is_kept_and_cannot_be_read_is_not_known(cache, kept):
    cache.mkdir(parents=True)
    (cache / "1.json").write_text(kept)
    assert image_flags.load("sha256:1") == []


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    image_flags.keep("sha256:1", FLAGS)
    assert image_flags.load("sha256:1") == []
