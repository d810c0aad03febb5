"""What passes and what stays, and how long to wait."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from ansible_collections.preheat.fleet.plugins.module_utils import hf_hub
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError, WrongBytes


class Answer:
    def __init__(self, status_code, headers=None):
        self.status_code, self.headers = status_code, headers or {}


class HttpError(Exception):
    def __init__(self, status_code, headers=None):
        super().__init__()
        self.response = Answer(status_code, headers)


class TransportError(Exception):
    """As httpx and httpx2 both name the root of what can go wrong on the way."""


class ReadError(TransportError):
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HttpError(429), True),
        (HttpError(408), True),
        (HttpError(500), True),
        (HttpError(503), True),
        (HttpError(401), False),
        (HttpError(404), False),
        (HttpError(416), False),
        (ReadError(), True),
        (ConnectionResetError(), True),
        (OSError("Consistency check failed: file should be of size 2 but has size 1"), True),
        (OSError(28, "No space left on device"), False),
        (PermissionError(13, "Permission denied"), False),
        (OfflineModeIsEnabled("HF_HUB_OFFLINE"), False),
        (WrongBytes("x"), True),
        (ValueError("a bug"), False),
    ],
    ids=repr,
)
def test_what_passes(error, expected):
    calls = []

    def call():
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        HubClient(retries=2, sleep=lambda seconds: None)._retried(call)
    assert len(calls) == (3 if expected else 1)


@pytest.mark.parametrize(
    ("headers", "attempt", "least", "most"),
    [
        ({}, 0, 0.5, 1),
        ({}, 3, 4, 8),
        ({}, 20, 15, 30),
        ({"Retry-After": "120"}, 0, 120, 121),
        ({"Retry-After": " 0 "}, 5, 0, 1),
        ({"Retry-After": "999999"}, 0, 600, 601),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0.5, 1),
        ({"RateLimit": '"resolvers";r=0;t=55'}, 0, 55, 56),
        ({"RateLimit": '"resolvers";r=12;t=55'}, 0, 0.5, 1),
    ],
)
def test_delay(headers, attempt, least, most):
    delays = [hf_hub._delay(HttpError(429, headers), attempt) for _ in range(50)]
    assert all(least <= delay <= most for delay in delays)
    assert len(set(delays)) > 1  # never all hosts at the same moment


def test_a_bug_keeps_its_own_traceback():
    with pytest.raises(ZeroDivisionError), HubClient("http://h")._plain_errors("a/b", "main"):
        raise ZeroDivisionError


@pytest.mark.parametrize("path", ["../../../etc/cron.d/x", "/etc/passwd", "a/../../b", "a\\..\\b"])
def test_a_listing_cannot_lead_out_of_the_snapshot(path):
    with pytest.raises(HubError, match="lists the file path"):
        hf_hub._hub_file({"type": "file", "path": path, "size": 1, "oid": "0" * 40})


@pytest.mark.parametrize("endpoint", ["hub.example", "ftp://hub", "https://"])
def test_an_endpoint_is_a_url(endpoint):
    with pytest.raises(HubError, match="no URL"):
        HubClient(endpoint)


def test_offline_by_environment(monkeypatch):
    error = OfflineModeIsEnabled("x")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE") as caught, HubClient("http://h")._plain_errors("a/b", "main"):
        raise error
    assert caught.value.reason == "hub_unreachable"
