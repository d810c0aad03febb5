# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One host's worker in a swarm, on the controller: talks to its own host, and to the other workers by the rendezvous.

How the host is reached is the caller's affair: call(request) gives the answer of swarm_peer.handle() there.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_manifest, swarm_plan
from ansible_collections.preheat.fleet.plugins.plugin_utils.progress import Meter
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_errors import NoAgent, SwarmError
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_news import News
from ansible_collections.preheat.fleet.plugins.plugin_utils.swarm_rendezvous import Rendezvous

LOOK_SECONDS = 0.1  # how often the rendezvous is looked at
POLL_SECONDS = 2.0  # how often a host is asked that nothing is expected of
LONG_POLL_SECONDS = 1.0
JOIN_SECONDS = 60.0  # how long the first hosts wait for the last
RESTARTS = 3


# Errors of the Hub: another host may have more luck.
HUB_REASONS = (
    "gated_repo", "repo_not_found", "revision_not_found", "unauthorized", "hub_unreachable", "hub_error",
    "stalled",
)  # fmt: skip


@dataclass
class Progress:
    """What a host's agents have reported; an agent that was replaced keeps its share."""

    before: dict[str, int] = field(default_factory=dict)
    now: dict[str, Any] = field(default_factory=dict)

    def replace(self) -> None:
        self.before = {name: self.total(name) for name in ("bytes_from_hub", "bytes_from_peers", "bytes_sent")}
        self.now = {}

    def total(self, name: str) -> int:
        return self.before.get(name, 0) + self.now.get(name, 0)


class Worker:
    def __init__(
        self,
        rendezvous: Rendezvous,
        manifest: dict[str, Any],
        call: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        request: dict[str, Any],
        token: str | None = None,
        endpoint: str | None = None,
        stall_seconds: float = 120.0,
        say: Callable[[str], None] = lambda text: None,
        progress_seconds: float = 5.0,
        check: bool = False,
    ):
        self._meet, self._host = rendezvous, rendezvous.host
        self._call_host, self._check = call, check
        self._request = {**request, "manifest": manifest, "alone": len(rendezvous.hosts) == 1}
        self._hub = {"token": token, "endpoint": endpoint}
        self._sizes = swarm_manifest.sizes(manifest)
        self._etags = set(self._sizes)
        self._stall_seconds, self._say, self._progress_seconds = stall_seconds, say, progress_seconds
        self._progress = Progress()
        self._facts: dict[str, Any] = {}
        self._restarts, self._rescued = 0, False

    def run(self) -> dict[str, Any]:
        """The host's report once it is complete and no longer needed. Raises SwarmError."""
        begin = time.monotonic()
        try:
            looked = self._call("inspect")
            if self._check:
                return self._report(looked["report"], looked["report"], time.monotonic() - begin)
            self._tell(have=looked["have"], initial=looked["have"], torrent=looked["torrent"], port=0)
            self._wait_for_all()
            members = self._meet.members()
            first = looked["report"]
            if swarm_plan.takes_part(members, self._host, self._etags):
                self._serve()
            self._tell(gone="complete")
            # A host that had everything, with its links and its branch, needs no second call.
            last = self._call("finish")["report"] if first["changed"] or self._progress.now else first
        except BaseException as error:
            self._tell(gone=str(error) or type(error).__name__)
            raise
        if last["bytes_to_fetch"]:
            raise SwarmError("incomplete", f"{last['bytes_to_fetch']} bytes are missing at the end.", "Run again.")
        return self._report(first, last, time.monotonic() - begin)

    def _wait_for_all(self) -> None:
        """The seed is chosen, and a host that lacks nothing leaves, only once it is known who holds what."""
        until = time.monotonic() + JOIN_SECONDS
        while self._meet.missing() and time.monotonic() < until:
            self._meet.beat()
            time.sleep(LOOK_SECONDS)

    def _tell(self, **facts: Any) -> None:
        self._facts = {**self._facts, **facts}
        self._meet.say(**self._facts)

    def _call(self, action: str, **more: Any) -> dict[str, Any]:
        self._meet.beat()
        # What the agent has been told once is not sent again with every question.
        known = self._request if action != "sync" else {name: self._request[name] for name in ("run", "cache_dir")}
        answer = self._call_host({**known, "action": action, **more})
        self._meet.beat()
        return answer

    # the swarm

    def _start(self) -> None:
        self._news = News(self._meet, self._sizes, self._hub)
        self._seen = 0
        self._progress.replace()
        said = self._news.of_hub(self._meet.members())
        started = self._call("start", said=said)
        here = {name: started[name] for name in ("address", "port", "https_port", "serves")}
        if started["no_torrent"]:
            self._say(f"whole files over HTTPS: no libtorrent here ({started['no_torrent']})")
        self._tell(have=started["have"], initial=started["have"], **here)

    def _serve(self) -> None:
        self._start()
        self._moved = self._said = time.monotonic()
        self._meter = Meter()
        asked = 0.0
        while True:
            members = self._meet.members()
            # A host that others took for gone, or that has had no answer for long, is still its own member.
            if swarm_plan.all_complete(members, self._etags):
                return
            news = self._news.next(members, self._facts)
            expecting = self._news.is_expected(self._facts)
            if news or expecting or time.monotonic() - asked >= POLL_SECONDS:
                self._sync(news, LONG_POLL_SECONDS if expecting else 0)
                asked = time.monotonic()
            else:
                time.sleep(LOOK_SECONDS)

    def _sync(self, news: dict[str, Any], wait_seconds: float) -> None:
        said = {**news, "seen": self._seen, "wait_seconds": wait_seconds}
        try:
            answer = self._call("sync", said=said)
        except NoAgent as error:
            self._restart(f"its agent ended ({error})")
            return
        for made in answer["made"]:
            for kind in {"torrent", "content"} & set(made):
                self._meet.publish(f"{kind}s", made["etag"], base64.b64decode(made[kind]))
        self._seen = answer["seen"]
        if answer["bytes_done"] != self._progress.now.get("bytes_done") or answer["made"]:
            self._moved = time.monotonic()
        self._progress.now = answer
        facts = {name: answer[name] for name in ("have", "serves", "https_port")}
        if any(self._facts[name] != fact for name, fact in facts.items()):
            self._tell(**facts)
        if answer["error"]:
            self._fail_or_restart(answer["error"])
        self._watch()

    def _fail_or_restart(self, error: dict[str, Any]) -> None:
        if error["reason"] not in HUB_REASONS:
            self._call("stop")
            raise SwarmError(error["reason"], error["message"], error["remedy"], error["traceback"])
        self._tell(hub_error={name: error[name] for name in ("reason", "message", "remedy")})
        self._call("stop")
        self._restart(f"it could not read the Hub ({error['message']})")

    def _restart(self, why: str) -> None:
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise SwarmError("agent", f"The agent of this host ended {self._restarts} times.", "Look at its memory.")
        self._say(f"starts again: {why}")
        self._start()

    def _watch(self) -> None:
        """Say how it goes; where peers give nothing although they should, ask the Hub; where it gives nothing, fail."""
        now = time.monotonic()
        waiting = self._news.awaited(self._facts)
        if not waiting:
            self._moved = now
        if now - self._moved > self._stall_seconds:
            if self._rescued:
                self._call("stop")
                raise SwarmError(
                    "stalled",
                    f"No byte arrived in twice {self._stall_seconds:.0f} s, neither from peers (this host's address is "
                    f"{self._facts['address']}) nor from the Hub.",
                    "Check that hosts reach each other there (model_cache_swarm_address, model_cache_swarm_port, "
                    "firewalls), or use model_cache_source: hub.",
                )
            self._say(f"no byte from peers in {self._stall_seconds:.0f} s: the Hub is asked for the rest")
            self._rescued, self._moved = True, now
            self._sync(self._news.rescue(waiting), 0)
            return
        if now - self._said >= self._progress_seconds:
            self._say(self._line())
            self._said = now

    def _line(self) -> str:
        total, done = sum(self._sizes.values()), self._progress.now.get("bytes_done", 0)
        received = self._progress.total("bytes_from_hub") + self._progress.total("bytes_from_peers")
        return self._meter.line(done, total, "hub" if self._news.reads_hub else "peers", moved=received)

    def _report(self, first: dict[str, Any], last: dict[str, Any], seconds: float) -> dict[str, Any]:
        hub, peers = self._progress.total("bytes_from_hub"), self._progress.total("bytes_from_peers")
        kinds = [name for name, size in (("hub", hub), ("swarm", peers)) if size]
        fetched_all = first["bytes_to_fetch"] == first["bytes_total"]
        return {
            **first,
            "bytes_fetched": hub + peers,
            "bytes_from_hub": hub,
            "bytes_from_peers": peers,
            "bytes_sent": self._progress.total("bytes_sent"),
            "seconds": round(seconds, 3),
            "mb_per_second": round(first["bytes_to_fetch"] / 1e6 / seconds, 1) if hub + peers else 0.0,
            "source": "+".join(kinds) or "cache",
            "verified": "hash" if fetched_all else last["verified"],
        }
