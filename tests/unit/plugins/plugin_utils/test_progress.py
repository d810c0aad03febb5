"""The line that says how a download goes."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils.progress import Meter, interval_seconds


@pytest.mark.parametrize(("hosts", "seconds"), [(1, 5.0), (20, 5.0), (100, 25.0)])
def test_interval(hosts, seconds):
    assert interval_seconds(hosts) == seconds


def test_the_rate_is_that_since_the_last_look():
    now = [100.0]
    meter = Meter(begun=50_000_000, clock=lambda: now[0])
    now[0] += 5
    assert meter.line(150_000_000, 1_000_000_000, "hub") == "150 of 1000 MB, 20.0 MB/s from hub, 42 s left"
    now[0] += 10
    assert meter.line(150_000_000, 1_000_000_000, "hub") == "150 of 1000 MB, 0.0 MB/s from hub"
    now[0] += 1
    assert meter.line(1_000_000_000, 1_000_000_000, "hub") == "1000 of 1000 MB, 850.0 MB/s from hub"


def test_what_moved_may_be_another_number_than_what_is_done():
    now = [0.0]
    meter = Meter(clock=lambda: now[0])
    now[0] += 2
    assert meter.line(10_000_000, 20_000_000, "peers", moved=40_000_000).startswith("10 of 20 MB, 20.0 MB/s from peers")
    assert meter.line(10_000_000, 20_000_000, "peers", moved=30_000_000).startswith("10 of 20 MB, 0.0 MB/s")
