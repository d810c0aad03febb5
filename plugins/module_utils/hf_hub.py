# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Hub, asked through huggingface_hub 1.x or 2.x, with patience for errors that pass and plain words for others.

The library itself gives up at once on a 5xx. Files are fetched by hf_fetch.
"""

from __future__ import annotations

import copy
import os
import re
import threading
import time

from ansible_collections.preheat.fleet.plugins.module_utils import hf_errors
from ansible_collections.preheat.fleet.plugins.module_utils.hf_errors import HubError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_files import HUB, HubFile, is_inside

__all__ = ["HubClient", "HubError", "huggingface_hub"]

TIMEOUT_SECONDS = 10


def huggingface_hub():
    """The library, imported late, because it takes half a second, and told to keep quiet."""
    os.environ.update(
        HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_SYMLINKS_WARNING="1"
    )
    import huggingface_hub as library

    library.logging.set_verbosity_error()
    return library


class HubClient:
    """The Hub at `endpoint`, and where it gives nothing, at the fallback endpoints, each in turn. They get the token
    too, if there is one."""

    origin = HUB  # of the listings it gives

    def __init__(self, endpoint=None, token=None, retries=5, sleep=time.sleep, fallbacks=()):
        self.token, self._retries, self._sleep = token or None, retries, sleep
        self._endpoints = [_checked(each, "model_cache_endpoint (parameter endpoint)") for each in [endpoint] if each]
        name = "model_cache_fallback_endpoints (parameter fallback_endpoints)"
        self._fallbacks = [_checked(each, name) for each in fallbacks or ()]
        self._lock = threading.Lock()

    def hasty(self) -> HubClient:
        """The same, for who has another way: asks once more, not often."""
        other = copy.copy(self)
        other._retries = min(1, self._retries)
        return other

    @property
    def endpoints(self) -> list[str]:
        """In the order in which to ask them: one that did not answer goes to the end."""
        with self._lock:
            if not self._endpoints:
                self._endpoints = [huggingface_hub().constants.ENDPOINT]
            self._endpoints += [each for each in self._fallbacks if each not in self._endpoints]
            return list(self._endpoints)

    def commit(self, repo_id: str, revision: str) -> str:
        """The commit of a branch or tag. One request."""
        library = huggingface_hub()

        def ask(endpoint: str) -> str:
            api = library.HfApi(endpoint=endpoint, token=self.token)
            return api.model_info(repo_id, revision=revision, timeout=TIMEOUT_SECONDS).sha

        return self.patiently(repo_id, revision, ask)

    def tree(self, repo_id: str, commit: str) -> list[HubFile]:
        """All files of a commit. One request per 1000 of them."""
        path = f"/api/models/{repo_id}/tree/{commit}?recursive=true&expand=false"
        files: list[HubFile] = []
        url: str | None = ""
        while url is not None:
            page, url = self.patiently(repo_id, commit, lambda endpoint, url=url: self._page(url or endpoint + path))
            files.extend(_hub_file(entry) for entry in page if entry["type"] == "file")
        return files

    def _page(self, url: str) -> tuple[list[dict], str | None]:
        # Not HfApi.list_repo_tree: it sets no timeout, and its own retries would multiply with ours.
        utils = huggingface_hub().utils
        headers = utils.build_hf_headers(token=self.token)
        response = utils.get_session().get(url, headers=headers, timeout=TIMEOUT_SECONDS)
        utils.hf_raise_for_status(response)
        return response.json(), response.links.get("next", {}).get("url")

    def log_in(self) -> bool:
        """Take the token of this host's environment or login, if there is one."""
        self.token = huggingface_hub().get_token()
        return bool(self.token)

    # patience

    def patiently(self, repo_id: str, revision: str, call, file: HubFile | None = None, moved=lambda: False):
        """call(endpoint), repeated while it fails in a way that may pass, at one endpoint after the other; what an
        endpoint refuses, the next may give. moved(): whether the last call got on, so that counting begins anew.
        Raises HubError; an error that is no matter of the Hub stays what it is."""
        path, failures = file.path if file else None, 0
        refusals: dict[str, HubError] = {}
        while True:
            endpoints = [each for each in self.endpoints if each not in refusals]
            try:
                return call(endpoints[0])
            except Exception as error:
                failures = 1 if moved() else failures + 1
                said = hf_errors.explain(
                    error,
                    endpoints[0],
                    repo_id=repo_id,
                    revision=revision,
                    path=path,
                    attempts=failures,
                    token=self.token,
                )
                if said is None:
                    raise
                if hf_errors.is_transient(error):
                    if failures > max(self._retries, len(endpoints) - 1):
                        raise HubError(*said) from error
                    self._put_last(endpoints[0])
                    self._sleep(hf_errors.delay(error, failures - 1))
                    continue
                refusals[endpoints[0]] = HubError(*said)
                if len(endpoints) == 1:
                    raise next(iter(refusals.values())) from error

    def _put_last(self, endpoint: str) -> None:
        """Unless another thread has done so already."""
        with self._lock:
            if self._endpoints[0] == endpoint:
                self._endpoints.append(self._endpoints.pop(0))


def _checked(endpoint: str, name: str) -> str:
    if not re.match("https?://[^/]", endpoint):
        raise HubError("bad_name", f"endpoint '{endpoint}' is no URL.", f"Give {name} as https://HOST[:PORT].")
    return endpoint.rstrip("/")


def _hub_file(entry: dict) -> HubFile:
    path = entry["path"]
    if not is_inside(path):
        raise HubError("hub_error", f"The Hub lists the file path {path!r}.", "Do not use this endpoint or repo.")
    lfs = entry.get("lfs") or {}
    return HubFile(path, entry["size"], entry["oid"], lfs.get("oid"), entry.get("xetHash"))
