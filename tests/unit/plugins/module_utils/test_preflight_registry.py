from __future__ import annotations

import base64
import json

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.preflight_registry import DOCKER_HUB, refusal, registry_of


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
    ("image", "registry"),
    [
        ("sglang", DOCKER_HUB),
        ("lmsysorg/sglang:v1", DOCKER_HUB),
        ("ghcr.io/a/b:1", "ghcr.io"),
        ("localhost/a", "localhost"),
        ("host:5000/a", "host:5000"),
    ],
)
def test_registry_of(image, registry):
    assert registry_of(image) == registry


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
