"""What is taken from peers over HTTPS: from who has time, to the end, and from nobody who gave wrong bytes."""

from __future__ import annotations

import hashlib
import threading
import time
from types import SimpleNamespace

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import swarm_https, swarm_pull
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile

DATA = bytes(range(256)) * 100
ETAG = hashlib.sha256(DATA).hexdigest()
ONE, TWO = ("192.0.2.1", 1), ("192.0.2.2", 2)


class Landing:
    """As far as a puller knows it."""

    def __init__(self, folder):
        file = HubFile("model.safetensors", len(DATA), "0" * 40, ETAG)
        self.item = SimpleNamespace(file=file, target=folder / "part", received=0, done=0)
        self.landed, self.failed = threading.Event(), []

    def can_pull(self, _etag):
        return not self.landed.is_set() and not self.failed

    def begin_pull(self, _etag):
        return self.item, False

    def give_up_pull(self, _item):
        pass

    def land(self, item, found):
        assert found.is_right
        assert item.target.read_bytes() == DATA
        self.landed.set()

    def fail(self, error):
        self.failed.append(error)


@pytest.fixture
def pull(tmp_path, monkeypatch):
    """pull(behaviours by peer) gives (landing, peers in the order in which they were asked)."""
    monkeypatch.setattr(swarm_pull, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(swarm_pull, "FAILED_SECONDS", 0.01)
    landing = Landing(tmp_path)

    def run(behaviours, seconds=5.0):
        asked = []

        def read(peer, _etag, start, *, source, context, limit, write):
            asked.append((peer, start))
            behaviours[peer](start, write)

        monkeypatch.setattr(swarm_https, "read", read)
        puller = swarm_pull.Puller(landing, landing.fail, None, swarm_https.Limit(0), "me")
        puller.take({ETAG: [list(peer) for peer in behaviours]})
        end = time.monotonic() + seconds
        while landing.can_pull(ETAG) and time.monotonic() < end:
            time.sleep(0.01)
        puller.stop()
        return landing, asked

    return run


def gives(start, write):
    write(DATA[start:])


def lies(start, write):
    write(b"x" * (len(DATA) - start))


def breaks_off(start, write):
    write(DATA[start : start + 1000])
    raise ConnectionError("gone")


def is_busy(_start, _write):
    raise swarm_https.Busy


def test_a_file_comes_from_who_has_time(pull):
    landing, asked = pull({ONE: is_busy, TWO: gives})
    assert landing.landed.is_set()
    assert landing.item.received == len(DATA)
    assert asked[-1] == (TWO, 0)


def test_where_one_breaks_off_the_next_goes_on(pull):
    landing, asked = pull({ONE: breaks_off})
    assert landing.landed.is_set()
    assert [start for _peer, start in asked[:3]] == [0, 1000, 2000]


def test_what_a_killed_run_left_is_not_fetched_again(pull, tmp_path):
    (tmp_path / "part").write_bytes(DATA[:5000])
    _landing, asked = pull({ONE: gives})
    assert asked == [(ONE, 5000)]


def test_of_a_part_with_holes_the_start_is_kept(pull, tmp_path):
    with (tmp_path / "part").open("wb") as stream:
        stream.truncate(len(DATA))
    landing, asked = pull({ONE: gives})
    assert landing.landed.is_set()
    assert asked == [(ONE, 0)]


def test_a_liar_is_asked_once(pull):
    landing, asked = pull({ONE: lies, TWO: gives})
    assert landing.landed.is_set()
    assert [peer for peer, _start in asked].count(ONE) <= 1


def test_nothing_lands_where_all_lie(pull):
    landing, asked = pull({ONE: lies, TWO: lies}, seconds=0.5)
    assert not landing.landed.is_set()
    assert not landing.failed
    assert len(asked) == 2


def test_a_peer_that_breaks_off_is_not_blamed_for_another_s_lie(pull, tmp_path):
    (tmp_path / "part").write_bytes(b"x" * 100)  # wrong, of an earlier run
    landing, _asked = pull({ONE: gives})
    assert landing.landed.is_set()


def test_a_full_disk_fails_the_host(pull, monkeypatch, tmp_path):
    folder = tmp_path / "missing"
    monkeypatch.setattr(Landing, "begin_pull", lambda self, _etag: (_moved(self.item, folder / "part"), False))
    landing, _asked = pull({ONE: gives})
    assert isinstance(landing.failed[0], swarm_pull.DiskError)


def _moved(item, target):
    item.target = target
    return item
