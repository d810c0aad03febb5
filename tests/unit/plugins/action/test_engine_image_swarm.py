from __future__ import annotations

import threading

from ansible_collections.preheat.fleet.plugins.action.engine_image_swarm import ActionModule
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import SwarmError
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import Rendezvous

HOSTS = ["a", "b", "c"]
DIGEST = "sha256:" + "ab" * 32
FETCHED = {
    "digest": DIGEST,
    "files": [
        {"digest": DIGEST, "size": 5, "is_manifest": True},
        {"digest": "sha256:" + "cd" * 32, "size": 7, "is_manifest": False},
    ],
    "bytes_fetched": 12,
    "seconds": 1.0,
    "endpoint": "https://ghcr.io",
    "source": "registry",
}


class Fleet:
    """Workers of these hosts, one thread each; what a host's fetch gives, or the SwarmError that it raises."""

    def __init__(self, folder, **answers):
        self.answers, self.folder, self.fetches, self.found = answers, folder, [], {}

    def run(self):
        threads = [threading.Thread(target=self._agree, args=[host]) for host in HOSTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "it waits in vain"
        return self.found

    def _agree(self, host):
        meet = Rendezvous(self.folder, host, HOSTS)
        if self.answers[host] == "has it":
            meet.say(gone="complete")
            return
        action = ActionModule.__new__(ActionModule)
        action._image = {"image": "ghcr.io/a/b:1", "pull": "missing"}
        action._args = {"cache_dir": "/x", "repo_id": "a/b"}
        action._say = lambda text: None
        action._module = lambda name, **arguments: self._fetch(host, name, arguments)
        try:
            self.found[host] = action._agree(meet)
        except SwarmError as error:
            self.found[host] = error.reason

    def _fetch(self, host, name, arguments):
        assert (name, arguments["dest"]) == ("engine_image_files", "/x/models--a--b/blobs")
        assert "pull" not in arguments
        self.fetches.append(host)
        answer = self.answers[host]
        if isinstance(answer, str):
            raise SwarmError(answer, "No.", "Do.")
        return answer


def test_one_host_fetches_for_all(tmp_path):
    fleet = Fleet(tmp_path, a=FETCHED, b=FETCHED, c=FETCHED)
    found = fleet.run()
    assert fleet.fetches == ["a"], "another run would go on where this one was killed"
    assert found["a"] == found["b"] == found["c"]
    assert found["a"]["digest"] == DIGEST
    assert found["a"]["paths"] == ["blobs/sha256/" + "ab" * 32, "blobs/sha256/" + "cd" * 32]
    assert [(file["sha256"], file["size"]) for file in found["a"]["listing"]] == [("ab" * 32, 5), ("cd" * 32, 7)]


def test_who_cannot_read_the_registry_waits_for_one_that_can(tmp_path):
    fleet = Fleet(tmp_path, a="unauthorized", b="registry_unreachable", c=FETCHED)
    assert {host: facts["digest"] for host, facts in fleet.run().items()} == dict.fromkeys(HOSTS, DIGEST)


def test_where_none_can_nobody_waits(tmp_path):
    fleet = Fleet(tmp_path, a="unauthorized", b="has it", c="no_space")
    assert fleet.run() == {"a": "unauthorized", "c": "no_space"}


def test_an_image_that_is_not_there_is_asked_for_once(tmp_path):
    fleet = Fleet(tmp_path, a="not_found", b="not_found", c="not_found")
    assert fleet.run() == dict.fromkeys(HOSTS, "not_found")
    assert len(fleet.fetches) == 1
