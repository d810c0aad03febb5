"""One host's worker, against a host that answers as it is told to."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_worker
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import NoAgent, SwarmError
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import Rendezvous
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_worker import Worker

ETAG, SIZE = "a" * 64, 5 << 20
LISTING = [{"path": "m.safetensors", "size": SIZE, "git_sha1": "0" * 40, "sha256": ETAG}]
MANIFEST = {"commit": "c" * 40, "listing": LISTING, "paths": ["m.safetensors"]}


class Host:
    """Has nothing; gets the file with the first sync that follows being told to fetch it, unless there is trouble."""

    def __init__(self, have=(), trouble=()):
        self.have, self.trouble, self.calls, self.told = list(have), list(trouble), [], []

    def __call__(self, request):
        action = request["action"]
        self.calls.append(action)
        return getattr(self, action)(request.get("said") or {})

    def _report(self):
        lacking = 0 if self.have else SIZE
        report = {"changed": bool(lacking), "bytes_total": SIZE, "bytes_to_fetch": lacking, "verified": "size"}
        return {"report": report, "have": self.have, "torrent": False}

    def inspect(self, _said):
        return self._report()

    def start(self, said):
        return {"address": "192.0.2.1", "port": 0, "no_torrent": "", **self.sync(said, first=True)}

    def sync(self, said, first=False):
        self.told.append(said)
        error = None
        if not first:
            trouble = self.trouble.pop(0) if self.trouble else None
            if isinstance(trouble, Exception):
                raise trouble
            error = trouble
            self.have = self.have if error else [ETAG]
        read = SIZE if self.have else 0
        return {
            "have": self.have, "serves": self.have, "https_port": 7, "made": [], "seen": 0, "bytes_done": read,
            "bytes_from_hub": read, "bytes_from_peers": 0, "bytes_sent": 0, "error": error,
        }  # fmt: skip

    def finish(self, _said):
        return self._report()

    def stop(self, _said):
        return {"stopped": True}


def run(tmp_path, host, **settings):
    meet = Rendezvous(tmp_path, "h1", ["h1"])
    request = {"run": "r", "cache_dir": "/c"}
    return Worker(meet, MANIFEST, host, request=request, token="t", endpoint="e", **settings).run()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(swarm_worker, "LOOK_SECONDS", 0.01)


def test_a_host_that_has_everything_is_asked_once(tmp_path):
    host = Host(have=[ETAG])
    assert run(tmp_path, host)["source"] == "cache"
    assert host.calls == ["inspect"]


def test_check_mode_asks_once(tmp_path):
    host = Host()
    assert run(tmp_path, host, check=True)["bytes_to_fetch"] == SIZE
    assert host.calls == ["inspect"]


def test_the_seed_alone_is_given_the_token(tmp_path):
    host = Host()
    report = run(tmp_path, host)
    assert (report["source"], report["bytes_from_hub"], report["verified"]) == ("hub", SIZE, "hash")
    assert host.told[0] == {"fetch": [ETAG], "fill": [], "token": "t", "endpoint": "e"}
    assert all("token" not in said for said in host.told[1:])
    assert host.calls[0] == "inspect"
    assert host.calls[-1] == "finish"


def test_an_agent_that_ended_is_started_again(tmp_path):
    host = Host(trouble=[NoAgent("gone")])
    run(tmp_path, host)
    assert host.calls.count("start") == 2


def test_an_agent_that_always_ends_fails_the_host(tmp_path):
    host = Host(trouble=[NoAgent("gone")] * 9)
    with pytest.raises(SwarmError, match="ended 4 times"):
        run(tmp_path, host)


@pytest.mark.parametrize(
    ("reason", "message"), [("unauthorized", "No host of the swarm could read the Hub"), ("no_space", "It failed.")]
)
def test_what_fails_the_host_is_told_to_the_others(tmp_path, reason, message):
    error = {"reason": reason, "message": "It failed.", "remedy": "Do something.", "traceback": ""}
    with pytest.raises(SwarmError, match=message) as caught:
        run(tmp_path, Host(trouble=[error]))
    assert caught.value.reason == reason
    assert "Do something." in caught.value.remedy
    assert list(Rendezvous(tmp_path, "h2", ["h1"]).gone()) == ["h1"]
