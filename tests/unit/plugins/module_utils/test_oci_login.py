from __future__ import annotations

import base64
import json
import os

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.oci_login import stored_login


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return lambda **content: (tmp_path / "config.json").write_text(json.dumps(content))


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A credential helper that says this."""

    def make(said, status=0):
        program = tmp_path / "docker-credential-test"
        program.write_text(f"#!/bin/sh\nread registry\necho '{said}' | sed s,REGISTRY,$registry,\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    return make


def test_no_file_no_login():
    assert stored_login("ghcr.io") == (None, False)


@pytest.mark.parametrize(("registry", "expected"), [("ghcr.io", ("me", "pass:word")), ("other.io", None)])
def test_what_docker_login_left(config, registry, expected):
    config(auths={"ghcr.io": {"auth": base64.b64encode(b"me:pass:word").decode()}})
    assert stored_login(registry) == (expected, False)


@pytest.mark.parametrize("where", [{"credsStore": "test"}, {"credHelpers": {"ghcr.io": "test"}}])
def test_a_helper_is_asked(config, helper, where):
    config(**where)
    helper('{"Username": "me", "Secret": "REGISTRY"}')
    assert stored_login("ghcr.io") == (("me", "ghcr.io"), True)


@pytest.mark.parametrize(
    ("said", "status"),
    [("no such credentials", 1), ("[", 0), ("{}", 0), ('{"Username": "<token>", "Secret": "oauth"}', 0)],
)
def test_a_helper_that_does_not_know(config, helper, said, status):
    config(credsStore="test")
    helper(said, status)
    assert stored_login("ghcr.io") == (None, True)


def test_a_helper_that_is_not_there(config):
    config(credsStore="not-installed")
    assert stored_login("ghcr.io") == (None, True)
