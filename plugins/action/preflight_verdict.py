# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: judge what the plan and the hosts reported; all problems of all hosts in one message."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    image_flags,
    memory_fit,
    study_sharing,
    sweep_forecast,
    sweep_presets,
    sweep_search,
    sweep_slots,
    sweep_space,
)
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import (
    Problem,
    format_problems,
    problem,
    problem_lines,
)


class ActionModule(ActionBase):
    """Fails with every problem, or returns the plan with its points and slots, and says what it will cost."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            {
                "plan": {"type": "dict", "default": {}},
                "problems": {"type": "list", "elements": "dict", "default": []},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "slot_gpus": {"type": "int", "default": 0},
                "cpu_slots_per_host": {"type": "int", "default": 1},
                "exclusive_host": {"type": "bool", "default": False},
                "allow_unequal_gpus": {"type": "bool", "default": False},
                "image_brought": {"type": "bool", "default": False},
            }
        )
        variables = task_vars or {}
        hostvars, plan = variables["hostvars"], args["plan"]
        problems: list[Problem] = list(args["problems"])
        notices: list[Problem] = []
        gpus: dict[str, list[dict[str, Any]]] = {}
        topologies: dict[str, dict[str, Any]] = {}
        facts: dict[str, dict[str, Any]] = {}
        asked: dict[str, dict[str, Any] | None] = {}
        for host in args["hosts"]:
            known = hostvars[host]
            asked[host] = known.get(image_flags.ANSWER)
            reported = known.get("gpu_host_preflight_result") or {}
            problems += host_problems(host, reported)
            notices += [{**item, "host": host} for item in reported.get("notices") or []]
            facts[host] = reported.get("facts") or {}
            gpus[host] = [gpu for gpu in facts[host].get("gpus") or [] if not gpu.get("error")]
            topologies[host] = facts[host].get("gpu_topology") or {}
        unasked: list[str] = []
        if plan and plan.get("check_flags", True):
            answers = image_flags.answers(plan, facts, asked)
            unasked = [host for host, answer in answers.items() if answer is None]
            server, refused, more = sweep_presets.fit_to_image(plan, answers)
            plan = {**plan, "server": server}
            problems += refused
            notices += more
        if plan and not problems:
            placed, more = self._place(plan, gpus, topologies, args)
            problems += placed
            notices += more
            if plan.get("storage") and not problems:
                problems += study_sharing.problems_of(plan)
        for line in problem_lines(notices):
            self._display.display(f"good to know: {line}")
        if plan.get("slots"):
            forks = int(variables.get("ansible_forks", 5))
            if forks < len(plan["slots"]):
                remedy = f"Run with --forks {len(plan['slots'])}, or set forks in ansible.cfg."
                problems.append(problem("forks", forks, f"are too few for {len(plan['slots'])} slots.", remedy))
        if problems:
            until_now = ["no model was downloaded, nothing was launched"] if args["image_brought"] else []
            return {"failed": True, "msg": format_problems(problems, *until_now)}
        if not plan:
            return {"changed": False, "plan": plan}
        forecast = sweep_forecast.forecast(plan, *sweep_forecast.past_trials(plan))
        for line in [*sweep_presets.preset_lines(plan["server"]), *sweep_forecast.lines(plan["name"], forecast)]:
            self._display.display(line)
        return {"changed": False, "plan": plan, "forecast": forecast, "unasked": unasked}

    @staticmethod
    def _place(
        plan: dict[str, Any],
        gpus: dict[str, list[dict[str, Any]]],
        topologies: dict[str, dict[str, Any]],
        args: dict[str, Any],
    ) -> tuple[list[Problem], list[Problem]]:
        """Put points and slots into the plan; returns problems and notices."""
        size = args["slot_gpus"] or min([plan["gpus_most"], *(len(found) for found in gpus.values())])
        server, search = plan["server"], plan["search"]
        every = [gpu for found in gpus.values() for gpu in found]
        plan["memory"] = memory = {
            "gpu_bytes": max((gpu.get("memory_total_bytes") or 0 for gpu in every), default=0),
            "weights_bytes": memory_fit.weights_bytes(plan.get("files") or []),
            "shape": plan.get("model_shape"),
            **memory_fit.request_tokens(plan.get("workloads") or []),
        }
        feasible, infeasible = sweep_search.planned(server, search, size, memory)
        plan["slot_gpus"] = size
        plan["feasible"], plan["infeasible"] = feasible, infeasible
        adaptive = search["sampler"] in sweep_search.ADAPTIVE
        plan["launches"] = search["trials"] if adaptive else len(feasible)
        # What the report counts as left over if it has no record; what an adaptive sampler never asked for is not.
        plan["points"] = 0 if adaptive else len(feasible) + len(infeasible)
        least = sweep_space.gpu_counts(server)[0]
        plan["slots"] = sweep_slots.slots(
            gpus, size, args["cpu_slots_per_host"], topologies, exclusive_host=args["exclusive_host"], least_gpus=least
        )
        earlier = sweep_slots.gpus_of_earlier_run(plan.get("sweep_dir"))
        found = sweep_slots.unequal_gpus({**earlier, **gpus}) if size else []
        notices: list[Problem] = []
        plan["unequal_gpus"] = None
        if found and args["allow_unequal_gpus"]:
            plan["unequal_gpus"] = found[0]["message"]
            remedy = "Differences between trials of different hosts may be those of the GPUs."
            notices = [problem("sweep_allow_unequal_gpus", True, f"The hosts {found[0]['message']}", remedy)]
            found = []
        if args["exclusive_host"] and least < size:
            message = f"Points that need {least} GPU(s) leave {size - least} of the {size} of their slot idle."
            remedy = "To use them all, leave sweep_exclusive_host at false."
            notices.append(problem("sweep_slot_gpus", size, message, remedy))
        if reasons := "; ".join(sweep_search.reasons_against_all(server, search, size, memory)):
            remedy = "Widen sweep_server.space or loosen sweep_server.where."
            found.append(problem("sweep_server", plan["server"], f"leaves no point to launch: {reasons}.", remedy))
        if not plan["slots"]:
            remedy = "Lower sweep_slot_gpus, or add hosts with more GPUs."
            found.append(problem("sweep_slot_gpus", size, "GPUs are more than any host has.", remedy))
        return found, notices


def host_problems(host: str, reported: dict[str, Any]) -> list[Problem]:
    """The problems of one host; a host that could not be asked is a problem itself."""
    if reported.get("unreachable"):
        remedy = f"Check ansible_host, ansible_user and the key: ansible -m ping {host}."
        return [problem("ansible_host", host, f"is unreachable: {reported.get('msg', '')}".strip(), remedy, host)]
    if "problems" not in reported:
        message = f"could not be inspected: {reported.get('msg', 'no answer')}"
        return [problem("ansible_host", host, message, "Run preflight.yml with -v to see why.", host)]
    return [{**item, "host": host} for item in reported["problems"]]
