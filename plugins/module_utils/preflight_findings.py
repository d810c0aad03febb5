# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight has to say of a host, in the words and by the variables that people know."""

from __future__ import annotations


class Findings:
    """Collects problems, which stop a launch, and notices, which are good to know."""

    def __init__(self, variable_names):
        self.problems = []
        self.notices = []
        self._names = variable_names

    def problem(self, variable, value, message, remedy):
        self.problems.append(self._finding(variable, value, message, remedy))

    def notice(self, variable, value, message, remedy):
        self.notices.append(self._finding(variable, value, message, remedy))

    def _finding(self, variable, value, message, remedy):
        return {
            "variable": self._names.get(variable, variable),
            "value": value,
            "message": f"{message}.",
            "remedy": f"{remedy[0].upper()}{remedy[1:]}.",
        }


def gigabytes(size_bytes):
    """A size for people; decimal units, as disks and the Hub have them."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"
