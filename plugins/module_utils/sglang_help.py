# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which flags an SGLang accepts, by what its C(--help) prints, and what is wrong with parameters for it.

Argparse writes a flag as C(--tp-size TP_SIZE, --tensor-parallel-size TP_SIZE), from Python 3.13 on without the first
C(TP_SIZE), two columns in and never broken, however narrow the terminal is. Seen: SGLang 0.4.10, 0.5.15 and 0.5.23.
"""

from __future__ import annotations

import difflib
import re

COMMAND = ["python3", "-m", "sglang.launch_server", "--help"]
# Every SGLang has this flag: text without it is not its help.
_SIGN = "model-path"
_HEADER = re.compile(r"^  (-\S.*?)(?:  .*)?$")
_CHOICES = re.compile(r"\{(.*?)\}")


def parse(text):
    """The flags in a help text, C([{names, least, most, choices}]); [] if it is not SGLang's.

    C(names) without dashes in front; C(least) and C(most) are numbers of values (None: any number); C(choices) are
    texts, or None where any value is taken.
    """
    found = []
    for line in text.splitlines():
        header = _HEADER.match(line)
        parts = [part.split(" ", 1) for part in header.group(1).split(", ")] if header else []
        names = [part[0].lstrip("-") for part in parts if part[0].startswith("--")]
        if not names:
            continue
        value = parts[-1][1] if len(parts[-1]) > 1 else ""
        choices = _CHOICES.search(value)
        entry = {
            "names": names,
            "least": 0 if not value or value.startswith("[") else 1,
            "most": None if " " in value else int(bool(value)),
            "choices": choices.group(1).split(",") if choices else None,
        }
        found.append(entry)
    return found if any(_SIGN in entry["names"] for entry in found) else []


def find(flags, name):
    """The entries that argparse may mean by a flag's name: one of this name, or all that it is short for."""
    dashed = name.replace("_", "-")
    exact = [entry for entry in flags if dashed in entry["names"]]
    return exact or [entry for entry in flags if any(known.startswith(dashed) for known in entry["names"])]


def wrong(flags, name, value):
    """C((message, remedy)) for what this SGLang refuses of a flag and its value; None where its help allows it."""
    if value is None or value is False or value in ([], ()):
        return None  # gives no flag
    flag = "--" + name.replace("_", "-")
    entries = find(flags, name)
    if not entries:
        return f"{flag} is no flag of the image's SGLang.", _nearest(flags, name)
    if len(entries) > 1:
        meant = ", ".join("--" + entry["names"][0] for entry in entries)
        return f"{flag} is short for several flags of the image's SGLang.", f"Write one of {meant}."
    entry = entries[0]
    if entry["most"] == 0:
        return None if value is True else (f"{flag} takes no value.", "Write true, or false to leave it out.")
    if value is True:
        return (f"{flag} needs a value.", _choices(entry) or "Give one.") if entry["least"] else None
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(given) > 1 and entry["most"] == 1:
        return f"{flag} takes one value.", "Give one; values to choose from are the items of a list in space."
    refused = [str(item) for item in given if entry["choices"] is not None and str(item) not in entry["choices"]]
    if not refused:
        return None
    return f"{flag} does not take '{refused[0]}' in the image's SGLang.", _choices(entry, refused[0])


def _choices(entry, given=None):
    if entry["choices"] is None:
        return ""
    near = difflib.get_close_matches(given, entry["choices"], n=1) if given else []
    return f"{f'Did you mean {near[0]!r}? ' if near else ''}Choices: {', '.join(entry['choices'])}."


def _nearest(flags, name):
    known = [known.replace("-", "_") for entry in flags for known in entry["names"]]
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return f"Nearest: {', '.join(near)}."
    return f"Run '{' '.join(COMMAND)}' in the image to see what there is."
