# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an image could be pulled, and what that would fetch; nothing is pulled."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

from ansible_collections.preheat.fleet.plugins.module_utils import oci_registry
from ansible_collections.preheat.fleet.plugins.module_utils.oci_login import stored_login


def refusal(engine, image, login=None):
    """What the registry (or the way to it) says against pulling an image; empty if it would give it.

    Asked through the engine, which knows its own certificates and proxies. login: (user, password), else what 'docker
    login' left. None if only a credential helper of this user could tell.
    """
    registry = oci_registry.registry_of(image)
    known, helper = (login, False) if login else stored_login(registry)
    status, text = engine.ask(f"/distribution/{quote(image, safe='/:@')}/json", _header(registry, known))
    if status == 200:
        return ""
    if helper and not known:
        return None
    try:
        return json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        return text or f"status {status}"


def download_bytes(image, engine_info, architecture, login=None):
    """Bytes of an image as its registry keeps it (compressed); None where the registry does not tell.

    The engine does not pass them on, so the registry is asked from here.
    """
    try:
        reference = oci_registry.parse(image)
        known = login or stored_login(reference.registry)[0]
        return oci_registry.first_answer(reference, engine_info, known, architecture)[1]["bytes_total"]
    except (oci_registry.RegistryError, ValueError):
        return None


def _header(registry, login):
    if not login:
        return {}
    account = {"username": login[0], "password": login[1], "serveraddress": registry}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(account).encode()).decode()}
