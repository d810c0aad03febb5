# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Libraries that the controller needs beside Ansible's own. What imports one suppresses ImportError: ask here first."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

REPORT = ("altair", "vl_convert")
SWEEP = ("huggingface_hub", "optuna", *REPORT)
REMEDY = "Install requirements/controller.txt for the Python that runs Ansible."


def missing(names: Iterable[str]) -> str:
    """Those that are not installed, as one text; empty if none is missing."""
    return ", ".join(name for name in names if importlib.util.find_spec(name) is None)
