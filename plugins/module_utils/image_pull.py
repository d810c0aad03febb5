# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine tells while it pulls an image: bytes, phases, and the cause where it could not."""

from __future__ import annotations

import re
import time

# (reason for programs, what the engine's message contains, remedy). The first that fits counts.
_CAUSES = (
    (
        "no_space",
        r"no space left on device|disk quota exceeded",
        "Free space where the engine keeps its images ('docker info' says where, 'docker system df' what is there).",
    ),
    (
        "rate_limited",
        r"toomanyrequests|rate limit|\b429\b",
        "Wait, log in on this host ('docker login'), which raises the limit, or let hosts share one read of the "
        "registry (engine_image_source: swarm).",
    ),
    (
        "wrong_digest",
        r"manifest verification failed|filesystem layer verification failed|unexpected commit digest"
        r"|failed (digest )?verification|content does not match digest",
        "What came does not have the digest that names it: look for a proxy or mirror that alters downloads.",
    ),
    (
        "unauthorized",
        r"unauthorized|no basic auth credentials|authentication required|access to the resource is denied"
        r"|incorrect username or password|\b403\b",
        "Check the spelling (Docker Hub says the same of an image that is not there), log in on this host as the user "
        "of the task ('docker login'), or set engine_image_registry_username and engine_image_registry_password.",
    ),
    (
        "not_found",
        r"manifest unknown|not found|name unknown|no matching manifest|repository does not exist|no such image",
        "Check the spelling, the tag or digest, and that the registry has it for this machine's architecture.",
    ),
    (
        "registry_unreachable",
        r"connection refused|no such host|timeout|server misbehaving|network is unreachable|no route to host"
        r"|x509|tls|http response to https|connection reset|unexpected eof|EOF$|request canceled|50[0234]\b",
        "Check that the engine of this host reaches the registry (network, proxy, certificates in "
        "/etc/docker/certs.d). Without one, let the hosts share it (engine_image_source: swarm) or bring an archive "
        "(engine_image_archive).",
    ),
)
_OTHERWISE = (
    "Check the spelling and the tag, log in to the registry on this host, or load the image there with 'docker load' "
    "and set pull to never."
)


def explain(message):
    """(reason, remedy) of an engine's message about a pull that failed."""
    for reason, pattern, remedy in _CAUSES:
        if re.search(pattern, message, re.IGNORECASE):
            return reason, remedy
    return "pull_failed", _OTHERWISE


def remedy_for(reason):
    """The remedy of a reason that explain() gives."""
    return next((remedy for known, _pattern, remedy in _CAUSES if known == reason), _OTHERWISE)


class Progress:
    """Follows the events of one pull. phases() is C(download), up to the last byte, and C(extract), the rest."""

    def __init__(self, clock=time.time):
        self._clock = clock
        self._began = self._last_byte = self._ended = clock()
        self._got = {}
        self._sizes = {}

    def take(self, event):
        """An event of the engine's stream: {status, id, progressDetail {current, total}}."""
        self._ended = self._clock()
        layer, status, detail = event.get("id"), event.get("status") or "", event.get("progressDetail") or {}
        if status == "Downloading":
            self._got[layer] = detail.get("current", 0)
            self._sizes[layer] = detail.get("total") or 0
            self._last_byte = self._ended
        elif status in ("Verifying Checksum", "Download complete") and layer in self._got:
            # Events are thinned out: the last one before the end is not always told.
            self._got[layer] = max(self._got[layer], self._sizes[layer])
            self._last_byte = self._ended

    @property
    def bytes_pulled(self):
        return sum(self._got.values())

    def phases(self):
        """[{name, start, seconds, bytes?}] on this host's clock."""
        return [
            {
                "name": "download",
                "start": self._began,
                "seconds": round(self._last_byte - self._began, 3),
                "bytes": self.bytes_pulled,
            },
            {"name": "extract", "start": self._last_byte, "seconds": round(self._ended - self._last_byte, 3)},
        ]
