"""What the seed of a swarm reads of the Hub: a half that a killed seed has left is not read again."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace

import pytest
from lab_hub import serving

from ansible_collections.preheat.fleet.plugins.module_utils import hf_errors
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_source import Source

hub = pytest.fixture(serving.serve)
DATA = random.Random(1).randbytes(8 << 20)
HALF = len(DATA) // 2


class Agent:
    """As much of one as a source sees."""

    alone, swarm, units = True, None, SimpleNamespace(follow=lambda _item: None)

    def __init__(self, hub, cache_dir):
        commit = hub.publish({"model.safetensors": DATA})
        file = HubClient(hub.endpoint).tree(serving.REPO, commit)[0]
        self.cache = RepoCache(cache_dir, serving.REPO)
        self.cache.blobs.mkdir(parents=True)
        self.spec = {
            "repo_id": serving.REPO, "commit": commit, "retries": 0, "connections": 2, "stall_seconds": 10,
        }  # fmt: skip
        self.etag, self.items = file.etag, {file.etag: SimpleNamespace(file=file, state="absent", target=None)}
        self.landing, self.landed, self.failed = self, [], []

    def lock(self, _item):
        return True

    def land(self, item, found):
        assert found.is_right
        item.target.replace(self.cache.blob(item.file))
        self.landed.append(item)

    def fail(self, error):
        self.failed.append(error)

    def partials(self):
        return list(self.cache.blobs.glob("*.incomplete"))

    def fetch(self, hub):
        Source(self).take({"fetch": [self.etag], "endpoint": hub.endpoint})
        until = time.monotonic() + 30
        while not (self.landed or self.failed):
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(hf_errors, "DELAY_SECONDS", (0.0, 0.0))


@pytest.fixture
def agent(hub, tmp_path):
    agent = Agent(hub, tmp_path / "cache")
    hub.control.reset()
    return agent


def sent(hub) -> int:
    return hub.control.stats()["sides"]["cdn"]["bytes"]


def test_a_half_is_not_read_again(hub, agent):
    (agent.cache.blobs / f"{agent.etag}.0123abcd.incomplete").write_bytes(DATA[:HALF])
    agent.fetch(hub)
    assert agent.landed
    assert not agent.failed
    assert sent(hub) == len(DATA) - HALF
    assert agent.cache.blob(agent.items[agent.etag].file).read_bytes() == DATA
    assert not agent.partials()


def test_what_had_come_before_an_error_is_kept(hub, agent):
    hub.control.add_fault(kind="drop", match="^/cdn/", after_bytes=1 << 19, count=None)
    agent.spec["retries"] = 1
    agent.fetch(hub)
    # An attempt that got on begins the count anew: a line that breaks sixteen times brings the file all the same.
    assert agent.landed
    hub.control.add_fault(kind="status", status=404, match="/resolve/", count=None)
    agent.landed.clear()
    agent.cache.blob(agent.items[agent.etag].file).rename(agent.cache.blobs / f"{agent.etag}.0123abcd.incomplete")
    with agent.partials()[0].open("r+b") as file:
        file.truncate(HALF)
    agent.fetch(hub)
    assert [error.reason for error in agent.failed] == ["hub_error"]
    assert agent.partials()[0].stat().st_size >= HALF
