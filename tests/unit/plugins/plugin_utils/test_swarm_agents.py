"""A swarm of real agents: libtorrent and HTTPS over this machine's loopback addresses, and the Hub for tests.

Each host has a worker, as on the controller, an agent in a thread, and a cache of its own; only what carries requests
between them (Ansible's connection, the forked process and its socket) is left out.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from pathlib import Path

import filelock
import pytest
from lab_hub import serving
from lab_hub.serving import REPO

from ansible_collections.preheat.fleet.plugins.module_utils import swarm_control, swarm_peer, swarm_source
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import RepoCache
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_identity, swarm_manifest, swarm_worker
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import NoAgent, SwarmError
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import Rendezvous
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_worker import Worker

# Small ones travel over the controller, the others as torrents, the last in units.
MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model-00001-of-00003.safetensors": random.Random(1).randbytes(600_000),
    "model-00002-of-00003.safetensors": random.Random(2).randbytes(700_000),
    "model-00003-of-00003.safetensors": random.Random(3).randbytes(3 << 20),
}
SIZE = sum(map(len, MODEL.values()))
LAST = "model-00003-of-00003.safetensors"


class Agents:
    """In the place of swarm_control's processes."""

    def __init__(self):
        self.running: dict[Path, tuple] = {}

    def start(self, path, make_agent):
        self.stop(path)
        agent = make_agent()
        thread = threading.Thread(target=self._run, args=(agent,))
        thread.start()
        self.running[path] = agent, thread
        return agent.introduce()

    def _run(self, agent):
        agent.run()
        agent.close()

    def ask(self, path, request):
        if path not in self.running:
            raise swarm_control.NoAgent("it is gone")
        return self.running[path][0].answer(request)

    def stop(self, path):
        agent, thread = self.running.pop(path, (None, None))
        if agent:
            agent.end()
            thread.join(20)
            assert not thread.is_alive()
        return bool(agent)


class Host:
    def __init__(self, fleet, number, **request):
        self.fleet, self.name, self.address = fleet, f"gpu{number}", f"127.0.0.{number}"
        self.root = fleet.folder / self.name
        self.cache = RepoCache(str(self.root), REPO)
        self.request = {**request, "cache_dir": str(self.root), "address": self.address}
        self.answered = None  # called with each answer to a question
        self.report = self.error = None

    def __call__(self, request):
        try:
            answer = swarm_peer.handle({**request, **self.fleet.secrets})
        except swarm_control.NoAgent as error:
            raise NoAgent(str(error)) from error
        except HubError as error:
            raise SwarmError(error.reason, error.message, error.remedy) from error
        if self.answered:
            self.answered(self, request["action"], answer)
        return answer

    def die(self):
        """The agent is gone, and what it was about to do is not done."""
        path = swarm_control.socket_path(self.fleet.run_id, str(self.root))
        self.fleet.agents.running[path][0].landing.land = lambda *_: time.sleep(60)
        self.fleet.agents.stop(path)

    def blob(self, name):
        (file,) = [entry for entry in self.fleet.manifest["listing"] if entry["path"] == name]
        return self.cache.blobs / (file["sha256"] or file["git_sha1"])

    def contents(self):
        snapshot = self.cache.snapshot(self.fleet.manifest["commit"])
        return {name: (snapshot / name).read_bytes() for name in MODEL}

    def hold(self):
        """Alone, from the Hub."""
        self.fleet.run(self)
        assert self.report["source"] == "hub"


class FleetOfAgents:
    def __init__(self, hub, folder, agents):
        self.hub, self.folder, self.agents = hub, folder, agents
        self.manifest = swarm_manifest.resolve(REPO, "main", endpoint=hub.endpoint)
        self.secrets = {"secret": uuid.uuid4().hex, "identity": swarm_identity.make()}
        self.said: list[str] = []
        hub.control.reset()

    def run(self, *hosts, **settings):
        """All hosts at once, to the end of each; what they report is theirs then."""
        self.run_id = uuid.uuid4().hex
        meeting = self.folder / f"meeting-{self.run_id}"
        threads = [threading.Thread(target=self._work, args=(host, hosts, meeting, settings)) for host in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), self.said
        assert not self.agents.running or any(host.error for host in hosts)
        return hosts

    def _work(self, host, hosts, meeting, settings):
        request = {
            "run": self.run_id, "repo_id": REPO, "revision": "main", "verify": "size", "connections": 4, "retries": 2,
            "min_free_bytes": 0, "port": 0, "candidates": [], "stall_seconds": 5, "fallback_endpoints": None,
            "upload_bytes_per_second": 0, "download_bytes_per_second": 0, "torrent": True, "lease_seconds": 30,
            **host.request,
        }  # fmt: skip
        meet = Rendezvous(meeting, host.name, [each.name for each in hosts])
        worker = Worker(
            meet, self.manifest, host, request=request, endpoint=self.hub.endpoint, say=self.said.append, **settings
        )
        try:
            host.report, host.error = worker.run(), None
        except Exception as error:
            host.report, host.error = None, error

    def hub_bytes(self):
        """That the Hub has sent of files; a little more than were read, for transfers are cut short."""
        return self.hub.control.stats()["sides"]["cdn"]["bytes"]


pytest.importorskip("libtorrent")

hub = pytest.fixture(serving.serve)
ONCE = pytest.approx(SIZE, rel=0.05)


@pytest.fixture
def fleet(hub, tmp_path, monkeypatch):
    agents = Agents()
    for name in ("start", "ask", "stop"):
        monkeypatch.setattr(swarm_control, name, getattr(agents, name))
    for module, name in ((swarm_worker, "LOOK_SECONDS"), (swarm_source, "SETTLE_SECONDS")):
        monkeypatch.setattr(module, name, 0.02)
    for name in ("POLL_SECONDS", "LONG_POLL_SECONDS"):
        monkeypatch.setattr(swarm_worker, name, 0.2)
    hub.publish(MODEL)
    yield FleetOfAgents(hub, tmp_path, agents)
    for path in list(agents.running):
        agents.stop(path)


@pytest.fixture
def host(fleet):
    """Makes hosts, numbered from 11."""
    numbers = iter(range(11, 20))
    return lambda **request: Host(fleet, next(numbers), **request)


def total(hosts, name):
    return sum(host.report[name] for host in hosts)


def assert_all_hold(hosts):
    for host in hosts:
        assert host.error is None
        assert host.contents() == MODEL
        assert SIZE <= host.report["bytes_fetched"] < 1.5 * SIZE
        assert host.report["verified"] == "hash"
        assert not list(host.cache.blobs.glob("*.incomplete"))
        assert not (host.cache.blobs / "units").exists()


def test_three_cold_hosts_read_the_hub_once(fleet, host):
    hosts = fleet.run(host(), host(), host())
    assert_all_hold(hosts)
    assert fleet.hub_bytes() == ONCE
    assert sorted(each.report["source"] for each in hosts) == ["hub", "swarm", "swarm"]
    assert total(hosts, "bytes_from_hub") == SIZE
    assert total(hosts, "bytes_sent") > 0

    # A second time nobody has anything to say to anybody.
    again = fleet.run(*hosts)
    assert [each.report["changed"] for each in again] == [False] * 3
    assert fleet.hub_bytes() == ONCE


def test_what_one_host_has_comes_from_it(fleet, host):
    first, second = host(), host()
    first.hold()
    fleet.hub.control.reset()
    fleet.run(first, second)
    assert (first.report["source"], second.report["source"]) == ("cache", "swarm")
    assert second.contents() == MODEL
    assert fleet.hub_bytes() == 0


def test_hosts_without_libtorrent_take_whole_files_over_https(fleet, host):
    hosts = fleet.run(host(), host(torrent=False), host(torrent=False))
    assert_all_hold(hosts)
    assert fleet.hub_bytes() == ONCE
    assert [each.report["source"] for each in hosts] == ["hub", "swarm", "swarm"]
    # What was sent since the last question to a host is not counted, what was received is.
    assert [each.report["bytes_from_peers"] for each in hosts] == [0, SIZE, SIZE]


def test_nobody_has_libtorrent(fleet, host):
    hosts = fleet.run(host(torrent=False), host(torrent=False))
    assert_all_hold(hosts)
    assert fleet.hub_bytes() == ONCE


def test_a_blob_that_only_looks_right_is_not_shared(fleet, host):
    first, second = host(), host()
    first.hold()
    with first.blob(LAST).open("r+b") as blob:
        blob.seek(1000)
        blob.write(b"damage")
    fleet.hub.control.reset()
    fleet.run(first, second)
    assert (first.contents(), second.contents()) == (MODEL, MODEL)
    assert fleet.hub_bytes() == pytest.approx(len(MODEL[LAST]), rel=0.05)


def test_the_agent_that_reads_the_hub_dies(fleet, host):
    """Its worker starts another, which goes on from what is there."""
    died = []

    def after_some(host, action, answer):
        if action == "sync" and answer["bytes_from_hub"] > SIZE / 3 and not died:
            died.append(host)
            host.die()

    hosts = [host(), host()]
    for each in hosts:
        each.answered = after_some
    fleet.hub.control.mb_per_second = 3
    fleet.run(*hosts)
    assert died
    assert [each.contents() for each in hosts] == [MODEL] * 2
    assert fleet.hub_bytes() < 1.5 * SIZE
    assert any("starts again: its agent ended" in line for line in fleet.said)


def test_the_seed_is_lost_and_another_host_fetches_what_nobody_has(fleet, host):
    def lose(host, action, answer):
        if action == "sync" and answer["bytes_from_hub"] > SIZE * 0.8:
            host.die()
            raise SwarmError("unreachable", "The host is gone.", "")

    hosts = [host(), host(), host()]
    for each in hosts:
        each.answered = lose
    fleet.hub.control.mb_per_second = 3
    fleet.run(*hosts)
    lost = [each for each in hosts if each.error]
    assert len(lost) >= 1
    left = [each for each in hosts if not each.error]
    assert left
    assert [each.contents() for each in left] == [MODEL] * len(left)
    assert fleet.hub_bytes() < 2 * SIZE


def test_another_process_has_the_file(fleet, host):
    """Its lock is not waited for by a host that others serve: what it has fetched meanwhile is taken."""
    first, second = host(), host()
    first.hold()
    second.cache.locks.mkdir(parents=True)
    second.cache.blobs.mkdir(parents=True)
    lock = filelock.FileLock(str(second.cache.lock(second.blob(LAST).name)), thread_local=False)
    lock.acquire()

    def finish():
        time.sleep(1)
        second.blob(LAST).write_bytes(MODEL[LAST])
        lock.release()

    other = threading.Thread(target=finish)
    other.start()
    fleet.run(first, second)
    other.join()
    assert second.contents() == MODEL
    assert second.report["bytes_from_peers"] == SIZE - len(MODEL[LAST])


def test_who_may_not_read_the_hub_leaves_it_to_nobody(fleet, host):
    fleet.hub.control.restrict(REPO, tokens=["friend"])
    hosts = fleet.run(host(), host())
    assert {each.error.reason for each in hosts} <= {"gated_repo", "unauthorized"}
    assert all("No host of the swarm could read the Hub" in str(each.error) for each in hosts)
    assert not any(list(each.cache.blobs.glob("*[!e]")) for each in hosts)
