# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SGLang's command line from a dictionary of its flags."""

from __future__ import annotations

import json
import re

NAME = re.compile(r"^[a-z][a-z0-9]*([_-][a-z0-9]+)*$")

# Flags that something else of the module decides, and what that is.
RESERVED = {
    "model": "set repo_id and revision, or model_path",
    "model-path": "set repo_id and revision, or model_path",
    "revision": "set revision beside repo_id",
    "download-dir": "set cache_dir: the server reads the host's Hub cache, which is mounted read-only",
    "host": "set publish_host: the address on which the host offers the server",
    "port": "set port (on the host) or container_port",
    "api-key": "a flag's value is visible in 'docker inspect' and in SGLang's log: keep publish_host at "
    "127.0.0.1 and put an authenticating proxy before it",
    "admin-api-key": "a flag's value is visible in 'docker inspect' and in SGLang's log: leave it out",
    "ssl-keyfile-password": "a flag's value is visible in 'docker inspect': use a key without a passphrase",
}


def _text(name, value):
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, (bool, list, tuple)) or value is None:
        raise ValueError(
            f"parameters.{name}: a list holds {value!r}; its items must be texts, numbers or dictionaries."
        )
    return str(value)


def flag_arguments(parameters):
    """The arguments for these parameters, sorted by name, so that equal parameters give equal commands.

    True is a bare flag; False, None and an empty list leave the flag out; a list repeats its values after
    one flag; a dictionary becomes JSON. Nothing here passes through a shell.
    """
    arguments = []
    seen = {}
    for name in sorted(parameters):
        value = parameters[name]
        flag = str(name).replace("_", "-")
        if not isinstance(name, str) or not NAME.match(name):
            raise ValueError(
                f"parameters: {name!r} is not the name of an SGLang flag. Write the flag without its leading "
                "dashes and with underscores, for example mem_fraction_static."
            )
        if flag in RESERVED:
            raise ValueError(f"parameters.{name}: this flag is not given here; {RESERVED[flag]}.")
        if flag in seen:
            raise ValueError(f"parameters: '{seen[flag]}' and '{name}' are the same flag; keep one.")
        seen[flag] = name
        if value is None or value is False or value in ([], ()):
            continue
        if value is True:
            arguments.append("--" + flag)
        elif isinstance(value, (list, tuple)):
            arguments += ["--" + flag] + [_text(name, item) for item in value]
        else:
            text = _text(name, value)
            # argparse takes a separate value with a leading dash for the next flag.
            arguments += [f"--{flag}={text}"] if text.startswith("-") else ["--" + flag, text]
    return arguments


def parameters_of(arguments):
    """The dictionary that flag_arguments turns into these flags; what stands before the first flag is none.

    A number is told from a text by how it is written. False, None and an empty list leave no trace.
    """
    parameters = {}
    values = []
    for argument in arguments:
        if argument.startswith("--"):
            flag, joined, text = argument[2:].partition("=")
            values = parameters[flag.replace("-", "_")] = [_value(text)] if joined else []
        else:
            values.append(_value(argument))
    return {name: True if not found else found[0] if len(found) == 1 else found for name, found in parameters.items()}


def _value(text):
    try:
        value = json.loads(text)
    except ValueError:
        return text
    # A commit such as 1e5... must stay what it is.
    return value if isinstance(value, dict) or (isinstance(value, (int, float)) and str(value) == text) else text
