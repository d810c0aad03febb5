# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gives compiled kernels to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plan(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``[{key, seed, receivers, bytes}]`` from what C(sglang_jit_cache) returned, by host; hosts without are left out.

    For each folder the host that holds the most of it gives; those receive that could use it and hold less. Folders
    that nobody lacks are not listed.
    """
    answered = {host: answer for host, answer in found.items() if answer and "folders" in answer}
    held = {host: {folder["key"]: folder["bytes"] for folder in answer["folders"]} for host, answer in answered.items()}
    shares = []
    for key in sorted({key for keys in held.values() for key in keys}):
        seed = max(sorted(held), key=lambda host: held[host].get(key, 0))
        most = held[seed][key]
        receivers = [
            host for host in sorted(answered) if key in answered[host]["usable"] and held[host].get(key, 0) < most
        ]
        if receivers:
            shares.append({"key": key, "seed": seed, "receivers": receivers, "bytes": most})
    return shares
