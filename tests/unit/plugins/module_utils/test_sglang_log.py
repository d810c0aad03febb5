from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_log


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token hf_AbCdEfGhIjKlMnOpQrStUv used", "hf_AbCdEfGhIjKlMnOpQrStUv"),
        ("Authorization: Bearer abc.def-123456", "abc.def-123456"),
        ("ServerArgs(api_key='sk-123456', port=1)", "sk-123456"),
        ("{'admin_api_key': 'sk-123456', 'port': 1}", "sk-123456"),
        ('"hf_token": "zzz yyy"', "zzz yyy"),
        ("password=hunter2, next", "hunter2"),
        ("ssl_keyfile_password: hunter2", "hunter2"),
        ("proxy http://user:hunter2@proxy:3128/", "hunter2"),
        ("the value is plainly visible", "plainly"),
    ],
)
def test_scrub(text, secret):
    assert secret not in sglang_log.scrub(text, ["plainly"])


@pytest.mark.parametrize(
    "text",
    [
        "max_total_tokens=8192, api_key=None, tokenizer_path='/models/x'",
        "#new-token: 26, token usage: 0.00",
        "Uvicorn running on http://0.0.0.0:30000 (Press CTRL+C to quit)",
        "skip_tokenizer_init=False, admin_api_key=None, ssl_keyfile_password=None)",
    ],
)
def test_scrub_leaves_the_rest(text):
    assert sglang_log.scrub(text) == text


def test_scrub_data():
    data = {
        "api_key": "sk-1",
        "admin_api_key": None,
        "max_total_tokens": 8192,
        "tokenizer_path": "/models/x",
        "states": [{"ssl_keyfile_password": "hunter2", "text": "the value is plainly visible"}],
        "my_hf_token": ["a"],
    }
    assert sglang_log.scrub_data(data, ["plainly"]) == {
        "api_key": "********",
        "admin_api_key": None,
        "max_total_tokens": 8192,
        "tokenizer_path": "/models/x",
        "states": [{"ssl_keyfile_password": "********", "text": "the value is ******** visible"}],
        "my_hf_token": "********",
    }


def test_secret_values_are_told_by_name():
    environment = {"S3_SECRET_KEY": "abc", "MY_API_KEY": "def", "EMPTY_TOKEN": "", "OMP_NUM_THREADS": "1", "A_TOKEN": 5}
    assert sorted(sglang_log.secret_values(environment)) == ["5", "abc", "def"]


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        ("a\nb\nc\n", 2, "b\nc"),
        ("a\n", 5, "a"),
        ("a\n", 0, ""),
        ("", 5, ""),
        ("  0%|\r 50%|\r100%|\nend", 2, "100%|\nend"),
        ("x" * 1005, 1, "x" * 1000 + "... (1005 characters)"),
    ],
)
def test_tail(text, lines, expected):
    assert sglang_log.tail(text, lines) == expected


def test_cap_cuts_the_middle_and_says_so():
    text = "begin " + "é" * 5000 + " end"
    capped = sglang_log.cap(text, limit_bytes=100)
    assert capped.startswith("begin ")
    assert capped.endswith(" end")
    assert "9910 bytes of the log left out here" in capped
    assert sglang_log.cap("short", limit_bytes=100) == "short"
