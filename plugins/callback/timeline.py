# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of ansible-playbook spent its time on, by host and task, as a trace."""

from __future__ import annotations

DOCUMENTATION = r"""
name: timeline
type: notification
short_description: What a run spent its time on, by host and task
version_added: 0.1.0
author: The preheat maintainers (@preheat)
description:
  - Writes one JSON file in the Trace Event Format, which L(Perfetto,https://ui.perfetto.dev) and C(chrome://tracing)
    open. It has a row for each host, and for each task an event with its role, module and outcome.
  - Beside C(traceEvents), the key C(summary) has the seconds and the number of runs of each role, task and host.
    C(tasks) of a role counts every host that a task ran on.
  - A task's time is that from its start on a host until its result. With a linear strategy and fewer forks than hosts
    it begins when a worker takes the task for that host.
  - No argument and no result of a task is written, only names, paths of files, and outcomes.
requirements:
  - Named in E(ANSIBLE_CALLBACKS_ENABLED) or C(callbacks_enabled), as all notification callbacks
options:
  file:
    description:
      - Where the timeline is written, when the run ends. Its folder is made.
    type: path
    default: timeline.json
    env:
      - name: PREHEAT_TIMELINE_FILE
    ini:
      - section: callback_timeline
        key: file
"""

EXAMPLES = r"""
run: >-
  ANSIBLE_CALLBACKS_ENABLED=preheat.fleet.timeline PREHEAT_TIMELINE_FILE=warm-timeline.json
  ansible-playbook warm.yml -i inventory
"""

import json
import os
import time
from collections import defaultdict
from pathlib import Path

from ansible.plugins.callback import CallbackBase

MICROSECONDS = 1e6


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "preheat.fleet.timeline"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._began = time.time()
        self._playbook = ""
        self._play = ""
        self._running = {}  # (host, task): epoch of its start
        self._spans = []

    def v2_playbook_on_start(self, playbook):
        self._playbook = os.path.basename(playbook._file_name)

    def v2_playbook_on_play_start(self, play):
        self._play = play.get_name().strip()

    def v2_runner_on_start(self, host, task):
        self._running[host.name, task._uuid] = time.time()

    def v2_runner_on_ok(self, result):
        self._ended(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._ended(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_skipped(self, result):
        self._ended(result, "skipped")

    def v2_runner_on_unreachable(self, result):
        self._ended(result, "unreachable")

    def v2_playbook_on_stats(self, stats):
        file = Path(self.get_option("file"))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            whole = file.with_name(f".{file.name}.new")
            whole.write_text(json.dumps(timeline(self._playbook, self._began, time.time(), self._spans)) + "\n")
            whole.replace(file)
        except OSError as error:
            self._display.warning(
                f"the timeline was not written: {error}. Set PREHEAT_TIMELINE_FILE to a file that can be."
            )

    def _ended(self, result, outcome):
        host, task = result._host.name, result._task
        now = time.time()
        began = self._running.pop((host, task._uuid), now)
        self._spans.append(
            {
                "play": self._play,
                "role": task._role.get_name() if task._role else None,
                "task": task.name or task.action,
                "action": task.action,
                "path": task.get_path(),
                "host": host,
                "outcome": outcome,
                "start": began,
                "seconds": now - began,
            }
        )


def timeline(playbook, start, end, spans):
    """The Trace Event Format's JSON object (times in microseconds since the run's start), with a summary of our own.

    spans: [{host, task, role, action, play, path, outcome, start (epoch), seconds}].
    Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
    """
    rows = {host: number for number, host in enumerate(dict.fromkeys(span["host"] for span in spans), 1)}
    events = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": host}}
        for host, number in rows.items()
    ]
    for span in spans:
        events.append(
            {
                "ph": "X",
                "name": span["task"],
                "cat": span["role"] or "play",
                "pid": 1,
                "tid": rows[span["host"]],
                "ts": round((span["start"] - start) * MICROSECONDS),
                "dur": round(span["seconds"] * MICROSECONDS),
                "args": {key: span[key] for key in ("play", "role", "action", "path", "outcome")},
            }
        )
    return {
        "displayTimeUnit": "ms",
        "traceEvents": events,
        "summary": {
            "playbook": playbook,
            "start": start,
            "seconds": round(end - start, 6),
            "roles": _totals(spans, lambda span: span["role"] or ""),
            "tasks": _totals(spans, lambda span: f"{span['role']} : {span['task']}" if span["role"] else span["task"]),
            "hosts": _totals(spans, lambda span: span["host"]),
        },
    }


def _totals(spans, key):
    """{name: {seconds, tasks}}, what took longest first."""
    totals = defaultdict(lambda: {"seconds": 0.0, "tasks": 0})
    for span in spans:
        total = totals[key(span)]
        total["seconds"] = round(total["seconds"] + span["seconds"], 6)
        total["tasks"] += 1
    return dict(sorted(totals.items(), key=lambda item: -item[1]["seconds"]))
