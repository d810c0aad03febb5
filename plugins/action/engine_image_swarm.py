# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action plugin: an image on all hosts of the play with one read of its registry.

The files of an image are known by size and sha256 before the first byte comes, like those of a snapshot. So one host
fetches them (engine_image_files), the swarm that carries models carries them to the others, and every engine takes them
through a registry of its own host (engine_image), which keeps the image's digest.
"""

from __future__ import annotations

import dataclasses
import os
import time
from functools import partial
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.preheat.fleet.plugins.action import hf_swarm
from ansible_collections.preheat.fleet.plugins.module_utils import oci_registry
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import folder_name
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile
from ansible_collections.preheat.fleet.plugins.plugin_utils.module_failure import swarm_error
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import SwarmError
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import Rendezvous

JOIN_SECONDS = 60  # how long a host that cannot read the registry waits for one that can
HEAD_START_SECONDS = 1.0
# Errors of the image and not of the host: no other host would have more luck.
FINAL_REASONS = ("not_found", "wrong_digest", "bad_name")

ARGUMENTS: dict[str, Any] = {
    "image": {"type": "str", "required": True},
    "digest": {"type": "str"},
    "pull": {"type": "str", "choices": ["missing", "never", "always"], "default": "missing"},
    "dest": {"type": "str", "required": True},
    "registry_username": {"type": "str"},
    "registry_password": {"type": "str", "no_log": True},
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
    "docker_timeout_seconds": {"type": "int", "default": 120},
}
SWARM_ARGUMENTS = {
    name: hf_swarm.ARGUMENTS[name]
    for name in ("address", "port", "upload_mb_per_second", "download_mb_per_second", "stall_seconds")
}


class ActionModule(hf_swarm.ActionModule):
    """Brings the image to this host, with the workers of the other hosts."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        ActionBase.run(self, tmp, task_vars)
        _result, args = self.validate_argument_spec({**ARGUMENTS, **SWARM_ARGUMENTS})
        self._vars = task_vars or {}
        self._image = {name: args[name] for name in ARGUMENTS if name != "dest" and args[name] is not None}
        self._fetched: dict[str, Any] = {}  # by this host, from the registry
        try:
            reference = oci_registry.parse(args["image"])
            self._args = {
                **{name: option.get("default") for name, option in hf_swarm.ARGUMENTS.items()},
                **{name: args[name] for name in SWARM_ARGUMENTS},
                "repo_id": reference.repository,
                "cache_dir": args["dest"],
                "min_free_bytes": 0,
            }
            hosts = self._hosts()
            return self._hold(Rendezvous(self._folder(), self._vars["inventory_hostname"], hosts), len(hosts))
        except ValueError as error:
            return {"failed": True, "msg": str(error), "reason": "bad_name", "remedy": "Correct engine_image_name."}
        except SwarmError as error:
            if error.details:
                Display().vvv(error.details, host=self._vars["inventory_hostname"])
            return {"failed": True, "msg": str(error), "reason": error.reason, "remedy": error.remedy}

    def _hold(self, meet: Rendezvous, hosts: int) -> dict[str, Any]:
        try:
            agreed: dict[str, Any] = {}
            if self._image["pull"] == "always":  # a tag may have moved, for all hosts alike
                agreed = self._agree(meet)
            here = self._look(agreed.get("digest"))
            if not here["changed"] or self._task.check_mode:
                meet.say(gone="complete")
                return here
            agreed = agreed or self._agree(meet)
        except BaseException as error:
            meet.say(gone=str(error) or type(error).__name__)
            raise
        pinned = {**self._image, "digest": agreed["digest"], "pull": "missing"}
        self._agreed, self._args["revision"] = agreed, agreed["commit"]
        shared: dict[str, Any] = {}
        try:
            shared = self._worker(meet, hosts).run()
        except SwarmError as error:
            self._say(f"the registry is asked, for the image could not be shared: {error}")
        layout = {"layout": shared["snapshot_path"]} if shared else {}
        result = self._module("engine_image", **pinned, **layout)
        files = {"path": os.path.join(self._args["cache_dir"], folder_name(self._args["repo_id"])), "state": "absent"}
        self._execute_module("ansible.builtin.file", files, task_vars=self._vars)
        if not shared:
            return result
        return {
            **result,
            "source": self._fetched.get("source", "swarm"),
            "bytes_from_registry": self._fetched.get("bytes_fetched", 0),
            **{name: shared[name] for name in ("bytes_from_peers", "bytes_sent")},
        }

    def _look(self, digest: str | None) -> dict[str, Any]:
        """Whether the image is here; the registry is not asked."""
        wanted = {**self._image, **({"digest": digest, "pull": "missing"} if digest else {})}
        before, self._task.check_mode = self._task.check_mode, True
        try:
            return self._module("engine_image", **wanted)
        finally:
            self._task.check_mode = before

    # what all hosts agree on

    def _manifest(self, meet: Rendezvous) -> dict[str, Any]:
        return self._agreed

    def _agree(self, meet: Rendezvous) -> dict[str, Any]:
        """The image's digest and files, from the first host that could read the registry, which holds them then.

        A host that cannot read it itself waits for one that can, as long as there may be one. The first of those that
        lack the image gets a head start: it is the same one in a further run, and has what a killed run had read.
        """
        wanting = meet.gather("wanting", {}, JOIN_SECONDS)
        if next(iter(wanting)) != meet.host:
            time.sleep(HEAD_START_SECONDS)
        try:
            agreed = meet.once("image", self._fetch)
            meet.gather("tried", {}, 0)
        except SwarmError as refusal:
            meet.gather("tried", {}, JOIN_SECONDS)
            agreed = meet.once("image", partial(_raise, refusal))
        if "error" in agreed:
            raise SwarmError(*agreed["error"])
        return agreed

    def _fetch(self) -> dict[str, Any]:
        """Fetches the image's files to this host, and says what they are. Every other worker waits meanwhile."""
        self._say("fetches the image from its registry, for all hosts")
        folder = os.path.join(self._args["cache_dir"], folder_name(self._args["repo_id"]), "blobs")
        given = {name: value for name, value in self._image.items() if name != "pull"}
        try:
            self._fetched = self._module("engine_image_files", **given, dest=folder)
        except SwarmError as error:
            if error.reason in FINAL_REASONS:
                return {"error": [error.reason, error.message, error.remedy]}
            raise
        rate = self._fetched["bytes_fetched"] / 1e6 / max(0.001, self._fetched["seconds"])
        self._say(f"{self._fetched['bytes_fetched'] / 1e6:.0f} MB from {self._fetched['endpoint']}, {rate:.1f} MB/s")
        files = [
            HubFile(f"blobs/sha256/{digest}", file["size"], "", digest)
            for file in self._fetched["files"]
            for digest in [file["digest"].partition(":")[2]]
        ]
        return {
            "digest": self._fetched["digest"],
            "commit": self._fetched["digest"].partition(":")[2][:40],
            "listing": [dataclasses.asdict(file) for file in files],
            "paths": [file.path for file in files],
        }

    # the host

    def _module(self, name: str, **arguments: Any) -> dict[str, Any]:
        result = self._execute_module(f"preheat.fleet.{name}", arguments, task_vars=self._vars)
        if result.get("failed"):
            raise swarm_error(result)
        result.pop("invocation", None)
        return result

    def _say(self, text: str) -> None:
        host = self._vars["inventory_hostname"]
        Display().display(f"{time.strftime('%H:%M:%S')} {host} {self._image['image']}: {text}")


def _raise(error: SwarmError) -> dict[str, Any]:
    raise error
