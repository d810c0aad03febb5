"""What passes and what stays, and how long to wait."""

from __future__ import annotations

import errno
import http.client
import ssl
import urllib.error

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from ansible_collections.preheat.fleet.plugins.module_utils import hf_errors, hf_hub
from ansible_collections.preheat.fleet.plugins.module_utils.hf_errors import NoRanges, Stalled, WrongBytes
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError


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
        (urllib.error.HTTPError("http://h", 503, "", {}, None), True),
        (urllib.error.HTTPError("http://h", 404, "", {}, None), False),
        (urllib.error.URLError(ConnectionRefusedError()), True),
        (urllib.error.URLError(ssl.SSLCertVerificationError()), False),
        (ssl.SSLEOFError(), True),
        (http.client.IncompleteRead(b""), True),
        (OSError(errno.EHOSTUNREACH, "No route to host"), True),
        (Stalled("60 s"), True),
        (NoRanges(), False),
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

    with pytest.raises(Exception) as caught:
        HubClient("http://h", retries=2, sleep=lambda seconds: None).patiently("a/b", "main", lambda endpoint: call())
    assert isinstance(caught.value, (HubError, type(error)))
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
    delays = [hf_errors.delay(HttpError(429, headers), attempt) for _ in range(50)]
    assert all(least <= delay <= most for delay in delays)
    assert len(set(delays)) > 1  # never all hosts at the same moment


def test_a_bug_keeps_its_own_traceback():
    with pytest.raises(ZeroDivisionError):
        HubClient("http://h").patiently("a/b", "main", lambda endpoint: 1 / 0)


@pytest.mark.parametrize("path", ["../../../etc/cron.d/x", "/etc/passwd", "a/../../b", "a\\..\\b"])
def test_a_listing_cannot_lead_out_of_the_snapshot(path):
    with pytest.raises(HubError, match="lists the file path"):
        hf_hub._hub_file({"type": "file", "path": path, "size": 1, "oid": "0" * 40})


@pytest.mark.parametrize("endpoint", ["hub.example", "ftp://hub", "https://"])
def test_an_endpoint_is_a_url(endpoint):
    with pytest.raises(HubError, match="no URL"):
        HubClient(endpoint)


def test_offline_by_environment():
    def call(_endpoint):
        raise OfflineModeIsEnabled("x")

    with pytest.raises(HubError, match="HF_HUB_OFFLINE") as caught:
        HubClient("http://h").patiently("a/b", "main", call)
    assert caught.value.reason == "hub_unreachable"


class Endpoints:
    """Answers by endpoint: an error to raise, or what to return; and who was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = {f"http://{name}": answer for name, answer in answers.items()}, []

    def __call__(self, endpoint):
        self.asked.append(endpoint.removeprefix("http://"))
        answer = self.answers[endpoint]
        if isinstance(answer, Exception):
            raise answer
        return answer


def ask(call, retries=2):
    client = HubClient("http://one", retries=retries, sleep=lambda seconds: None, fallbacks=["http://two/"])
    return client, client.patiently("a/b", "main", call)


@pytest.mark.parametrize("retries", [0, 5])
@pytest.mark.parametrize("error", [HttpError(503), ReadError(), Stalled("60 s"), HttpError(404), HttpError(403)])
def test_what_one_endpoint_does_not_give_the_next_does(error, retries):
    call = Endpoints(one=error, two="bytes")
    client, answer = ask(call, retries)
    assert (answer, call.asked) == ("bytes", ["one", "two"])
    # One that does not answer is not asked first again; one that refuses may have something else.
    assert client.endpoints[0] == (
        "http://one" if getattr(error, "response", None) and error.response.status_code < 500 else "http://two"
    )


def test_endpoints_in_turn_until_patience_ends():
    call = Endpoints(one=ReadError(), two=HttpError(503))
    with pytest.raises(HubError, match="attempts: 4"):
        ask(call, retries=3)
    assert call.asked == ["one", "two", "one", "two"]


def test_all_endpoints_refuse():
    call = Endpoints(one=HttpError(403), two=HttpError(404))
    with pytest.raises(HubError, match="http://one refused"):
        ask(call)
    assert call.asked == ["one", "two"]


def test_an_attempt_that_got_on_is_no_failure():
    moves = iter([True, True, True, True, False, False, False])
    call = Endpoints(one=ReadError())
    with pytest.raises(HubError):
        HubClient("http://one", retries=2, sleep=lambda seconds: None).patiently(
            "a/b", "main", call, moved=lambda: next(moves)
        )
    assert len(call.asked) == 4 + 2
