# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: one slot's worker. Claims trials of a sweep and runs them until none is left."""

from __future__ import annotations

import contextlib
import errno
import functools
import time
from typing import Any

from ansible import __version__ as ansible_version
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.preheat.fleet.plugins.plugin_utils import trial, trial_launch
from ansible_collections.preheat.fleet.plugins.plugin_utils.process import die_with_parent
from ansible_collections.preheat.fleet.plugins.plugin_utils.study import SweepStudy
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import LeaseLost, StudyError
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_status import TALKING_SLOTS, SweepStatus
from ansible_collections.preheat.fleet.plugins.plugin_utils.version import preheat_version

# How often an idle slot looks whether a trial came back because its host was lost.
IDLE_SECONDS = 2.0
# How long a slot waits for a Docker engine that is being restarted.
ENGINE_SECONDS = 120.0
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

ARGUMENTS: dict[str, Any] = {
    "plan": {"type": "dict", "required": True},
    "slot": {"type": "dict", "required": True},
    "python": {"type": "str", "required": True},
    "docker_host": {"type": "str", "required": True},
    "cache_dir": {"type": "str", "required": True},
    "jit_cache_dir": {"type": "str"},
    "dataset_dir": {"type": "str"},
    "endpoint": {"type": "str"},
    "gpu_access": {"type": "str", "default": "auto"},
    "facts_file": {"type": "str"},
    "weight_cache": {"type": "bool", "default": False},
    "preload": {"type": "bool", "default": False},
    "preload_budget_bytes": {"type": "int", "default": 0},
    "ready_timeout_seconds": {"type": "int", "required": True},
}


class ActionModule(ActionBase):
    """Runs trials on the host that the task is delegated to."""

    TRANSFERS_FILES = False
    _supports_check_mode = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(ARGUMENTS)
        variables = task_vars or {}
        self._vars = self._with_interpreter(variables, args["python"])
        self._display = Display()
        self._args = args
        # Of the host that works, as the slot is in none of its groups; and never an argument of the task, for those are
        # shown by verbose runs.
        token = variables["hostvars"][args["slot"]["members"][0]["host"]].get("model_cache_token") or None
        settings = {**{name: args[name] for name in ARGUMENTS}, "token": token}
        die_with_parent()
        study = SweepStudy(args["plan"]["sweep_dir"])
        self._status = SweepStatus(study.study, args["plan"], args["slot"]["name"])
        try:
            done = self._work(study, settings)
        except Exception as exc:
            with contextlib.suppress(Exception):  # as when the disk is full; what went wrong first counts
                study.leave(args["slot"]["name"], str(exc))
            if isinstance(exc, OSError) and exc.errno in DISK_FULL:
                raise AnsibleActionFail(
                    f"{args['slot']['name']}: {args['plan']['sweep_dir']} cannot be written: {exc.strerror}. Make room "
                    "there and run tune.yml again: what is recorded stays, and it goes on."
                ) from exc
            raise
        finally:
            self._status.slot_is("ended")
        return {"changed": bool(done), "trials": done}

    def _work(self, study: SweepStudy, settings: dict[str, Any]) -> list[dict[str, Any]]:
        plan, slot = self._args["plan"], self._args["slot"]
        versions = {"preheat": preheat_version(), "ansible": ansible_version}
        if not self._lease(study):
            study.collect()
            return []
        self._sweep_out()
        done: list[dict[str, Any]] = []
        while True:
            if slot.get("set"):  # what keeps weights in GPU memory would disturb whoever leases the GPUs next
                self._remove_weight_cache()
            claim = study.claim(slot["name"])
            if claim is None:
                if study.is_over(slot["name"]):
                    self._remove_weight_cache()
                    study.collect()
                    return done
                self._status.slot_is("waiting")
                time.sleep(IDLE_SECONDS)
                continue
            leased = self._lease_gpus(study, claim)
            self._status.trial_begins(claim)
            say = self._sayer(claim)
            say(f"begins with {claim['params'] or 'the base configuration'}")
            run = trial.Trial(
                plan=plan, claim=claim, slot=leased, settings=settings, versions=versions, call=self._call, say=say,
                prune=functools.partial(study.should_prune, claim), confirm=study.confirm,
                publish=functools.partial(study.publish, claim), enter=self._enter,
            )  # fmt: skip
            try:
                record = run.run()
            except AnsibleConnectionFailure as exc:
                self._lost(study, claim, run, exc)
                raise
            except trial.EngineLost as exc:
                self._lost(study, claim, run, exc)
                self._sweep_out()
                self._warn(study.set_aside(slot["name"]))
                continue
            except LeaseLost:
                raise
            except Exception:
                with contextlib.suppress(OSError):  # of a full disk, which took the record: see SweepStudy.running
                    study.abandon(claim)
                raise
            self._sayer(claim, aloud=True)(trial.verdict(record))
            if reason := study.set_aside(slot["name"], claim, record):
                self._warn(reason)
            else:
                study.finish(claim, record)
            self._tell(self._status.trial_ended())
            done.append({"number": record["number"], "status": record["status"]})
            if run.left_behind:
                raise AnsibleActionFail(
                    f"{slot['name']}: the container of trial {record['number']} could not be removed, so that it would "
                    f"disturb the next one: {run.left_behind}. The slot takes no more trials; the others go on."
                )

    def _lease(self, study: SweepStudy) -> bool:
        """Wait for the slot where another controller drives it; False if nothing is left to run by then."""
        name, said = self._args["slot"]["name"], ""
        while reason := study.lease(name):
            if reason != said:
                said = reason
                self._display.display(f"{name}: {reason}; this one stands by")
            if study.is_over(name):
                return False
            time.sleep(IDLE_SECONDS)
        return True

    def _lease_gpus(self, study: SweepStudy, claim: dict[str, Any]) -> dict[str, Any]:
        """The slot with the GPUs that the trial gets; slots that share a set wait for each other."""
        slot = self._args["slot"]
        if not slot.get("set"):
            return slot
        try:
            while (gpus := study.lease_gpus(slot["name"], claim)) is None:
                time.sleep(IDLE_SECONDS)
        except StudyError:
            study.requeue(claim)
            raise
        return {"name": slot["name"], "members": [{**slot["members"][0], "gpus": gpus}]}

    def _warn(self, reason: str) -> None:
        if reason:
            host = self._args["slot"]["members"][0]["host"]
            self._display.warning(f"{host} takes no more trials: {reason}. Other hosts run them again.")

    def _lost(self, study: SweepStudy, claim: dict[str, Any], run: trial.Trial, exc: Exception) -> None:
        """The host is gone: the trial goes back into the queue, or is recorded once it has had its attempts."""
        say = self._sayer(claim, aloud=True)
        if run.recorded:  # lost while the container was being stopped: the results are safe
            study.finish(claim, run.record)
            say("the host was lost after the trial was recorded")
        elif study.requeue(claim):
            say(f"the host was lost ({exc}); the trial goes back into the queue")
        else:
            error = {"class": "host_lost", "message": str(exc), "remedy": "See why hosts vanish under this trial.",
                     "phase": None, "exit_code": None, "log_tail": ""}  # fmt: skip
            run.give_up(error)
            study.finish(claim, run.record)
            say(f"the host was lost ({exc}) in the last attempt")

    def _sweep_out(self) -> None:
        """Remove what a dead run, or a trial whose engine was restarted, left on this slot."""
        self._status.slot_is("starting")
        labels = trial_launch.slot_labels(self._args["plan"]["name"], self._args["slot"]["name"])
        args = {"state": "absent", "match_labels": labels, "docker_host": self._args["docker_host"]}
        name, deadline = self._args["slot"]["name"], time.monotonic() + ENGINE_SECONDS
        while trial.is_engine_lost(result := self._call("sglang_server", args)) and time.monotonic() < deadline:
            time.sleep(IDLE_SECONDS)
        if result.get("failed"):
            raise AnsibleActionFail(
                f"{name}: what earlier trials left could not be removed and would disturb the next one: "
                f"{result.get('msg')}. The slot takes no trials; the others go on."
            )
        self._remove_weight_cache()
        if removed := result.get("removed"):
            self._display.display(f"{name}: removed what was left there: {removed}")

    def _remove_weight_cache(self) -> None:
        """What kept the weights in GPU memory between trials."""
        if self._args["weight_cache"]:
            name = trial_launch.weight_cache_name(self._args["plan"]["name"], self._args["slot"]["name"])
            self._call("sglang_server", {"state": "absent", "name": name, "docker_host": self._args["docker_host"]})

    def _call(self, module: str, args: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in args.items() if value is not None}
        return self._execute_module(module_name=f"preheat.fleet.{module}", module_args=given, task_vars=self._vars)

    def _sayer(self, claim: dict[str, Any], aloud: bool = False) -> trial_launch.Say:
        """What is not said aloud, only few slots say, or verbose runs."""
        number, total = claim["number"], self._args["plan"]["launches"]
        few = len(self._args["plan"].get("slots") or []) <= TALKING_SLOTS
        show = self._display.display if aloud or few else self._display.v
        return lambda text: show(
            f"{time.strftime('%H:%M:%S')} {self._args['slot']['name']} trial {number} ({total} in all): {text}"
        )

    def _enter(self, phase: str, label: str | None) -> None:
        self._tell(self._status.phase_begins(phase, label))

    def _tell(self, line: str | None) -> None:
        if line:
            self._display.display(f"{time.strftime('%H:%M:%S')} {line}")

    def _with_interpreter(self, task_vars: dict[str, Any], python: str) -> dict[str, Any]:
        """Modules run with the virtual environment's Python, also where the task is delegated."""
        changed = {**task_vars, "ansible_python_interpreter": python}
        delegated = task_vars.get("ansible_delegated_vars") or {}
        if self._task.delegate_to in delegated:
            host = self._task.delegate_to
            changed["ansible_delegated_vars"] = {
                **delegated,
                host: {**delegated[host], "ansible_python_interpreter": python},
            }
        return changed
