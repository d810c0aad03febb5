# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running the vendors' command line tools, and the values that all of them print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

# Where the tools lie when the PATH of a non-interactive SSH session does not name them.
EXTRA_FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/rocm/bin", "/usr/lib/wsl/lib")
_UNITS = {"B": 1, "KB": 1024, "KIB": 1024, "MB": 1024**2, "MIB": 1024**2, "GB": 1024**3, "GIB": 1024**3}
_QUANTITY = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$")


class ToolError(Exception):
    """A vendor's tool is there but gave no answer; the text says which and why."""


def find_tool(name):
    """The tool's path, or None."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *EXTRA_FOLDERS]))


def run_tool(argv, timeout_seconds):
    """Run a tool and return (exit code, stdout, stderr).

    A tool that waits for a wedged driver cannot be killed, so it is not waited for after the time limit.
    """
    environment = dict(os.environ, LC_ALL="C")
    process = subprocess.Popen(  # pylint: disable=consider-using-with
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        universal_newlines=True,
        errors="replace",
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise ToolError(f"{' '.join(argv)} gave no answer within {timeout_seconds:g} s: the driver hangs") from None
    return process.returncode, stdout, stderr


def failure(name, code, stdout, stderr):
    """The error text for a tool that failed: what it printed, in one line."""
    said = " ".join((stderr.strip() or stdout.strip() or "no output").split())
    return f"{name} (exit code {code}): {said[:500]}"


def quantity_bytes(text):
    """Bytes of '81559 MiB' or {'value': 65520, 'unit': 'MB'}; None for N/A, ERR! and the like.

    AMD's tools say MB where they mean MiB.
    """
    if isinstance(text, dict):
        text = f"{text.get('value')} {text.get('unit') or ''}"
    match = _QUANTITY.match(str(text))
    if not match:
        return None
    factor = _UNITS.get(match.group(2).upper() or "B")
    return None if factor is None else int(float(match.group(1)) * factor)


def quantity_percent(text):
    """A percentage of '37 %', '37' or {'value': 37, 'unit': '%'}; None for N/A, ERR! and the like."""
    if isinstance(text, dict):
        text = text.get("value")
    match = _QUANTITY.match(str(text).replace("%", ""))
    return float(match.group(1)) if match and not match.group(2) else None


def quantity_int(text):
    """A whole number, or None."""
    try:
        return int(str(text).strip())
    except ValueError:
        return None


def known(text):
    """The text, or None where the tool says that there is none."""
    text = str(text).strip() if text is not None else ""
    return None if text.strip("[]").upper() in ("", "N/A", "NONE", "NOT SUPPORTED", "UNKNOWN ERROR", "ERR!") else text
