# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action plugin: one host's worker in a swarm. The workers of all hosts run at once and meet in a folder."""

from __future__ import annotations

import hashlib
import json
import socket
import time
import uuid
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.preheat.fleet.plugins.module_utils.hf_arguments import SNAPSHOT_ARGUMENTS
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import Selection
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_identity, swarm_manifest
from ansible_collections.preheat.fleet.plugins.plugin_utils.module_failure import swarm_error
from ansible_collections.preheat.fleet.plugins.plugin_utils.progress import interval_seconds
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import NoAgent, SwarmError
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import Rendezvous
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_worker import JOIN_SECONDS, Worker

LEASE_SECONDS = 60

ARGUMENTS: dict[str, Any] = {
    **SNAPSHOT_ARGUMENTS,
    "cache_dir": {"type": "str"},  # a path of the host, which must not be expanded here
    "revision": {"type": "str", "default": "main"},
    "connections": {"type": "int", "default": 8},
    "address": {"type": "str"},
    "port": {"type": "int", "default": 0},
    "upload_mb_per_second": {"type": "float", "default": 0},
    "download_mb_per_second": {"type": "float", "default": 0},
    "stall_seconds": {"type": "int", "default": 120},
    "transport": {"type": "str", "choices": ["auto", "https"], "default": "auto"},
}
# What all workers of a swarm agree on.
COMMON = ("repo_id", "revision", "allow_patterns", "ignore_patterns", "allow_pickle", "endpoint", "fallback_endpoints")
# What the host is told as it was given.
SAME = (
    "repo_id", "revision", "cache_dir", "verify", "connections", "retries", "min_free_bytes", "address", "port",
    "stall_seconds", "fallback_endpoints",
)  # fmt: skip


class ActionModule(ActionBase):
    """Holds the snapshot on this host, with the workers of the other hosts."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(ARGUMENTS)
        self._args, self._vars = args, task_vars or {}
        known = {name: args[name] for name in ("repo_id", "revision")}
        try:
            hosts = self._hosts()
            meet = Rendezvous(self._folder(), self._vars["inventory_hostname"], hosts)
            report = self._worker(meet, len(hosts)).run()
        except SwarmError as error:
            if error.details:
                Display().vvv(error.details, host=self._vars["inventory_hostname"])
            return {"failed": True, "msg": str(error), "reason": error.reason, "remedy": error.remedy, **known}
        difference = report.pop("diff")
        report.update(self._trust(report))
        return {**report, **known, **({"diff": difference} if self._task.diff else {})}

    def _trust(self, report: dict[str, Any]) -> dict[str, Any]:
        """What the files were checked against, said aloud if it was not the Hub's word of now."""
        hosts = self._found.get("hosts")
        if not hosts:
            return {"listing_from": "hub"}
        names = ", ".join(hosts[:3]) + (" and others" if hosts[3:] else "")
        text = (
            f"{self._found['warning']} Checked against the listing of commit {report['commit']} that was recorded on "
            f"{names} earlier; a branch may have moved since."
        )
        return {"listing_from": "hosts", "warnings": [*report["warnings"], text]}

    def _hosts(self) -> list[str]:
        hosts = list(self._vars["ansible_play_batch"])
        forks = int(self._vars.get("ansible_forks", 5))
        at_once = min(forks, self._task.throttle or forks)
        if at_once < len(hosts):
            what = f"{at_once} hosts at once are too few (forks, or the task's throttle): {len(hosts)} share a swarm."
            remedy = f"Run with --forks {len(hosts)}, or set forks in ansible.cfg."
            raise SwarmError("too_few_forks", what, remedy)
        return hosts

    def _folder(self) -> Path:
        """Of this task and these arguments; Ansible removes its temporary folder at its end."""
        common = json.dumps([self._task._uuid, *(self._args[name] for name in COMMON)])
        name = hashlib.sha256(common.encode()).hexdigest()[:16]
        return Path(constants.DEFAULT_LOCAL_TMP) / f"preheat-swarm-{name}"

    def _ask_hub(self) -> dict[str, Any]:
        """The manifest, or why there is none. One worker does it for all."""
        args = self._args
        try:
            return swarm_manifest.resolve(
                args["repo_id"],
                args["revision"],
                endpoint=args["endpoint"],
                fallbacks=args["fallback_endpoints"] or (),
                token=args["token"],
                selection=self._selection(),
                retries=args["retries"],
            )
        except HubError as error:
            return _as_dict(error)

    def _selection(self) -> Selection:
        return Selection(*(self._args[name] for name in ("allow_patterns", "ignore_patterns", "allow_pickle")))

    def _manifest(self, meet: Rendezvous) -> dict[str, Any]:
        """What the hosts are to hold: the Hub's word, and if it cannot be reached, what hosts have recorded of that."""
        manifest = meet.once("manifest", self._ask_hub)
        if manifest.get("reason") == "hub_unreachable":
            try:
                here = self._call({name: self._args[name] for name in SAME} | {"action": "recorded"})
            except BaseException as error:
                meet.say(gone=str(error) or type(error).__name__)
                raise
            said = meet.gather("recorded", here, JOIN_SECONDS)
            manifest = meet.once("recorded", lambda: self._recorded(said, manifest))
        if "reason" in manifest:
            raise SwarmError(manifest["reason"], manifest["message"], manifest["remedy"])
        return manifest

    def _recorded(self, said: dict[str, dict[str, Any]], no_hub: dict[str, Any]) -> dict[str, Any]:
        try:
            found = swarm_manifest.recorded(said, self._args["repo_id"], self._selection())
        except HubError as error:
            return _as_dict(error)
        return {**found, "warning": no_hub["message"]} if found else no_hub

    def _worker(self, meet: Rendezvous, hosts: int) -> Worker:
        own = meet.once(
            "swarm", lambda: {"run": uuid.uuid4().hex, "secret": uuid.uuid4().hex, "identity": swarm_identity.make()}
        )
        args = self._args
        self._secrets = {name: own[name] for name in ("secret", "identity")}
        self._found = self._manifest(meet)
        request = {
            **{name: args[name] for name in SAME},
            "candidates": self._candidates(),
            "run": own["run"],
            "upload_bytes_per_second": int(args["upload_mb_per_second"] * 1e6),
            "download_bytes_per_second": int(args["download_mb_per_second"] * 1e6),
            "torrent": args["transport"] == "auto",
            "lease_seconds": LEASE_SECONDS,
        }
        host = self._vars["inventory_hostname"]
        return Worker(
            meet,
            {name: self._found[name] for name in ("commit", "listing", "paths", "origin") if name in self._found},
            self._call,
            request=request,
            token=args["token"],
            endpoint=args["endpoint"],
            stall_seconds=args["stall_seconds"],
            say=lambda text: Display().display(f"{time.strftime('%H:%M:%S')} {host} {args['repo_id']}: {text}"),
            progress_seconds=interval_seconds(hosts),
            check=self._task.check_mode,
        )

    def _candidates(self) -> list[str]:
        """Where Ansible reaches the host, as the controller sees it: hosts often find their own name at 127.0.1.1."""
        try:
            name = self._vars.get("ansible_host") or self._vars["inventory_hostname"]
            return [str(found[4][0]) for found in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)]
        except OSError:
            return []

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        said = dict(request.get("said") or {})
        token = said.pop("token", None)
        arguments = {"request": {**request, **({"said": said} if "said" in request else {})}, **self._secrets}
        result = self._execute_module(
            module_name="preheat.fleet.hf_swarm_peer",
            module_args={**arguments, **({"token": token} if token else {})},
            task_vars=self._vars,
        )
        if result.get("no_agent"):
            raise NoAgent(result["no_agent"])
        if result.get("failed"):
            raise swarm_error(result)
        return result["answer"]


def _as_dict(error: HubError) -> dict[str, Any]:
    return {"reason": error.reason, "message": f"The controller asked: {error.message}", "remedy": error.remedy}
