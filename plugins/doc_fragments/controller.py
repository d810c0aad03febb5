# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What all stages of a sweep have in common: they are action plugins of the controller."""

    DOCUMENTATION = r"""
attributes:
  action:
    support: full
    description: Runs on the controller.
  diff_mode:
    support: none
    description: Shows no difference.
"""
