from __future__ import annotations

import pytest
import synthetic_trials as synthetic

from ansible_collections.preheat.fleet.plugins.plugin_utils import report_effects


def trials(*points):
    """A trial for each C((parameters, tokens per second))."""
    return [
        synthetic.trial(number, [synthetic.workload(rate=rate)], params=params)
        for number, (params, rate) in enumerate(points)
    ]


def test_medians_by_value():
    found = report_effects.parameter_effects(
        trials(
            ({"a": 8, "b": "x"}, 100), ({"a": 4, "b": "x"}, 200), ({"a": 8, "b": "y"}, 300), ({"a": 4, "b": "y"}, 240)
        )
    )
    assert [effect["parameter"] for effect in found] == ["b", "a"]  # the one that moves the median most first
    assert [(row["value"], row["trials"], row["median"]) for row in found[1]["values"]] == [
        (4, [1, 3], pytest.approx(220)),
        (8, [0, 2], pytest.approx(200)),
    ]
    assert found[0]["effect"] == pytest.approx(270 / 150 - 1)


@pytest.mark.parametrize("values", [(True, 1), ([1, 2], [2, 1]), (None, "null"), (2, 10), ("a", None)])
def test_values_of_any_kind_are_told_apart(values):
    (effect,) = report_effects.parameter_effects(trials(*(({"p": value}, 100) for value in values)))
    assert len(effect["values"]) == 2
    assert effect["effect"] == 0


def test_numbers_are_in_order_of_size():
    (effect,) = report_effects.parameter_effects(trials(*(({"p": value}, 100) for value in (10, 9, 0.5))))
    assert [row["value"] for row in effect["values"]] == [0.5, 9, 10]


def test_what_cannot_win_and_what_does_not_vary_shows_no_effect():
    assert report_effects.parameter_effects(trials(({"p": 1}, 100), ({"p": 1}, 200))) == []
    assert report_effects.parameter_effects([*trials(({"p": 1}, 100)), synthetic.failed_trial(1)]) == []
    assert report_effects.parameter_effects([]) == []


def test_a_parameter_that_not_every_trial_has():
    (effect,) = report_effects.parameter_effects(trials(({"p": 1}, 100), ({"p": 2}, 200), ({"q": 2}, 300)))
    assert effect["parameter"] == "p"
