"""What becomes a blob and is shared, and what is thrown away. Without a swarm; test_swarm_agents has one."""

from __future__ import annotations

import base64
import hashlib
import threading

import filelock
import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_item import ABSENT, HAVE, PULLING, Item
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_landing import Landing
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_torrent import FilePass
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_units import Units

DATA = b"two paths have this content"
ETAG = hashlib.sha256(DATA).hexdigest()
PATHS = ("config.json", "original/config.json")
COMMIT = "1" * 40


class Agent:
    """As far as landing knows it."""

    alone, swarm = False, None

    def __init__(self, folder):
        self.cache, self.spec = RepoCache(str(folder), "org/model"), {"commit": COMMIT, "secret": "s"}
        for needed in (self.cache.blobs, self.cache.locks):
            needed.mkdir(parents=True)
        files = [HubFile(path, len(DATA), "0" * 40, ETAG) for path in PATHS]
        self.item = Item(files[0])
        self.items, self.changed = {ETAG: self.item}, threading.Condition()
        self.units, self.landing = Units(self, "s"), Landing(self, files)
        self.told, self.failed, self.blob = [], [], self.cache.blobs / ETAG

    def made(self, made):
        self.told.append(made)

    def guarded(self, call, *args):
        try:
            call(*args)
        except Exception as error:
            self.failed.append(error)

    def hashed(self):
        """All that was to be hashed has been."""
        self.landing._hashing.shutdown()

    def contents(self):
        return [(self.cache.snapshot(COMMIT) / path).read_bytes() for path in PATHS]


@pytest.fixture
def agent(tmp_path):
    return Agent(tmp_path)


def test_a_file_that_was_pulled_lands_at_all_its_paths(agent):
    item, pieces = agent.landing.begin_pull(ETAG)
    assert (item.state, pieces, item.target.name.endswith(".incomplete")) == (PULLING, False, True)
    assert agent.landing.shared_path(ETAG) is None
    item.target.write_bytes(DATA)
    agent.landing.land(item, FilePass(item.file, pieces=False).read(item.target))
    assert agent.contents() == [DATA] * 2
    assert agent.told == [{"etag": ETAG, "content": base64.b64encode(DATA).decode()}]
    assert agent.landing.shared_path(ETAG) == agent.blob
    assert not agent.landing.can_pull(ETAG)
    with filelock.FileLock(str(agent.cache.lock(ETAG)), timeout=0):
        pass  # it was let go


def test_who_is_alone_tells_nobody(agent):
    agent.alone = True
    item, _pieces = agent.landing.begin_pull(ETAG)
    item.target.write_bytes(DATA)
    agent.landing.land(item, FilePass(item.file, pieces=False).read(item.target))
    assert (agent.contents(), agent.told) == ([DATA] * 2, [])


def test_what_another_process_has_is_not_waited_for(agent):
    with filelock.FileLock(str(agent.cache.lock(ETAG))):
        assert agent.landing.begin_pull(ETAG) is None
    assert agent.item.state == ABSENT
    assert agent.landing.begin_pull(ETAG)


def test_a_pull_that_was_given_up_goes_on_from_what_has_come(agent):
    item, _pieces = agent.landing.begin_pull(ETAG)
    item.target.write_bytes(DATA[:5])
    before = item.target
    agent.landing.give_up_pull(item)
    assert agent.landing.can_pull(ETAG)
    assert agent.landing.begin_pull(ETAG)[0].target == before


@pytest.mark.parametrize(("there", "state"), [(DATA, HAVE), (DATA[::-1], ABSENT)])
def test_what_another_process_has_fetched_is_taken_if_it_is_right(agent, there, state):
    agent.blob.write_bytes(there)
    assert agent.landing.begin_pull(ETAG) is None
    agent.hashed()
    assert (agent.item.state, agent.blob.exists(), agent.failed) == (state, state == HAVE, [])


def test_wrong_bytes_twice_are_an_error(agent):
    agent.item.attempts = 1
    agent.blob.write_bytes(DATA[::-1])
    agent.landing.begin_pull(ETAG)
    agent.hashed()
    assert [error.reason for error in agent.failed] == ["wrong_bytes"]
    assert agent.item.state == ABSENT


@pytest.mark.parametrize(("there", "shared"), [(DATA, [ETAG]), (DATA[::-1], [])])
def test_what_was_here_before_is_shared_once_it_is_known_to_be_right(agent, there, shared):
    agent.blob.write_bytes(there)
    agent.item.state = HAVE
    agent.landing.share_own(agent.item)
    agent.hashed()
    assert sorted(agent.landing.shared) == [made["etag"] for made in agent.told] == shared
    assert agent.item.state == (HAVE if shared else ABSENT)
    assert agent.blob.exists() == bool(shared)


def test_content_from_the_controller(agent):
    with pytest.raises(HubError, match=r"config\.json came with wrong bytes"):
        agent.landing.take_content(agent.item, DATA[::-1])
    assert list(agent.cache.blobs.iterdir()) == []
    agent.landing.take_content(agent.item, DATA)
    assert agent.contents() == [DATA] * 2
    assert agent.told == []  # the controller has it already
