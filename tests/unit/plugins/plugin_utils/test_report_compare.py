from __future__ import annotations

import json
import re

import pytest
import synthetic_trials as synthetic
import vl_convert

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    report_compare,
    report_compare_charts,
    report_model,
)


def sweep(factor=1.0, trials=None, **changes):
    plan = synthetic.plan(**changes)
    found = trials
    if found is None:
        found = [
            synthetic.trial(n, [synthetic.workload(c, 8, factor * (n + 1) * 100) for c in ("chat", "read")])
            for n in (0, 1)
        ]
    return report_model.build(plan, found), plan


def test_values_over_that_of_the_first_sweep():
    facts = report_compare.compare({"a": sweep(), "b": sweep(1.5), "c": sweep(trials=[synthetic.failed_trial(0)])})
    assert facts["comparable"]
    assert [row["ratio"] for row in facts["sweeps"]] == [1.0, pytest.approx(1.5), None]
    assert facts["sweeps"][1]["report"] == "b/report.html"
    assert facts["sweeps"][1]["gpus"] == ["NVIDIA H100"]


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": {"metric": "requests_per_second"}},
        {"workloads": [{"name": "chat", "input_tokens": 1}]},
        {"objective": None, "workloads": []},
    ],
)
def test_what_is_not_alike_is_not_compared(changes):
    facts = report_compare.compare({"a": sweep(), "b": sweep(**changes)})
    assert not facts["comparable"]
    assert [row["ratio"] for row in facts["sweeps"]] == [None, None]
    files = report_compare.contents(facts, {"a": sweep(), "b": sweep(**changes)})
    assert "not compared" in files["comparison.html"]
    assert "not compared" in files["comparison.md"]


def test_no_sweep_has_a_winner():
    sweeps = {name: sweep(trials=[synthetic.failed_trial(0)]) for name in "ab"}
    facts = report_compare.compare(sweeps)
    assert json.loads(report_compare.contents(facts, sweeps)["comparison.json"])["sweeps"][0]["value"] is None


def test_the_files():
    sweeps = {"a": sweep(), "b|<b>": sweep(1.5)}
    files = report_compare.contents(report_compare.compare(sweeps), sweeps)
    assert sorted(files) == ["comparison.html", "comparison.json", "comparison.md"]
    assert "1.500x" in files["comparison.md"]
    assert "| b\\|&lt;b> |" in files["comparison.md"]
    assert "<b>" not in re.sub(r"<script>.*?</script>", "", files["comparison.html"], flags=re.DOTALL)
    assert "src=" not in re.sub(r"<script>.*?</script>", "", files["comparison.html"], flags=re.DOTALL)


def test_the_charts_draw_every_sweep():
    sweeps = {"a": sweep(), "b": sweep(1.5)}
    models = [model for model, _plan in sweeps.values()]
    charts = report_compare_charts.charts(report_compare.compare(sweeps), models)
    assert sorted(charts) == ["best-values", "front-0", "front-1"]
    for chart in charts.values():
        svg = vl_convert.vegalite_to_svg(chart | {"width": 500})
        assert {"a", "b"} <= set(re.findall(r"sweep: (\w)", svg))
