# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the points of a sweep are chosen: ``sweep_search`` checked, and Optuna's samplers set up for it.

The points of a grid, of ``random`` and of ``qmc`` are known before the first launch. Those of ``tpe`` and ``nsga2`` are
asked for one by one; what a sampler draws then depends on the seed, the trial's number and what the study has learnt,
and on nothing that a process keeps, so that a controller that is started again goes on where the last one was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import TemplateError

from ansible_collections.preheat.fleet.plugins.plugin_utils import libraries, sweep_space, sweep_space_check
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import Problem, problem

with contextlib.suppress(ImportError):  # named by sweep_plan before anything starts
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(logging.WARNING)

ADAPTIVE = ("tpe", "nsga2")
# How often a sampler may propose a point that is there already or cannot be launched before the search ends. The last
# of these tries are uniform: a sampler that has converged on a point proposes little else.
MAX_TRIES = 100
SAMPLER_TRIES = 20
# Of a space that is not enumerated, so many points are drawn to try expressions and limits on before anything runs.
PROBE_POINTS = 200


def check_search(search: dict[str, Any], server: dict[str, Any], objectives: int) -> list[Problem]:
    """All that is wrong with ``sweep_search`` (types are right already) for a space that has no problems."""
    found = []
    sampler = search["sampler"]
    if sampler == "grid" and search.get("trials") is not None:
        remedy = "Leave it out, or choose the sampler random, qmc, tpe or nsga2."
        found.append(problem("sweep_search.trials", search["trials"], "limits a grid, which runs every point.", remedy))
    if sampler != "grid" and search.get("trials") is None:
        remedy = "Say how many points may be launched, the baseline and enqueued ones included."
        found.append(problem("sweep_search.trials", None, f"is missing, which the sampler {sampler} needs.", remedy))
    if sampler != "grid" and not server.get("space"):
        remedy = "Give parameters to choose from, or leave the sampler out."
        found.append(problem("sweep_server.space", {}, f"has nothing that {sampler} could choose.", remedy))
    least = {"trials": 1, "startup_trials": 2 if sampler == "nsga2" else 1, "patience": 1, "timeout_seconds": 1,
             "repeats": 1, "control_every": 0}  # fmt: skip
    for name, lowest in least.items():
        value = search.get(name)
        if value is not None and value < lowest:
            remedy = f"Give a whole number from {lowest}."
            found.append(problem(f"sweep_search.{name}", value, f"is below {lowest}.", remedy))
    if sampler == "qmc" and (missing := libraries.missing(["scipy"])):
        remedy = "Install scipy for the Python that runs Ansible, or choose random or tpe."
        found.append(problem("sweep_search.sampler", sampler, f"needs {missing}, which is not installed.", remedy))
    conditional = [name for name in server.get("space") or {} if _condition(server, name)]
    if sampler == "qmc" and conditional:
        remedy = "Choose random or tpe, or remove its when."
        message = f"knows no conditional parameters, such as {conditional[0]}."
        found.append(problem("sweep_search.sampler", sampler, message, remedy))
    if search["pruner"] != "none" and objectives > 1:
        remedy = "Leave it out: Optuna's pruners know one objective."
        found.append(problem("sweep_search.pruner", search["pruner"], f"cannot judge {objectives} objectives.", remedy))
    if search["control_every"] and not search["baseline"]:
        remedy = "Leave baseline at true: it is the control."
        found.append(problem("sweep_search.control_every", search["control_every"], "has no baseline to run.", remedy))
    for index, params in enumerate(search["enqueue"]):
        if wrong := sweep_space.misfit(server, params):
            remedy = "Give one value of the space for each of its parameters."
            found.append(problem(f"sweep_search.enqueue[{index}]", params, f"is no point: {wrong}.", remedy))
    return found


def check(server: dict[str, Any], search: dict[str, Any], objectives: int = 1) -> list[Problem]:
    """All that is wrong with ``sweep_server`` and ``sweep_search``, conditions included."""
    found = sweep_space_check.check_space(server, search["sampler"])
    if found:
        return found
    found += sweep_space_check.check_whens(server)
    if not found:
        try:
            found += check_search(search, server, objectives)
            if search["sampler"] == "grid" or not libraries.missing(["optuna"]):
                found += sweep_space_check.check_conditions(server, _probe(server, search["sampler"]))
        except (TemplateError, TypeError) as exc:
            remedy = "A parameter whose own when does not hold is none: say 'x is not none and x > 1'."
            found.append(problem("sweep_server.space", "when", f"cannot be evaluated: {exc}.", remedy))
    return found


def _probe(server: dict[str, Any], sampler: str) -> list[dict[str, Any]]:
    """Points to try expressions on: all of a grid, else some that are drawn."""
    if sampler == "grid":
        return sweep_space.grid(server)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    return [sweep_space.make_point(server, suggest(study.ask(), server)) for _number in range(PROBE_POINTS)]


def planned(
    server: dict[str, Any], search: dict[str, Any], slot_gpus: int, memory: Mapping[str, Any] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The feasible and the infeasible points that are known before any result: ``admit`` of the baseline, what is
    enqueued, and all of a grid or of what ``random`` and ``qmc`` draw.
    """
    feasible, infeasible = sweep_space.admit(server, known_points(server, search), slot_gpus, memory)
    if search["sampler"] in ("random", "qmc"):
        _draw(server, search, lambda point: sweep_space.unfit(server, point, slot_gpus, memory), feasible, infeasible)
    return feasible, infeasible


def known_points(server: dict[str, Any], search: dict[str, Any]) -> list[dict[str, Any]]:
    """The points that nobody has to draw: the baseline, what is enqueued, and all of a grid; equal launches once."""
    points = [sweep_space.baseline(server)] if search["baseline"] else []
    points += [sweep_space.make_point(server, params, "enqueued") for params in search["enqueue"]]
    return sweep_space.numbered([*points, *(sweep_space.grid(server) if search["sampler"] == "grid" else [])])


def reasons_against_all(
    server: dict[str, Any], search: dict[str, Any], slot_gpus: int, memory: Mapping[str, Any] | None = None
) -> list[str]:
    """Why none of the points that are tried out beforehand can be launched; [] if one of them can."""
    reasons = {sweep_space.unfit(server, point, slot_gpus, memory) for point in _probe(server, search["sampler"])}
    return [] if "" in reasons else sorted(reasons)


def _draw(
    server: dict[str, Any],
    search: dict[str, Any],
    unfit: Callable[[dict[str, Any]], str],
    feasible: list[dict[str, Any]],
    infeasible: list[dict[str, Any]],
) -> None:
    """Add what ``random`` or ``qmc`` draws until there are ``trials`` feasible points, or MAX_TRIES in vain."""
    space = distributions(server)
    sampler: BaseSampler = RandomSampler(seed=search["seed"])
    if search["sampler"] == "qmc":
        with _no_warnings():
            sampler = QMCSampler(scramble=True, seed=search["seed"])
    study = optuna.create_study(sampler=sampler)
    if search["sampler"] == "qmc":  # which takes its space from the first trial that has ended
        lowest = {name: _internal(sweep_space.parse(choice), None) for name, choice in server["space"].items()}
        study.add_trial(create_trial(value=0.0, params=lowest, distributions=space))
    known = {point["key"] for point in [*feasible, *infeasible]}
    tries = 0
    while len(feasible) < search["trials"] and tries < MAX_TRIES:
        tries += 1
        trial = study.ask(space) if search["sampler"] == "qmc" else study.ask()
        point = sweep_space.make_point(server, suggest(trial, server))
        study.tell(trial, state=TrialState.FAIL)
        if point["key"] in known:
            continue
        known.add(point["key"])
        point = {"number": len(known) - 1, **point}
        if reason := unfit(point):
            infeasible.append({**point, "reason": reason})
        else:
            feasible.append(point)
            tries = 0


def distributions(server: dict[str, Any]) -> dict[str, BaseDistribution]:
    """Optuna's distribution of every parameter of the space."""
    return {name: _distribution(sweep_space.parse(choice)) for name, choice in (server.get("space") or {}).items()}


def _distribution(dimension: Mapping[str, Any]) -> BaseDistribution:
    if "values" in dimension:
        return CategoricalDistribution([json.dumps(value, sort_keys=True) for value in dimension["values"]])
    low, high, step, log = (dimension[key] for key in ("low", "high", "step", "log"))
    if step is not None:
        high = sweep_space.values({"low": low, "high": high, "step": step})[-1]  # the last one on a step
    if sweep_space.whole(dimension):
        return IntDistribution(low, high, step=step or 1, log=log)
    return FloatDistribution(float(low), float(high), step=step, log=log)


def _internal(dimension: Mapping[str, Any], value: Any) -> Any:
    """A value as Optuna keeps it; None: the dimension's first. Categories are JSON, which tells 1 from true."""
    if "values" in dimension:
        return json.dumps(dimension["values"][0] if value is None else value, sort_keys=True)
    return dimension["low"] if value is None else value


def coordinates(server: dict[str, Any], params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``params`` and their distributions as Optuna keeps them; both empty if they are no point of the space."""
    if not params or sweep_space.misfit(server, params):
        return {}, {}
    known = distributions(server)
    internal = {name: _internal(sweep_space.parse(server["space"][name]), value) for name, value in params.items()}
    return internal, {name: known[name] for name in params}


def suggest(trial: optuna.Trial, server: dict[str, Any]) -> dict[str, Any]:
    """The parameters that the sampler chooses for a trial; those whose ``when`` does not hold are not asked for."""
    params: dict[str, Any] = {}
    for name, choice in (server.get("space") or {}).items():
        if not sweep_space.active(server, name, params):
            continue
        dimension = sweep_space.parse(choice)
        distribution = _distribution(dimension)
        if isinstance(distribution, CategoricalDistribution):
            params[name] = json.loads(str(trial.suggest_categorical(name, distribution.choices)))
        elif isinstance(distribution, IntDistribution):
            params[name] = trial.suggest_int(
                name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
        elif isinstance(distribution, FloatDistribution):
            drawn = trial.suggest_float(
                name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
            params[name] = sweep_space.snap(dimension, drawn)
    return params


def sampler_of(
    search: dict[str, Any], server: dict[str, Any], number: int, attempt: int, infeasible: int
) -> BaseSampler:
    """The sampler for one trial. ``infeasible`` trials were told to the study; they are no start-up trials."""
    text = f"{search['seed']}/{number}/{attempt}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    if attempt >= SAMPLER_TRIES:
        return RandomSampler(seed=seed)
    if search["sampler"] == "nsga2":
        return NSGAIISampler(population_size=search["startup_trials"], seed=seed)
    conditional = any(_condition(server, name) for name in server["space"])
    with _no_warnings():  # group is called experimental
        # Multivariate where there is one objective (Optuna's default); in groups where parameters come and go.
        return TPESampler(
            n_startup_trials=search["startup_trials"] + infeasible,
            multivariate=True if conditional else None,
            group=conditional,
            constant_liar=True,
            seed=seed,
        )


def pruner_of(search: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    """Optuna's pruner: ``median`` stops a trial that is worse after a workload than half of the trials before it."""
    if search.get("pruner", "none") == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=search["startup_trials"])
    return optuna.pruners.NopPruner()


def _condition(server: dict[str, Any], name: str) -> str | None:
    return sweep_space.parse(server["space"][name])["when"]


@contextlib.contextmanager
def _no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
