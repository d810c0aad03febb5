# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One trial: fetch, launch, benchmark, record, stop.

Modules are reached through a function that the caller gives; of connections nothing is known here but how they break.
"""

from __future__ import annotations

import itertools
import time
import traceback
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, scoring, trial_benchmark, trial_launch
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import LeaseLost
from ansible_collections.preheat.fleet.plugins.plugin_utils.trial_benchmark import TrialFailed
from ansible_collections.preheat.fleet.plugins.plugin_utils.trial_launch import Call, Enter, Say

# SGLang takes long to end by itself, and there is nothing left to lose.
STOP_SECONDS = 1


class EngineLost(Exception):
    """The host's Docker engine does not answer: it is restarted, or gone. The point is not to blame."""


class TrialPruned(Exception):
    """The trial need not be finished: it cannot win any more, or hardly."""


class Trial:
    """Runs one claimed point on one slot and leaves its record, whatever happens.

    ``settings``: ``docker_host, cache_dir, endpoint, token, jit_cache_dir, gpu_access, ready_timeout_seconds``, and
    ``preload, preload_budget_bytes`` where the weights are brought into RAM before each launch, ``weight_cache`` where
    they are kept in GPU memory between launches.
    ``enter`` is told of each phase that begins, as far as it is known then, with the label of a workload point.
    ``confirm`` raises LeaseLost where another controller may have the slot or the trial by now; ``publish`` gives the
    others the record once it is on disk.
    ``recorded`` says whether the record is on disk, ``left_behind`` why the container could not be removed.
    """

    def __init__(
        self,
        *,
        plan: dict[str, Any],
        claim: dict[str, Any],
        slot: dict[str, Any],
        settings: dict[str, Any],
        versions: dict[str, str],
        call: Call,
        say: Say,
        prune: Callable[[dict[str, Any]], str | None] = lambda record: None,
        confirm: Callable[[], None] = lambda: None,
        publish: Callable[[dict[str, Any]], None] = lambda record: None,
        enter: Enter = lambda phase, label: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.plan, self.claim, self.slot, self.settings = plan, claim, slot, settings
        self._call, self._say, self._prune, self._clock = call, say, prune, clock
        self._confirm, self._publish, self._enter = confirm, publish, enter
        self._phases: list[dict[str, Any]] = []
        self._files: dict[str, str] = {}
        self._start = clock()
        self.recorded = False
        self.left_behind: str | None = None
        member = slot["members"][0]
        self.member = {"host": member["host"], "gpus": member["gpus"][: claim["gpus"]]}
        self.record = records.new_record(
            sweep=plan["name"],
            number=claim["number"],
            kind=claim.get("kind", "search"),
            attempt=claim["attempt"],
            params=claim["params"],
            server_parameters=claim["server_parameters"],
            slot={"name": slot["name"], "members": [self.member]},
            image={"name": plan["image"], "digest": None},
            model={key: plan["model"][key] for key in ("repo_id", "revision")} | {"commit": plan["commit"]},
            versions=versions,
            start=self._start,
        )

    def run(self) -> dict[str, Any]:
        """Returns the record. Only a lost host, engine or lease gets out as an exception: then nothing is recorded."""
        try:
            self._fetch()
            if self.settings.get("preload"):
                self._preload()
            benchmarks = self._benchmarks(self._launch())
            points = self.plan["workload_points"]
            for point, following in itertools.zip_longest(points, points[1:]):
                benchmarks.run(point)
                if following and following["name"] != point["name"] and (reason := self._prune(self.record)):
                    raise TrialPruned(reason)
            self.record["status"] = "complete"
        except TrialPruned as exc:
            error = {"class": "pruned", "message": str(exc), "remedy": "", "phase": "benchmark"}
            self.record.update(status="pruned", error=error)
        except TrialFailed as exc:
            self.record.update(status="failed", error=exc.error)
        except (AnsibleConnectionFailure, EngineLost, LeaseLost):
            raise
        except Exception as exc:
            self.record.update(status="failed", error=_unforeseen(exc))
        self._confirm()
        # The record comes first: what happens while the container stops can no longer take it away.
        try:
            self._write()
            self._publish(self.record)
        finally:
            self._stop()
        self._write()
        return self.record

    def give_up(self, error: dict[str, Any]) -> None:
        """Record what is known of a trial whose host was lost, and that nobody will run again."""
        self.record.update(status="failed", error=error)
        self._write()

    def _fetch(self) -> None:
        """The snapshot is whole before every launch; by commit that costs no request to the Hub."""
        model = self.plan["model"]
        result = self._timed(
            "model_fetch",
            "hf_model",
            {
                "repo_id": model["repo_id"],
                "revision": self.plan["commit"],
                "cache_dir": self.settings["cache_dir"],
                "endpoint": self.settings["endpoint"],
                "token": self.settings["token"],
                "allow_patterns": model["allow_patterns"],
                "ignore_patterns": model["ignore_patterns"],
                "allow_pickle": model["allow_pickle"],
            },
        )
        fetched = result.get("bytes_fetched") or 0
        self._phases[-1]["bytes"] = fetched
        self.record["cache"]["hub_bytes"] = fetched
        self._snapshot = result["snapshot_path"]

    def _preload(self) -> None:
        """The weights are in RAM before the launch, as far as the budget goes."""
        args = {"path": self._snapshot, "budget_bytes": self.settings.get("preload_budget_bytes") or 0}
        result = self._timed("weights_preload", "page_cache", args)
        self._phases[-1]["bytes"] = result.get("bytes_read") or 0

    def _launch(self) -> dict[str, Any]:
        gpus = self.member["gpus"]
        args = trial_launch.arguments(self.plan, self.claim, self.slot["name"], gpus, self.settings)
        self._confirm()
        launched = trial_launch.launch(args, self._call, self._say, self._enter, self._clock)
        self._phases += launched.phases_since(self._start)
        if launched.phases:
            self.record["host_clock_offset_seconds"] = round(launched.offset_seconds(), 3)
        cache = self.record["cache"]
        cache.update({key: launched.cache[key] for key in cache if key in launched.cache})
        if cache["hub_bytes"]:
            cache["weights_rung"] = "hub"
        result, phases = launched.result, launched.phases
        self.record["command"] = result.get("command") or []
        container = result.get("container") or {}
        self.record["image"]["digest"] = container.get("image_digest")
        found = {"docker": result.get("docker_version"), "sglang": result.get("engine_version")}
        self.record["versions"].update({name: version for name, version in found.items() if version})
        self._check("sglang_server", result, phase=phases[-1]["name"] if phases else "container_create")
        spans = ", ".join(f"{phase['name']} {phase['seconds']:.1f}" for phase in phases)
        self._say(f"ready in {sum(phase['seconds'] for phase in phases):.1f} s ({spans})")
        return result

    def _benchmarks(self, server: dict[str, Any]) -> trial_benchmark.Benchmarks:
        named = {"container": server["container"]["name"], "docker_host": self.settings["docker_host"]}
        if not self.claim["server_parameters"].get("tokenizer_path"):
            # The model's own; otherwise the server is asked for it at every point.
            named["tokenizer_path"] = (server.get("model") or {}).get("container_path")

        def call(args: dict[str, Any], label: str) -> tuple[dict[str, Any], float]:
            result = self._timed("benchmark", "sglang_benchmark", args, label=label)
            return result, self._phases[-1]["seconds"]

        return trial_benchmark.Benchmarks(
            record=self.record,
            files=self._files,
            slo=self.plan["slo"],
            server=named,
            dataset_dir=self.settings.get("dataset_dir"),
            call=call,
            say=self._say,
        )

    def _stop(self) -> None:
        args = {
            "state": "absent",
            "match_labels": trial_launch.slot_labels(self.plan["name"], self.slot["name"]),
            "return_log": True,
            "stop_timeout_seconds": STOP_SECONDS,
            "docker_host": self.settings["docker_host"],
        }
        self._enter("teardown", None)
        began = self._clock()
        result = self._call("sglang_server", args)
        self._add_phase("teardown", began)
        if result.get("log"):
            self._files["server.log"] = result["log"]
        if result.get("failed"):
            self.left_behind = str(result.get("msg"))

    def _timed(self, phase: str, module: str, args: dict[str, Any], label: str | None = None) -> dict[str, Any]:
        self._enter(phase, label)
        began = self._clock()
        result = self._call(module, args)
        self._add_phase(phase, began, label)
        self._check(module, result, phase)
        return result

    def _add_phase(self, name: str, began: float, label: str | None = None) -> None:
        span = {"name": name, "start": began - self._start, "seconds": self._clock() - began}
        self._phases.append({**span, **({"label": label} if label else {})})

    def _check(self, module: str, result: dict[str, Any], phase: str) -> None:
        if result.get("log"):
            self._files["server.log"] = result["log"]
        if not result.get("failed"):
            return
        if is_engine_lost(result):
            raise EngineLost(result["error"]["message"])
        error = {"class": "module_failed", "remedy": "", "phase": phase, "exit_code": None, "log_tail": ""}
        error["message"] = f"{module}: {result.get('msg', 'failed without a message')}"
        if result.get("exception") and not result.get("error"):
            error["log_tail"] = str(result.get("module_stderr") or result["exception"])[-4000:]
        raise TrialFailed({**error, **(result.get("error") or {})})

    def _write(self) -> None:
        self.record["end"] = self._clock()
        self.record["wall_seconds"] = self.record["end"] - self._start
        self.record["phases"] = records.finish_phases(self._phases, self.record["wall_seconds"])
        self.record.update(scoring.score_trial(self.record, self.plan["objective"], self.plan["slo"]))
        records.write_trial(self.plan["sweep_dir"], self.record, self._files)
        self.recorded = True


def is_engine_lost(result: dict[str, Any]) -> bool:
    return bool(result.get("failed")) and (result.get("error") or {}).get("class") == "engine_unreachable"


def _unforeseen(exc: Exception) -> dict[str, Any]:
    message, shown = f"{type(exc).__name__}: {exc}", "".join(traceback.format_exception(exc))
    remedy = "This is a defect of preheat: report it with the log_tail of the trial's record."
    return {"class": "unforeseen", "message": message, "remedy": remedy, "phase": None, "exit_code": None,
            "log_tail": shown[-4000:]}  # fmt: skip


def verdict(record: dict[str, Any]) -> str:
    """How a trial ended, in one line."""
    if record["status"] != "complete":
        error = record["error"] or {}
        return f"{record['status']} in {error.get('phase')}: {error.get('class')}: {error.get('message')}"
    if not record["eligible"]:
        return f"complete, cannot win: {'; '.join(record['ineligible_reasons'])}"
    objective = record["objective"]
    return f"complete: {objective['metric']} = {objective['value']:.4g}"
