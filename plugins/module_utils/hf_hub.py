# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Hub, asked through huggingface_hub 1.x or 2.x, with patience for errors that pass and plain words for others.

The library itself gives up at once on a 5xx, and accepts a file of the right size with wrong bytes; see
HubClient.download for what is added.
"""

from __future__ import annotations

import os
import random
import re
import time
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HubFile

TIMEOUT_SECONDS = 10
DELAY_SECONDS = (1.0, 30.0)  # of the first and of the last waits
RETRY_AFTER_LIMIT_SECONDS = 600.0  # the Hub counts requests per 5 minutes
TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)


class HubError(Exception):
    """What failed and what to do about it; reason is for programs."""

    def __init__(self, reason: str, message: str, remedy: str):
        super().__init__(f"{message} {remedy}")
        self.reason, self.message, self.remedy = reason, message, remedy


class WrongBytes(Exception):
    """A downloaded file does not have the hash that the Hub lists for it."""


def huggingface_hub():
    """The library, imported late, because it takes half a second, and told to keep quiet."""
    os.environ.update(
        HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_SYMLINKS_WARNING="1"
    )
    import huggingface_hub as library

    library.logging.set_verbosity_error()
    return library


class HubClient:
    def __init__(self, endpoint=None, token=None, retries=5, sleep=time.sleep):
        self._token, self._retries, self._sleep = token or None, retries, sleep
        self._endpoint = endpoint.rstrip("/") if endpoint else None
        if self._endpoint and not re.match("https?://[^/]", self._endpoint):
            raise HubError(
                "bad_name",
                f"endpoint '{endpoint}' is no URL.",
                "Give model_cache_endpoint (parameter endpoint) as https://HOST[:PORT].",
            )

    @property
    def endpoint(self) -> str:
        return self._endpoint or huggingface_hub().constants.ENDPOINT

    def commit(self, repo_id: str, revision: str) -> str:
        """The commit of a branch or tag. One request."""
        library = huggingface_hub()
        api = library.HfApi(endpoint=self.endpoint, token=self._token)
        with self._plain_errors(repo_id, revision):
            return self._retried(lambda: api.model_info(repo_id, revision=revision, timeout=TIMEOUT_SECONDS).sha)

    def tree(self, repo_id: str, commit: str) -> list[HubFile]:
        """All files of a commit. One request per 1000 of them."""
        url = f"{self.endpoint}/api/models/{repo_id}/tree/{commit}?recursive=true&expand=false"
        files: list[HubFile] = []
        with self._plain_errors(repo_id, commit):
            while url:
                page, url = self._retried(lambda url=url: self._page(url))
                files.extend(_hub_file(entry) for entry in page if entry["type"] == "file")
        return files

    def _page(self, url: str) -> tuple[list[dict], str | None]:
        # Not HfApi.list_repo_tree: it sets no timeout, and its own retries would multiply with ours.
        utils = huggingface_hub().utils
        headers = utils.build_hf_headers(token=self._token)
        response = utils.get_session().get(url, headers=headers, timeout=TIMEOUT_SECONDS)
        utils.hf_raise_for_status(response)
        return response.json(), response.links.get("next", {}).get("url")

    def download(self, repo_id: str, commit: str, file: HubFile, target: str, is_right) -> None:
        """The file's bytes at target, once is_right(target) says that they are the ones listed."""
        with self._plain_errors(repo_id, commit, file):
            self._retried(lambda: self._download(repo_id, commit, file, target, is_right))

    def _download(self, repo_id: str, commit: str, file: HubFile, target: str, is_right) -> None:
        library = huggingface_hub()
        from huggingface_hub import file_download

        url = library.hf_hub_url(repo_id, file.path, revision=commit, endpoint=self.endpoint)
        headers = library.utils.build_hf_headers(token=self._token)
        xet = None
        if file.xet_hash and file_download.is_xet_available():
            metadata = library.get_hf_file_metadata(
                url, token=self._token, timeout=TIMEOUT_SECONDS, endpoint=self.endpoint
            )
            xet = metadata.xet_file_data
        if xet:
            file_download.xet_get(
                incomplete_path=Path(target), xet_file_data=xet, headers=headers, expected_size=file.size
            )
        else:
            # The redirect to the CDN is followed without the token, because that is another origin.
            if os.path.exists(target) and os.path.getsize(target) > file.size:
                os.truncate(target, 0)
            with open(target, "ab") as stream:
                file_download.http_get(
                    url,
                    stream,
                    resume_size=stream.tell(),
                    headers={**headers, "Accept-Encoding": "identity"},
                    expected_size=file.size,
                )
        if not is_right(target):
            os.truncate(target, 0)
            raise WrongBytes(file.path)

    # patience

    def _retried(self, call):
        attempt = 0
        while True:
            try:
                return call()
            except Exception as error:
                if attempt >= self._retries or not _is_transient(error):
                    raise
                self._sleep(_delay(error, attempt))
            attempt += 1

    # plain words

    @contextmanager
    def _plain_errors(self, repo_id: str, revision: str, file: HubFile | None = None):
        try:
            yield
        except Exception as error:
            found = self._explain(error, repo_id, revision, file)
            if found is None:
                raise
            raise HubError(*found) from error

    def _explain(self, error: Exception, repo_id: str, revision: str, file: HubFile | None):
        """(reason, message, remedy) for what the Hub answered; None if it is no matter of the Hub."""
        errors = huggingface_hub().errors
        what = f"{file.path} of repo_id '{repo_id}'" if file else f"repo_id '{repo_id}'"
        token = "the given token" if self._token else "no token given (token)"
        status = _status(error)
        if isinstance(error, errors.GatedRepoError):
            return (
                "gated_repo",
                f"{what} is gated and may not be read with {token}.",
                f"Accept its licence at {self.endpoint}/{repo_id} with the account of the token, and set "
                "model_cache_token (parameter token) to a token that may read it.",
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return (
                "repo_not_found",
                f"{what} was not found at {self.endpoint}, with {token}.",
                "Check the spelling of repo_id (ORG/NAME); for a private repo set model_cache_token "
                "(parameter token) to a token that may read it.",
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return (
                "revision_not_found",
                f"{what} has no revision '{revision}'.",
                f"Use a branch, a tag or a commit of 40 digits that {self.endpoint}/{repo_id}/commits lists.",
            )
        if isinstance(error, errors.OfflineModeIsEnabled):
            return (
                "hub_unreachable",
                f"The Hub was not asked for {what}, because HF_HUB_OFFLINE is set in this environment.",
                "Unset HF_HUB_OFFLINE for this task.",
            )
        if isinstance(error, WrongBytes):
            return (
                "wrong_bytes",
                f"{what} came with bytes that do not have the hash the Hub lists, {self._retries + 1} times.",
                f"Look for a proxy or mirror that alters downloads between this host and {self.endpoint}.",
            )
        if _is_transient(error):
            detail = f"HTTP {status}" if status else f"{type(error).__name__}: {error}"
            return (
                "hub_unreachable",
                f"{self.endpoint} did not give {what} ({detail}; attempts: {self._retries + 1}).",
                "Check this host's network, its proxy settings and model_cache_endpoint (parameter endpoint); "
                "for HTTP 429 wait, or set model_cache_token, which raises the limit.",
            )
        if status in (401, 403):
            return (
                "unauthorized",
                f"{self.endpoint} refused {what} with HTTP {status}, with {token}.",
                "Set model_cache_token (parameter token) to a valid token with read access, "
                "or leave it empty for public repos.",
            )
        if status:
            return (
                "hub_error",
                f"{self.endpoint} answered HTTP {status} for {what}.",
                "Check model_cache_endpoint (parameter endpoint) and repo_id.",
            )
        return None


def _hub_file(entry: dict) -> HubFile:
    path = entry["path"]
    if path.startswith("/") or ".." in path.split("/") or "\\" in path:
        raise HubError("hub_error", f"The Hub lists the file path {path!r}.", "Do not use this endpoint or repo.")
    lfs = entry.get("lfs") or {}
    return HubFile(path, entry["size"], entry["oid"], lfs.get("oid"), entry.get("xetHash"))


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_transient(error: Exception) -> bool:
    status = _status(error)
    if status:
        return status in TRANSIENT_STATUS
    if isinstance(error, WrongBytes):
        return True
    if type(error).__name__ == "OfflineModeIsEnabled":
        return False
    # httpx (1.x) and httpx2 (2.x) share no class; the library's own size check raises a bare OSError.
    names = {kind.__name__ for kind in type(error).__mro__}
    short = type(error).__name__ == "OSError" and "Consistency check failed" in str(error)
    return short or isinstance(error, ConnectionError) or bool(names & {"TransportError", "TimeoutException"})


def _delay(error: Exception, attempt: int) -> float:
    """Seconds until the next attempt: what the Hub asks for, else doubling; never all hosts at the same moment."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    asked = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After", ""))
    asked = asked or re.search(r"r=0\s*;\s*t=(\d+)", headers.get("RateLimit", ""))
    if asked:
        return min(float(asked.group(1)), RETRY_AFTER_LIMIT_SECONDS) + random.uniform(0, 1)
    first, last = DELAY_SECONDS
    return min(first * 2**attempt, last) * random.uniform(0.5, 1)
