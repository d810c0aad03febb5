"""Files from the Hub in ranges, hashed while they arrive."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import hf_hub
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_fetch import Fetcher, RangeClient

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
    monkeypatch.setattr(hf_hub, "DELAY_SECONDS", (0.01, 0.01))
    client = RangeClient(hub.endpoint, retries=2)
    commit = HubClient(hub.endpoint).commit(REPO, "main")
    files = {file.path: file for file in client.tree(REPO, commit)}
    counted = []

    def fetch(path):
        fetcher = Fetcher(client, REPO, commit, 4, counted.append)
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
    ],
    ids=lambda fault: fault["kind"],
)
def test_what_passes_is_survived(hub, fetch, tmp_path, fault):
    hub.control.add_fault(match=BYTES, method="GET", **fault)
    found, data, _read = fetch("model.safetensors")
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
    ],
)
def test_what_stays_is_said_plainly(hub, fetch, fault, reason):
    hub.control.add_fault(match=BYTES, method="GET", **fault)
    with pytest.raises(HubError) as caught:
        fetch("model.safetensors")
    assert caught.value.reason == reason
