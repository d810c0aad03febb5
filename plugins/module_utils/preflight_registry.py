# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an image could be pulled, as the engine learns from the registry; nothing is pulled."""

from __future__ import annotations

import base64
import json
import os
from urllib.parse import quote

DOCKER_HUB = "https://index.docker.io/v1/"


def refusal(engine, image):
    """What the registry (or the way to it) says against pulling an image; empty if it would give it.

    None if only a credential helper of this user could tell.
    """
    header, helper = _credentials(registry_of(image))
    status, text = engine.ask(f"/distribution/{quote(image, safe='/:@')}/json", header)
    if status == 200:
        return ""
    if helper and not header:
        return None
    try:
        return json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        return text or f"status {status}"


def registry_of(image):
    """The registry as Docker's configuration names it: the part before the first slash, where that is a host."""
    first, slash, _rest = image.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return first if is_host else DOCKER_HUB


def _credentials(registry):
    """(headers with the login of this user, whether a credential helper may have one)."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as stream:
            config = json.load(stream)
    except (OSError, ValueError):
        return {}, False
    helper = bool(config.get("credsStore") or registry in (config.get("credHelpers") or {}))
    login = (config.get("auths") or {}).get(registry, {}).get("auth")
    if not login:
        return {}, helper
    user, _colon, password = base64.b64decode(login).decode().partition(":")
    account = {"username": user, "password": password, "serveraddress": registry}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(account).encode()).decode()}, helper
