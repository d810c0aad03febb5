from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import docker_time


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:01:00.5Z", 60.5),
        ("2026-11-23T08:28:43.123456789Z", 1795422523.123456789),
        ("2026-11-23T17:28:43+09:00", 1795422523.0),
        ("2026-11-23T04:58:43.5-03:30", 1795422523.5),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        (None, None),
        ("yesterday", None),
    ],
)
def test_parse_timestamp(text, epoch):
    assert docker_time.parse_timestamp(text) == (None if epoch is None else pytest.approx(epoch, abs=1e-6))


def test_split_timestamps():
    text = "1970-01-01T00:00:01Z one\n1970-01-01T00:00:02.5Z \na line of its own\n1970-01-01T00:00:03Z three  3\n"
    assert docker_time.split_timestamps(text) == [(1.0, "one"), (2.5, "a line of its own"), (3.0, "three  3")]
    assert docker_time.split_timestamps("no time here\n") == []
