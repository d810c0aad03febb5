# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a host's part in a swarm fails."""

from __future__ import annotations


class SwarmError(Exception):
    """This host's part failed; reason is for programs."""

    def __init__(self, reason: str, message: str, remedy: str, details: str = ""):
        super().__init__(f"{message} {remedy}".strip())
        self.reason, self.message, self.remedy, self.details = reason, message, remedy, details


class NoAgent(Exception):
    """The host answers, but its agent has ended. Raised by call()."""
