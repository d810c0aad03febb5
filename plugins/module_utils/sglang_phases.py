# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start-up phases of an SGLang server, read from its log.

A phase lasts until the next one begins, so phases touch and their seconds add up to the whole start. Of
several ranks the first that begins and the last that ends count. Speculative decoding loads a second model
after the first one: then C(weights_load), C(kv_cache) and C(graph_capture) come once for each.
"""

from __future__ import annotations

import re

# The rank in "[2026-11-23 08:28:43 DP0 TP1] Load weight begin."; a progress bar may stand before the bracket.
_RANK = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d((?: [A-Z]+\d+)*)\]")

_WEIGHTS_BEGIN = re.compile(r"Load weight begin\.")
_WEIGHTS_END = re.compile(r"Load weight end\.")
# 0.4: "Capture cuda graph begin.", 0.5: "Capture target decode CUDA graph begin.", "... CPU graph begin.",
# "Capture single-CG draft extend begin."; "Capture cuda graph bs [...]" is none of them.
_CAPTURE_BEGIN = re.compile(r"Capture [\w -]*\bbegin\b", re.I)
_CAPTURE_END = re.compile(r"Capture [\w -]*\bend\b", re.I)
# The scheduler prints its limits when its model stands; uvicorn follows. Either ends the work of the engine.
_MODEL_STANDS = re.compile(r"max_total_num_tokens=\d+, |Started server process|Application startup complete")
_FIRED_UP = re.compile(r"The server is fired up and ready to roll")

# Not a phase: another rank begins to load the model that one has loaded already.
_SAME_WEIGHTS = "weights_load of another rank"

ENGINE_PHASES = ("engine_start", "weights_load", "kv_cache", "graph_capture", "server_warmup", "ready")


def was_ready(log):
    """Whether a log says that its server was ready once."""
    return bool(_FIRED_UP.search(log))


def _transitions(entries):
    """(epoch, phase that begins) in the order of the log."""
    loading, capturing = set(), set()
    loads = {}  # rank: how many models it began to load
    for epoch, line in entries:
        match = _RANK.search(line)
        rank = match.group(1) if match else ""
        if _WEIGHTS_BEGIN.search(line):
            loading.add(rank)
            is_new = loads.get(rank, 0) == max(loads.values(), default=0)
            loads[rank] = loads.get(rank, 0) + 1
            yield epoch, "weights_load" if is_new else _SAME_WEIGHTS
        elif _WEIGHTS_END.search(line):
            loading.discard(rank)
            if not loading:
                yield epoch, "kv_cache"
        elif _CAPTURE_BEGIN.search(line):
            capturing.add(rank)
            yield epoch, "graph_capture"
        elif _CAPTURE_END.search(line):
            capturing.discard(rank)
            if not capturing:
                yield epoch, "server_warmup"
        elif _MODEL_STANDS.search(line):
            if not loading and not capturing:
                yield epoch, "server_warmup"
        elif _FIRED_UP.search(line):
            yield epoch, "ready"


def engine_phases(entries, start, end):
    """The phases between a container's start and C(end) (ready, or the moment of failure).

    C(entries) are (epoch seconds, line); the result is a list of {name, start, seconds}.
    """
    spans = [["engine_start", start]]
    for epoch, name in _transitions(entries):
        at = min(max(epoch, spans[-1][1]), end)
        current = spans[-1][0]
        if name == _SAME_WEIGHTS:
            if current == "kv_cache":
                spans.pop()
            continue
        if current in (name, "ready"):
            continue
        if current == "server_warmup" and name in ("weights_load", "graph_capture"):
            # Not the end of the engine's work after all: the gap belongs to what came before it.
            spans.pop()
            if spans[-1][0] == name:
                continue
        if name == "kv_cache" and current != "weights_load":
            # Weights that load beside the capture of graphs end after it; their pool stands since long.
            continue
        spans.append([name, at])
    return _closed(spans, end)


def _closed(spans, end):
    closed = []
    for index, (name, begin) in enumerate(spans):
        until = spans[index + 1][1] if index + 1 < len(spans) else end
        closed.append({"name": name, "start": begin, "seconds": max(0.0, until - begin)})
    return closed


def startup_phases(entries, *, launch_start, pulled_at, pull_bytes, container_start, end, preloaded_at=None):
    """All phases of a launch: what Docker did first, then the engine's.

    C(pulled_at) is None without a pull, C(preloaded_at) where no daemon had to load the weights first.
    """
    phases = []
    create_start = launch_start
    if pulled_at is not None:
        phases.append(
            {"name": "image_pull", "start": launch_start, "seconds": pulled_at - launch_start, "bytes": pull_bytes}
        )
        create_start = pulled_at
    if preloaded_at is not None:
        phases.append({"name": "weights_preload", "start": create_start, "seconds": preloaded_at - create_start})
        create_start = preloaded_at
    if container_start is None:
        phases.append({"name": "container_create", "start": create_start, "seconds": max(0.0, end - create_start)})
        return phases
    begin = min(max(container_start, create_start), end)
    phases.append({"name": "container_create", "start": create_start, "seconds": begin - create_start})
    return phases + engine_phases(entries, begin, end)
