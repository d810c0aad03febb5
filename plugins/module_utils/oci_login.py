# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The login that a user of this host has for a registry: what 'docker login' left. Standard library only."""

from __future__ import annotations

import base64
import json
import os
import subprocess

HELPER_SECONDS = 20
IDENTITY_TOKEN = "<token>"  # the user name that stands for a token of OAuth2, which a registry takes in another way


def stored_login(registry):
    """((user, password) or None, whether a credential helper is set that might know one).

    registry: as Docker's configuration names it, see oci_registry.registry_of().
    """
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as stream:
            config = json.load(stream)
    except (OSError, ValueError):
        return None, False
    helper = (config.get("credHelpers") or {}).get(registry) or config.get("credsStore")
    if helper:
        return _ask(helper, registry), True
    encoded = (config.get("auths") or {}).get(registry, {}).get("auth")
    if not encoded:
        return None, False
    user, _colon, password = base64.b64decode(encoded).decode().partition(":")
    return (user, password), False


def _ask(helper, registry):
    """What a credential helper says; None if it knows nothing, cannot say, or is not there."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=registry,
            capture_output=True,
            text=True,
            timeout=HELPER_SECONDS,
            check=True,
        )
        said = json.loads(done.stdout)
        return (said["Username"], said["Secret"]) if said["Username"] != IDENTITY_TOKEN else None
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None
