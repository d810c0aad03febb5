# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which preheat this is."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

_ROOT = Path(__file__).parents[2]


def preheat_version() -> str:
    """From MANIFEST.json in an installed collection, from galaxy.yml in a checkout."""
    manifest = _ROOT / "MANIFEST.json"
    if manifest.is_file():
        return json.loads(manifest.read_text())["collection_info"]["version"]
    return yaml.safe_load((_ROOT / "galaxy.yml").read_text())["version"]
