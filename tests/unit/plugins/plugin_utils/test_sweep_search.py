"""How points are chosen: what is refused, what is known beforehand, what Optuna draws."""

from __future__ import annotations

import optuna
import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_plan, sweep_search, sweep_space

SPACE = {
    "tp_size": [1, 2],
    "fraction": {"low": 0.8, "high": 0.9, "step": 0.02},
    "tokens": {"low": 512, "high": 8192, "log": True},
    "ratio": {"low": 0.1, "high": 1.0, "log": True},
    "algorithm": [None, ["a", "b"], True, 1],
    "steps": {"low": 1, "high": 4, "when": "algorithm == 1"},
}
SERVER = {"base": {"c": 1}, "space": SPACE}


def search(**given):
    options = {"sweep_search": sweep_plan.role_options("sweep")["sweep_search"]}
    coerced, found = sweep_plan.check_types(options, {"sweep_search": given})
    assert found == []
    return coerced["sweep_search"]


@pytest.mark.parametrize(
    ("given", "server", "variable", "message"),
    [
        ({"trials": 3}, {}, "sweep_search.trials", "limits a grid"),
        ({"sampler": "tpe"}, SERVER, "sweep_search.trials", "is missing"),
        ({"sampler": "tpe", "trials": 0}, SERVER, "sweep_search.trials", "below 1"),
        ({"sampler": "tpe", "trials": 3}, {}, "sweep_server.space", "nothing that tpe could choose"),
        ({"sampler": "nsga2", "trials": 9, "startup_trials": 1}, SERVER, "sweep_search.startup_trials", "below 2"),
        ({"sampler": "qmc", "trials": 9}, {"space": {"a": [1], "b": {"values": [1], "when": "a == 1"}}},
         "sweep_search.sampler", "knows no conditional parameters, such as b"),
        ({"patience": 0}, {}, "sweep_search.patience", "below 1"),
        ({"repeats": 0}, {}, "sweep_search.repeats", "below 1"),
        ({"control_every": 4, "baseline": False}, {}, "sweep_search.control_every", "no baseline"),
        ({"enqueue": [{"a": 1}, {"a": 3}]}, {"space": {"a": [1, 2]}}, "sweep_search.enqueue[1]", "a = 3 is not in"),
        ({"enqueue": [{}]}, {"space": {"a": [1, 2]}}, "sweep_search.enqueue[0]", "a is missing"),
        ({}, {"space": {"a": {"low": 0.1, "high": 0.2}}}, "sweep_server.space.a", "which a grid needs"),
        ({}, {"space": {"a": {"values": [1], "when": "b == 1"}, "b": [1]}}, "sweep_server.space.a.when", "names b"),
        ({}, {"space": {"a": [1], "b": {"values": [1], "when": "a =="}}}, "sweep_server.space.b.when", "no expression"),
        ({}, {"space": {"a": ["x"], "b": {"values": [1], "when": "a > 1"}}}, "sweep_server.space",
         "cannot be evaluated"),
        ({}, {"space": {"tp_size": [1]}, "where": ["tp_sise < 2"]}, "sweep_server.where[0]", "cannot be evaluated"),
        ({}, {"space": {"tp_size": [1]}, "where": ["tp_size <"]}, "sweep_server.where[0]", "cannot be evaluated"),
        ({}, {"space": {"a": [1, "x"]}, "where": ["a < 2"]}, "sweep_server.where[0]", "not supported"),
        ({"sampler": "tpe", "trials": 3}, {"space": {"a": [1, "x"]}, "where": ["a < 2"]}, "sweep_server.where[0]",
         "not supported"),
        ({}, {"where": ["''.__class__.__mro__"]}, "sweep_server.where[0]", "cannot be evaluated"),
    ],
)  # fmt: skip
def test_what_is_refused(given, server, variable, message, monkeypatch):
    monkeypatch.setattr(sweep_search.libraries, "missing", lambda names: "")
    found = sweep_search.check(server, search(**given))
    assert [item["variable"] for item in found] == [variable]
    assert message in found[0]["message"]
    assert found[0]["remedy"]


def test_a_pruner_judges_one_objective():
    (found,) = sweep_search.check(SERVER, search(sampler="tpe", trials=9, pruner="median"), objectives=2)
    assert found["variable"] == "sweep_search.pruner"


def test_qmc_needs_scipy(monkeypatch):
    monkeypatch.setattr(sweep_search.libraries, "missing", lambda names: "scipy" if "scipy" in names else "")
    (found,) = sweep_search.check({"space": {"a": [1, 2]}}, search(sampler="qmc", trials=2))
    assert "scipy" in found["message"]


def test_where_names_the_likely_variable():
    (found,) = sweep_search.check({"space": {"tp_size": [1]}, "where": ["tp_sise < 2"]}, search())
    assert "tp_size" in found["remedy"]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_right_search(sampler):
    given = search(sampler=sampler, trials=9, enqueue=[
        {"tp_size": 2, "fraction": 0.86, "tokens": 600, "ratio": 0.5, "algorithm": 1, "steps": 2}
    ])  # fmt: skip
    assert sweep_search.check(SERVER, given) == []


def kinds(points):
    return [(point["kind"], point["params"]) for point in points]


def test_baseline_and_known_configurations_come_first_and_no_launch_twice():
    server = {"space": {"a": [1, 2, None]}}
    assert kinds(sweep_search.known_points(server, search(enqueue=[{"a": 2}, {"a": 2}]))) == [
        ("baseline", {"a": None}), ("enqueued", {"a": 2}), ("search", {"a": 1})
    ]  # fmt: skip
    assert kinds(sweep_search.known_points(server, search(baseline=False))) == [
        ("search", {"a": 1}), ("search", {"a": 2}), ("search", {"a": None})
    ]  # fmt: skip


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_what_is_drawn_beforehand_is_distinct_and_the_same_again(sampler):
    space = {name: choice for name, choice in SPACE.items() if name != "steps"}
    server = {"space": space, "where": ["tp_size == 1 or fraction < 0.87"]}
    feasible, infeasible = sweep_search.planned(server, search(sampler=sampler, trials=20), slot_gpus=2)
    assert len(feasible) == 20
    assert infeasible
    assert {point["reason"] for point in infeasible} == {"where: tp_size == 1 or fraction < 0.87"}
    every = [*feasible, *infeasible]
    assert sorted(point["number"] for point in every) == list(range(len(every)))
    assert len({point["key"] for point in every}) == len(every)
    assert all(sweep_space.misfit(server, point["params"]) == "" for point in every if point["kind"] == "search")
    again = sweep_search.planned(server, search(sampler=sampler, trials=20), slot_gpus=2)
    assert again == (feasible, infeasible)
    more = sweep_search.planned(server, search(sampler=sampler, trials=30), slot_gpus=2)
    assert more[0][:20] == feasible, "a larger budget goes on where the smaller one ended"
    other = sweep_search.planned(server, search(sampler=sampler, trials=20, seed=2), slot_gpus=2)
    assert other[0][1:] != feasible[1:]


def test_qmc_spreads_its_points_evenly():
    """Of 16 points of a Sobol sequence each sixteenth of a parameter's range has one; random ones leave gaps."""
    server = {"space": {"ratio": {"low": 0.0, "high": 1.0}, "other": {"low": 0.0, "high": 1.0}}}
    assert sweep_search.check(server, search(sampler="qmc", trials=16, baseline=False)) == []
    feasible, _infeasible = sweep_search.planned(server, search(sampler="qmc", trials=16, baseline=False), 1)
    for name in ("ratio", "other"):
        assert {int(point["params"][name] * 16) for point in feasible} == set(range(16))


def test_a_small_space_is_drawn_to_its_end():
    feasible, _infeasible = sweep_search.planned({"space": {"a": [1, 2, 3]}}, search(sampler="random", trials=50), 1)
    assert sorted(str(point["params"]) for point in feasible) == sorted(["{}", "{'a': 1}", "{'a': 2}", "{'a': 3}"])


def test_what_optuna_draws_is_a_point_of_the_space_and_goes_back():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(100):
        params = sweep_search.suggest(study.ask(), SERVER)
        assert sweep_space.misfit(SERVER, params) == ""
        internal, distributions = sweep_search.coordinates(SERVER, params)
        assert internal.keys() == distributions.keys() == params.keys()
        optuna.trial.create_trial(value=1.0, params=internal, distributions=distributions)


@pytest.mark.parametrize("params", [{}, {"tp_size": 1}, {"gone": 1}])
def test_what_is_no_point_has_no_coordinates(params):
    assert sweep_search.coordinates(SERVER, params) == ({}, {})
