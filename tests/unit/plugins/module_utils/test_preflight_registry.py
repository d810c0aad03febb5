from __future__ import annotations

import base64
import json

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import oci_registry
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_registry import download_bytes, refusal


class Engine:
    def __init__(self, status, text):
        self.answer, self.asked = (status, text), []

    def ask(self, path, headers=None):
        self.asked.append((path, headers))
        return self.answer


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return lambda **content: (tmp_path / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (200, "{}", ""),
        (404, '{"message": "manifest unknown"}', "manifest unknown"),
        (500, "", "status 500"),
        (500, "[1]", "[1]"),
    ],
)
def test_refusal(status, text, expected):
    engine = Engine(status, text)
    assert refusal(engine, "lmsysorg/sglang:v1") == expected
    assert engine.asked == [("/distribution/lmsysorg/sglang:v1/json", {})]


def test_the_login_of_the_user_is_shown_to_the_registry(config):
    config(auths={"ghcr.io": {"auth": base64.b64encode(b"me:pass:word").decode()}})
    engine = Engine(200, "{}")
    refusal(engine, "ghcr.io/a/b")
    shown = json.loads(base64.urlsafe_b64decode(engine.asked[0][1]["X-Registry-Auth"]))
    assert shown == {"username": "me", "password": "pass:word", "serveraddress": "ghcr.io"}


def test_where_a_helper_holds_the_login_a_refusal_says_nothing(config):
    config(credsStore="desktop")
    assert refusal(Engine(401, '{"message": "denied"}'), "a/b") is None
    assert refusal(Engine(200, "{}"), "a/b") == ""


def test_a_given_login_comes_before_that_of_the_user(config):
    config(credsStore="desktop", auths={"ghcr.io": {"auth": base64.b64encode(b"me:pass").decode()}})
    engine = Engine(401, '{"message": "denied"}')
    assert refusal(engine, "ghcr.io/a/b", ("you", "word")) == "denied"
    shown = json.loads(base64.urlsafe_b64decode(engine.asked[0][1]["X-Registry-Auth"]))
    assert (shown["username"], shown["password"]) == ("you", "word")


def test_download_bytes_is_what_the_registry_tells_or_nothing(monkeypatch):
    def answer(reference, _info, login, architecture):
        if reference.repository == "a/b":
            return "https://ghcr.io", {"bytes_total": 7 if (login, architecture) == (("me", "pass"), "arm64") else 0}
        raise oci_registry.RegistryError("unreachable", "no")

    monkeypatch.setattr(oci_registry, "first_answer", answer)
    assert download_bytes("ghcr.io/a/b:1", {}, "arm64", ("me", "pass")) == 7
    assert download_bytes("ghcr.io/a/c:1", {}, "arm64") is None
    assert download_bytes("NO NAME", {}, "arm64") is None
