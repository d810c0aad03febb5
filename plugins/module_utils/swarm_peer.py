# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the controller can ask of a host: look, start the agent, talk to it, stop it and complete the snapshot.

Each is one call, of a module or of a test; what lives between calls is the agent alone.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import socket

from ansible_collections.preheat.fleet.plugins.module_utils import hf_report, swarm_control
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import (
    DAMAGED,
    HUB,
    MISSING,
    RepoCache,
    default_cache_dir,
)
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import COMMIT, HubFile, Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubClient, HubError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_plan import Done, Plan
from ansible_collections.preheat.fleet.plugins.module_utils.hf_snapshot import Snapshot
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_agent import Agent


class Manifest(HubClient):
    """The controller's listing in the place of the Hub's: the root of all trust on this host."""

    def __init__(self, manifest: dict):
        super().__init__()
        self._commit, self.origin = manifest["commit"], manifest.get("origin", HUB)
        self._listing = [HubFile(**entry) for entry in manifest["listing"]]

    def commit(self, _repo_id: str, _revision: str) -> str:
        return self._commit

    def tree(self, _repo_id: str, _commit: str) -> list[HubFile]:
        return self._listing

    def patiently(self, repo_id: str, _revision: str, _call, file: HubFile | None = None, _moved=None):
        raise HubError("wrong_bytes", f"{file and file.path} of {repo_id} vanished from the cache.", "Run again.")


class Selected(Selection):
    """The files that the controller has selected, by their paths."""

    def of(self, files: list[HubFile]) -> list[HubFile]:
        paths = set(self.allow_patterns or ())
        return [file for file in files if file.path in paths]

    def weights_left_out(self, _files: list[HubFile]) -> list[str]:
        return []


def recorded(request: dict) -> dict:
    """What this host knows of the Hub's listing from an earlier time: {commit, listing, origin}; commit is null if
    nothing. For a fleet that cannot ask the Hub."""
    cache, revision = RepoCache(request["cache_dir"], request["repo_id"]), request["revision"]
    commit = revision if COMMIT.fullmatch(revision) else cache.ref(revision)
    listing = cache.listing(commit) if commit else None
    if listing is None:
        return {"commit": None, "listing": []}
    origin = cache.listing_origin(commit or "")
    return {"commit": commit, "listing": [dataclasses.asdict(file) for file in listing], "origin": origin}


class Peer:
    def __init__(self, request: dict):
        self._request = request
        self._cache = RepoCache(request["cache_dir"], request["repo_id"])
        self._snapshot = Snapshot(
            Manifest(request["manifest"]),
            self._cache,
            repo_id=request["repo_id"],
            revision=request["revision"],
            selection=Selected(request["manifest"]["paths"], allow_pickle=True),
            hashes=request["verify"] == "full",
            max_workers=request["connections"],
            min_free_bytes=request["min_free_bytes"],
        )

    def inspect(self) -> dict:
        """What this host has and lacks. Changes nothing."""
        plan = self._snapshot.plan()
        self._snapshot.check_space(plan)
        lacking = {file.etag for file in plan.to_fetch}
        return {
            "have": sorted({file.etag for file in plan.files} - lacking),
            "report": self._report(plan),
            "torrent": self._request["torrent"] and importlib.util.find_spec("libtorrent") is not None,
        }

    def _address(self) -> str:
        return find_address(self._request["address"], self._request["candidates"])

    def start(self) -> dict:
        """Start the agent, and tell it the first things; what is damaged goes before."""
        plan = self._snapshot.plan()
        if plan.listing_is_new:
            self._cache.write_listing(plan.commit, plan.listing, plan.origin)
        for file in plan.files:
            if plan.states[file.path] == DAMAGED:
                self._cache.remove_file(plan.commit, file)
        lacking = {file.etag for file in plan.files if plan.states[file.path] in (MISSING, DAMAGED)}
        etags = {file.etag for file in plan.files}
        spec = {
            **self._request,
            "address": "" if self._request["alone"] else self._address(),
            "commit": plan.commit,
            "have": sorted(etags - lacking),
            "files": [dataclasses.asdict(file) for file in plan.files],
        }
        for bulky in ("manifest", "said"):
            del spec[bulky]
        said = swarm_control.start(self._path(), lambda: Agent(spec))
        if "error" in said:
            raise HubError(
                "agent",
                f"The swarm's agent did not start: {said['error']}.",
                "Look at model_cache_swarm_address and model_cache_swarm_port, or use model_cache_source: hub.",
            )
        answer = swarm_control.ask(self._path(), self._request["said"])
        return {**said, **answer, "have": spec["have"], "address": spec["address"]}

    def finish(self) -> dict:
        """Stop the agent, if there is one, and complete the snapshot if all its files are there."""
        self.stop()
        plan = self._snapshot.plan()
        if plan.to_fetch:
            return {"report": self._report(plan)}
        done = self._snapshot.apply(plan)
        return {"report": self._report(plan, done)}

    def stop(self) -> dict:
        return {"stopped": swarm_control.stop(self._path())}

    def _path(self):
        return swarm_control.socket_path(self._request["run"], self._request["cache_dir"])

    def _report(self, plan: Plan, done: Done | None = None) -> dict:
        return hf_report.of_snapshot(plan, done or Done(), self._cache.snapshot(plan.commit))


def handle(request: dict) -> dict:
    """{action: recorded|inspect|start|finish|stop|sync, ...}: see above and swarm_agent."""
    request = {**request, "cache_dir": os.path.expanduser(request["cache_dir"] or default_cache_dir())}
    if request["action"] == "sync":
        path = swarm_control.socket_path(request["run"], request["cache_dir"])
        return swarm_control.ask(path, request["said"])
    if request["action"] == "recorded":
        return recorded(request)
    return getattr(Peer(request), request["action"])()


def find_address(given: str | None, candidates: list[str]) -> str:
    """The address that peers reach this host at: the one given, else the first candidate that is this host's."""
    arrived = os.environ.get("SSH_CONNECTION", "").split()
    for address in [given] if given else [*arrived[2:3], *candidates]:
        try:
            kind, _type, _protocol, _name, found = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(kind, socket.SOCK_STREAM) as probe:
                probe.bind(found)
            return str(found[0])
        except OSError:
            continue
    raise HubError(
        "no_address",
        f"No address is known at which peers reach this host (tried {given or [*arrived[2:3], *candidates]}).",
        "Set model_cache_swarm_address (parameter address) to one that this host has and the others can reach.",
    )
