# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server says about itself, by its own endpoints."""

from __future__ import annotations

import http.client
import json
import math
import re

# The newer name first. The older ones are deprecated, but all that SGLang 0.4.10 knows.
MODEL_INFO = ("/model_info", "/get_model_info")
SERVER_INFO = ("/server_info", "/get_server_info")
# With a mounted application, some versions answer at one of these and redirect the other.
METRICS = ("/metrics", "/metrics/")

_SAMPLE = re.compile(r"^(sglang[:_]\w+)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\[\\n"])*)"')
# Of a histogram the sum and the count say enough; the time when a series began says nothing.
_LEFT_OUT = ("_bucket", "_created")


class NoAnswer(Exception):
    """An endpoint that gives nothing to read. The text says which, and what it answered."""


def read(host, port, paths, timeout_seconds):
    """The text of the first of these endpoints that answers 200. No proxy is ever asked."""
    answered = []
    for path in paths:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status == 200:
                return response.read().decode("utf-8", "replace")
            answered.append(f"{path} answers {response.status}")
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{path} does not answer: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()
    raise NoAnswer(", ".join(answered))


def read_json(host, port, paths, timeout_seconds):
    """The same for an endpoint that answers with a JSON object."""
    text = read(host, port, paths, timeout_seconds)
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NoAnswer(f"{paths[0]} answers with something that is no JSON object")
    return found


def without_repeats(server_info):
    """SGLang's server info; of the state of each scheduler only what the server's own settings do not say already."""
    states = server_info.get("internal_states")
    if not isinstance(states, list):
        return server_info
    own = [
        {name: value for name, value in state.items() if name not in server_info or server_info[name] != value}
        for state in states
        if isinstance(state, dict)
    ]
    return dict(server_info, internal_states=own)


def samples(text):
    """SGLang's samples in Prometheus' text: [{name, labels, value}]; a value that is no number is None."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match and not match.group(1).endswith(_LEFT_OUT):
            name, labels, value = match.groups()
            found.append({"name": name, "labels": _labels(labels or ""), "value": _number(value)})
    return found


def _labels(text):
    """The escapes of a label's value are those of JSON."""
    return {name: json.loads(f'"{value}"', strict=False) for name, value in _LABEL.findall(text)}


def _number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
