"""Files from the Hub in ranges, hashed while they arrive."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import hf_errors
from ansible_collections.preheat.fleet.plugins.module_utils.hf_fetch import Fetcher
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError

sys.path.insert(0, str(Path(__file__).parents[3] / "lab" / "hub"))

from hub import Hub

REPO = "org/model"
BYTES = "^/cdn/"


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / "root" / REPO
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(random.Random(1).randbytes(5_000_000))
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "empty.json").write_text("")
    with Hub(tmp_path / "root", tmp_path / "state") as hub:
        yield hub


@pytest.fixture
def fetch(hub, tmp_path, monkeypatch):
    """fetch(path) gives (pass, bytes at the target, bytes read)."""
    monkeypatch.setattr(hf_errors, "DELAY_SECONDS", (0.01, 0.01))
    client = HubClient(hub.endpoint, retries=2)
    commit = HubClient(hub.endpoint).commit(REPO, "main")
    files = {file.path: file for file in client.tree(REPO, commit)}
    counted = []

    def fetch(path, stall_seconds=10):
        fetcher = Fetcher(client, REPO, commit, connections=4, count=counted.append, stall_seconds=stall_seconds)
        target = tmp_path / "target"
        try:
            return fetcher.begin(files[path], str(target), True).result(), target.read_bytes(), sum(counted)
        finally:
            fetcher.stop()

    return fetch


@pytest.mark.parametrize("path", ["model.safetensors", "config.json", "empty.json"])
def test_a_file_comes_whole_and_right(hub, fetch, tmp_path, path):
    expected = (tmp_path / "root" / REPO / path).read_bytes()
    found, data, read = fetch(path)
    assert found.is_right
    assert data == expected
    assert read == len(expected)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop", "after_bytes": 300_000, "count": 1},
        {"kind": "status", "status": 503, "count": 1},
        {"kind": "wrong_bytes", "after_bytes": 100_000, "count": 1},
        {"kind": "stall", "after_bytes": 300_000, "seconds": 3, "count": 3},
    ],
    ids=lambda fault: fault["kind"],
)
def test_what_passes_is_survived(hub, fetch, tmp_path, fault):
    hub.control.add_fault(match=BYTES, method="GET", **fault)
    found, data, _read = fetch("model.safetensors", stall_seconds=0.3)
    assert found.is_right
    assert data == (tmp_path / "root" / REPO / "model.safetensors").read_bytes()


def test_a_broken_range_goes_on_where_it_broke(hub, fetch):
    hub.control.add_fault(kind="drop", match=BYTES, method="GET", after_bytes=300_000)
    _found, data, read = fetch("model.safetensors")
    assert read == len(data)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "wrong_bytes", "after_bytes": 0, "count": None}, "wrong_bytes"),
        ({"kind": "status", "status": 503, "count": None}, "hub_unreachable"),
        ({"kind": "stall", "seconds": 1, "count": None}, "stalled"),
    ],
)
def test_what_stays_is_said_plainly(hub, fetch, fault, reason):
    hub.control.add_fault(match=BYTES, method="GET", **fault)
    with pytest.raises(HubError) as caught:
        fetch("model.safetensors", stall_seconds=0.2)
    assert caught.value.reason == reason


# what a killed run has left

STEP = 1 << 20


def test_what_was_written_is_not_fetched_again(hub, fetch, tmp_path):
    data = (tmp_path / "root" / REPO / "model.safetensors").read_bytes()
    with (tmp_path / "target").open("wb") as file:
        for start in (0, 2 * STEP, 3 * STEP):
            file.seek(start)
            file.write(data[start : start + STEP])
    found, fetched, read = fetch("model.safetensors")
    assert found.is_right
    assert fetched == data
    assert len(data) - 3 * STEP <= read <= len(data) - 3 * STEP + 2 * 4096


def test_what_was_written_is_not_believed(hub, fetch, tmp_path):
    (tmp_path / "target").write_bytes(b"wrong" * 500_000)
    found, fetched, read = fetch("model.safetensors")
    assert found.is_right
    assert fetched == (tmp_path / "root" / REPO / "model.safetensors").read_bytes()
    assert read == 2 * len(fetched) - 2_500_000


def test_wrong_bytes_are_not_kept(hub, fetch, tmp_path):
    hub.control.add_fault(kind="wrong_bytes", match=BYTES, count=None)
    with pytest.raises(HubError):
        fetch("model.safetensors")
    assert not (tmp_path / "target").exists()
