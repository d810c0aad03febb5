"""What a test asks of the Hub for tests: faults, a bandwidth limit, who may read what, and who read how much."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass

SHORTHANDS = {
    "429": {"kind": "status", "status": 429},
    "auth": {"kind": "status", "status": 401, "error_code": "GatedRepo"},
}
KINDS = ("drop", "status", "wrong_bytes", "truncate", "stall")
LOG_LENGTH = 10000


@dataclass
class Fault:
    """kind drop: the connection ends after after_bytes of the body. status: answers status instead (with
    error_code as X-Error-Code, retry_after as Retry-After). wrong_bytes: right length, but bytes from
    after_bytes on differ. truncate: a complete answer of only after_bytes. stall: waits seconds after after_bytes.

    It hits requests whose path (CDN paths start with /cdn/) matches the pattern `match` and whose method
    matches `method`, `count` times (None: for ever)."""

    kind: str
    match: str = ""
    method: str = "GET|HEAD"
    count: int | None = 1
    after_bytes: int = 0
    status: int = 503
    error_code: str | None = None
    retry_after: int | None = None
    seconds: float = 1.0

    @classmethod
    def parse(cls, given: dict) -> Fault:
        given = {**given, **SHORTHANDS.get(str(given.get("kind")), {})}
        if given.get("kind") not in KINDS:
            raise ValueError(f"kind {given.get('kind')!r} is unknown; known: {', '.join([*KINDS, *SHORTHANDS])}")
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}; known: {', '.join(cls.__dataclass_fields__)}")
        return cls(**given)


class Control:
    """Shared by all connections; every method may be called from any thread."""

    def __init__(self, mb_per_second: float | None = None):
        self._lock = threading.Lock()
        self._next_send = 0.0
        self.mb_per_second = mb_per_second
        self.reset()

    def reset(self) -> None:
        """Forget counters, faults and access rules; the limit stays."""
        with self._lock:
            self._faults: list[Fault] = []
            self._access: dict[str, dict] = {}
            self._counts: dict[str, dict] = {
                key: defaultdict(lambda: {"requests": 0, "bytes": 0}) for key in ("sides", "repos", "clients", "files")
            }
            self._client_repos: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
            self._cdn_authorizations = 0
            self._log: list[dict] = []

    # faults and bandwidth

    def add_fault(self, **fields) -> None:
        fault = Fault.parse(fields)
        with self._lock:
            self._faults.append(fault)

    def clear_faults(self) -> None:
        with self._lock:
            self._faults = []

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.count != 0 and re.fullmatch(fault.method, method) and re.search(fault.match, path):
                    if fault.count is not None:
                        fault.count -= 1
                    return fault
        return None

    def pace(self, size: int) -> None:
        """Wait so long that all connections together stay below the limit."""
        with self._lock:
            if not self.mb_per_second:
                return
            now = time.monotonic()
            self._next_send = max(self._next_send, now) + size / (self.mb_per_second * 1e6)
            wait = self._next_send - now
        time.sleep(wait)

    # access

    def restrict(
        self, repo: str, kind: str = "gated", tokens: tuple | list = (), other_tokens: tuple | list = ()
    ) -> None:
        """Only `tokens` may read the repo; `other_tokens` are valid on this Hub, but not for it."""
        if kind not in ("gated", "private"):
            raise ValueError(f"kind {kind!r} is unknown; known: gated, private")
        with self._lock:
            self._access[repo] = {"kind": kind, "tokens": set(tokens), "other_tokens": set(other_tokens)}

    def refusal(self, repo: str, token: str | None, content: bool) -> tuple[int, str | None, str] | None:
        """(status, X-Error-Code, X-Error-Message) as the Hub answers; None if the token may read the repo.

        Where no test has restricted anything, any token will do. The listing of a gated repo is public, its content
        (`content`) is not.
        """
        with self._lock:
            rule = self._access.get(repo)
            valid = set().union(*(each["tokens"] | each["other_tokens"] for each in self._access.values()))
            checked = bool(self._access)
        if token and checked and token not in valid:
            return 401, None, "Invalid credentials in Authorization header"
        if not rule or token in rule["tokens"]:
            return None
        if rule["kind"] == "private":
            return (404 if token else 401), "RepoNotFound", "Repository not found"
        if not content:
            return None
        return (403 if token else 401), "GatedRepo", f"Access to model {repo} is restricted"

    # counters

    def count_request(
        self, side: str, client: str, *, method: str, target: str, repo: str, path: str, authorized: bool
    ) -> None:
        with self._lock:
            for count in self._buckets(side, client, repo, path):
                count["requests"] += 1
            if side == "cdn" and authorized:
                self._cdn_authorizations += 1
            if len(self._log) < LOG_LENGTH:
                self._log.append({"side": side, "client": client, "method": method, "target": target})

    def count_bytes(self, side: str, client: str, repo: str, path: str, size: int) -> None:
        with self._lock:
            for count in self._buckets(side, client, repo, path):
                count["bytes"] += size
            if repo:
                self._client_repos[client][repo] += size

    def _buckets(self, side: str, client: str, repo: str, path: str) -> list[dict]:
        counts = self._counts
        buckets = [counts["sides"][side], counts["clients"][client]]
        if repo:
            buckets.append(counts["repos"][repo])
        if path:
            buckets.append(counts["files"][f"{repo}/{path}"])
        return buckets

    def stats(self) -> dict:
        with self._lock:
            sides, repos, clients, files = (
                {name: dict(count) for name, count in self._counts[key].items()}
                for key in ("sides", "repos", "clients", "files")
            )
            for client, by_repo in self._client_repos.items():
                clients[client]["repos"] = dict(by_repo)
            return {
                "requests": sum(side["requests"] for side in sides.values()),
                "bytes": sum(side["bytes"] for side in sides.values()),
                "sides": {"api": {"requests": 0, "bytes": 0}, "cdn": {"requests": 0, "bytes": 0}, **sides},
                "repos": repos,
                "clients": clients,
                "files": files,
                "cdn_authorizations": self._cdn_authorizations,
                "log": list(self._log),
            }
