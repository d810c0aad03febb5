# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with the Hub: which errors may pass, how long to wait, and plain words for each. No library needed.

Errors come from huggingface_hub (httpx, httpx2) and from urllib; they are told apart by their names and by what the Hub
says in X-Error-Code.
"""

from __future__ import annotations

import errno
import http.client
import random
import re
import ssl
import urllib.error

DELAY_SECONDS = (1.0, 30.0)  # of the first and of the last waits
RETRY_AFTER_LIMIT_SECONDS = 600.0  # the Hub counts requests per 5 minutes
TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)
TRANSIENT_ERRNO = (errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT)


class HubError(Exception):
    """What failed and what to do about it; reason is for programs."""

    def __init__(self, reason: str, message: str, remedy: str):
        super().__init__(f"{message} {remedy}")
        self.reason, self.message, self.remedy = reason, message, remedy


class WrongBytes(Exception):
    """A downloaded file does not have the hash that the Hub lists for it."""


class NoRanges(Exception):
    """A server sent a whole file when a part was asked for."""


class Stalled(ConnectionError):
    """A transfer was cut, because no byte came for a set time."""


class Offline(Exception):
    """HF_HUB_OFFLINE is set; as the library's OfflineModeIsEnabled."""


def status(error: Exception) -> int | None:
    """Of an HTTP answer that is an error."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code
    return getattr(getattr(error, "response", None), "status_code", None)


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed if it is made again."""
    if status(error):
        return status(error) in TRANSIENT_STATUS
    if _is_offline(error):
        return False
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return False
    if isinstance(cause, (WrongBytes, ConnectionError, TimeoutError, http.client.HTTPException, ssl.SSLError)):
        return True
    if isinstance(error, urllib.error.URLError) or getattr(error, "errno", None) in TRANSIENT_ERRNO:
        return True
    # httpx (1.x) and httpx2 (2.x) share no class.
    return bool(_names(error) & {"TransportError", "TimeoutException"})


def delay(error: Exception, attempt: int) -> float:
    """Seconds until the next attempt: what the Hub asks for, else doubling; never all hosts at the same moment."""
    headers = _headers(error)
    asked = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After") or "")
    asked = asked or re.search(r"r=0\s*;\s*t=(\d+)", headers.get("RateLimit") or "")
    if asked:
        return min(float(asked.group(1)), RETRY_AFTER_LIMIT_SECONDS) + random.uniform(0, 1)
    return backoff(attempt)


def backoff(attempt: int) -> float:
    """Seconds of the wait after an attempt, counted from 0: doubling, and at random, so that hosts come apart."""
    first, last = DELAY_SECONDS
    return min(first * 2**attempt, last) * random.uniform(0.5, 1)


def explain(error: Exception, endpoint: str, *, repo_id: str, revision: str, path: str | None, attempts: int, token):
    """(reason, message, remedy) for what the endpoint answered when it was asked for a repo, or the file at path in it;
    None if it is no matter of the Hub. attempts: how often it was asked."""
    what = f"{path} of repo_id '{repo_id}'" if path else f"repo_id '{repo_id}'"
    token = "the given token" if token else "no token given (token)"
    code, names = _headers(error).get("X-Error-Code"), _names(error)
    if code == "GatedRepo" or "GatedRepoError" in names:
        return (
            "gated_repo",
            f"{what} is gated and may not be read with {token}.",
            f"Accept its licence at {endpoint}/{repo_id} with the account of the token, and set "
            "model_cache_token (parameter token) to a token that may read it.",
        )
    if code == "RepoNotFound" or "RepositoryNotFoundError" in names:
        return (
            "repo_not_found",
            f"{what} was not found at {endpoint}, with {token}.",
            "Check the spelling of repo_id (ORG/NAME); for a private repo set model_cache_token "
            "(parameter token) to a token that may read it.",
        )
    if code == "RevisionNotFound" or "RevisionNotFoundError" in names:
        return (
            "revision_not_found",
            f"{what} has no revision '{revision}'.",
            f"Use a branch, a tag or a commit of 40 digits that {endpoint}/{repo_id}/commits lists.",
        )
    if _is_offline(error):
        return (
            "hub_unreachable",
            f"The Hub was not asked for {what}, because HF_HUB_OFFLINE is set in this environment.",
            "Unset HF_HUB_OFFLINE for this task.",
        )
    if isinstance(error, WrongBytes):
        return (
            "wrong_bytes",
            f"{what} came with bytes that do not have the hash the Hub lists, {attempts} times.",
            f"Look for a proxy or mirror that alters downloads between this host and {endpoint}.",
        )
    if isinstance(error, Stalled):
        return (
            "stalled",
            f"{endpoint} sent no byte of {what} in {error} (attempts: {attempts}).",
            "Check this host's network and its proxy settings; raise model_cache_stall_seconds (parameter "
            "stall_seconds) if the line is just slow, or name another way: model_cache_fallback_endpoints, "
            "model_cache_seed. What has arrived is kept for the next run.",
        )
    if is_transient(error):
        detail = f"HTTP {status(error)}" if status(error) else f"{type(error).__name__}: {error}"
        return (
            "hub_unreachable",
            f"{endpoint} did not give {what} ({detail}; attempts: {attempts}).",
            "Check this host's network, its proxy settings and model_cache_endpoint (parameter endpoint); "
            "for HTTP 429 wait, or set model_cache_token, which raises the limit.",
        )
    if status(error) in (401, 403):
        return (
            "unauthorized",
            f"{endpoint} refused {what} with HTTP {status(error)}, with {token}.",
            "Set model_cache_token (parameter token) to a valid token with read access, "
            "or leave it empty for public repos.",
        )
    if status(error):
        return (
            "hub_error",
            f"{endpoint} answered HTTP {status(error)} for {what}.",
            "Check model_cache_endpoint (parameter endpoint) and repo_id.",
        )
    if isinstance(error, NoRanges):
        return (
            "hub_error",
            f"{endpoint} sent the whole of {what} when it was asked for a part.",
            "Use a mirror, or a proxy, that answers requests with Range.",
        )
    if isinstance(error, urllib.error.URLError):
        return (
            "hub_error",
            f"{endpoint} cannot be trusted for {what}: {error.reason}.",
            "Install the certificate authority that signed its certificate (ca-certificates, or SSL_CERT_FILE).",
        )
    return None


def _headers(error: Exception):
    source = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "response", None)
    return getattr(source, "headers", None) or {}


def _names(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _is_offline(error: Exception) -> bool:
    return bool(_names(error) & {"Offline", "OfflineModeIsEnabled"})
