# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's log gives away: made safe to return, and cut to a size that can be returned."""

from __future__ import annotations

import re

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.I)

# Names of settings and flags whose value is a secret; token alone would be max_total_tokens.
_SECRET_SETTING = r"(?:admin_)?api_key|ssl_keyfile_password|hf_token|auth_token|access_token|password|secret"
_SETTING_NAME = re.compile(rf"(?:.*_)?(?:{_SECRET_SETTING})$", re.I)

_MASK = "********"
_PATTERNS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}\b"), _MASK),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 " + _MASK),
    (re.compile(r"(://)[^/\s:@]+:[^/\s@]+@"), r"\1" + _MASK + "@"),
    (
        re.compile(
            rf"""(['"]?\b(?:{_SECRET_SETTING})['"]?\s*[=:]\s*)(?!None\b)('[^']*'|"[^"]*"|[^\s,;)}}]+)""",
            re.I,
        ),
        r"\1" + _MASK,
    ),
)


def secret_values(environment):
    """The values of an environment whose names say that they are secret."""
    return [str(value) for name, value in environment.items() if SECRET_NAME.search(name) and value]


def scrub(text, secrets=()):
    """A text without tokens, passwords and the given values."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def scrub_data(value, secrets=()):
    """The same for dictionaries and lists: settings that are secret by their name, and all texts."""
    if isinstance(value, dict):
        return {
            name: _MASK if item and _SETTING_NAME.match(str(name)) else scrub_data(item, secrets)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [scrub_data(item, secrets) for item in value]
    return scrub(value, secrets) if isinstance(value, str) else value


def tail(text, lines, line_length=1000):
    """The last lines; a long one (SGLang prints all its settings in one) is cut."""
    kept = []
    for line in text.splitlines()[-lines:] if lines else []:
        # A progress bar rewrites its line: what it showed last is the line.
        shown = line.rstrip("\r").rsplit("\r", 1)[-1]
        kept.append(shown if len(shown) <= line_length else f"{shown[:line_length]}... ({len(shown)} characters)")
    return "\n".join(kept)


def cap(text, limit_bytes=4 * 1024 * 1024):
    """The text, with its middle cut out and said so where it is longer than the limit."""
    raw = text.encode("utf-8")
    if len(raw) <= limit_bytes:
        return text
    half = limit_bytes // 2
    head, end = raw[:half].decode("utf-8", "ignore"), raw[-half:].decode("utf-8", "ignore")
    return f"{head}\n[... {len(raw) - 2 * half} bytes of the log left out here ...]\n{end}"
