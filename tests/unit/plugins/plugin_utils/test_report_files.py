from __future__ import annotations

import csv
import html.parser
import io
import json
import math
import re
from pathlib import Path

import jsonschema
import pytest
import synthetic_trials as synthetic
import vl_convert
import yaml

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    report_charts,
    report_files,
    report_model,
    report_pages,
)

ROOT = Path(__file__).parents[4]
SCHEMA = json.loads((ROOT / "docs/report.schema.json").read_text())


def build(sweep_dir, plan, trials):
    for trial in trials:
        records.write_trial(sweep_dir, trial, {"server.log": "ready\n"})
    model = report_model.build(plan, records.load_trials(sweep_dir))
    return report_files.contents(sweep_dir, plan, model, "results/synthetic/best.yml")


@pytest.fixture(scope="module")
def sweep_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="module")
def files(sweep_dir):
    return build(sweep_dir, synthetic.plan(), synthetic.sweep())


class Page(html.parser.HTMLParser):
    """What a browser would fetch, run and show."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.scripts, self.text, self._in = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._in = tag
        attributes = dict(attrs)
        if tag == "a":
            self.links.append(attributes["href"])
        self.loaded += [attributes[key] for key in ("src", "srcset", "data") if key in attributes]
        self.loaded += [attributes["href"]] if tag == "link" else []
        self.scripts += [""] if tag == "script" else []

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def page(files):
    return Page(files["report.html"])


def test_the_page_is_one_small_file_that_loads_nothing(files, page):
    assert len(files["report.html"].encode()) < 3_000_000
    assert page.loaded == []
    assert "@import" not in files["report.html"]
    assert len(page.scripts) == 2


def test_the_page_says_what_matters(page):
    for words in (
        "example/tiny-llama · lmsysorg/sglang:v0.5.15 · 8 trials: 6 complete, 2 failed",
        "trial 3",
        "+18.0 %",
        "over trial 0",
        "chunked_prefill_size=8192",
        "ansible-playbook serve.yml -e @results/synthetic/best.yml",
        "docker run --name preheat-synthetic-3",
        "asked: maximize output_tokens_per_second_per_gpu, ttft_p99_seconds ≤ 1.0 (hard)",
        "chunked_prefill_size median moves 18.0 %",
        "50 experiments",
        "Fetching the weights to a host takes 31.0 s: measured.",
        "No configuration ran on two hosts",
        "Nothing was measured twice",
        "page_cache",
        "2.7 GB",
        "unrecognized arguments: --no-such-flag",
        "Lower mem_fraction_static.",
        "ttft_p99_seconds broken",
        "chat: no point meets every hard SLO",
    ):
        assert words in page.words, words


def test_text_of_logs_and_records_is_only_text(files, page):
    assert "<script>alert('log text')</script>" in page.words  # shown
    assert not [script for script in page.scripts if script.startswith("alert")]  # not run


def test_hostile_names_stay_text(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    trial = synthetic.trial(0, [synthetic.workload(evil), synthetic.workload()], params={evil: evil})
    plan = synthetic.plan(name=evil, image=evil, server={"base": {evil: evil}})
    page = Page(build(tmp_path, plan, [trial])["report.html"])
    assert page.loaded == []
    assert len(page.scripts) == 2
    assert evil in page.words


def test_links_lead_to_the_files_beside_the_records(sweep_dir, page):
    assert len(page.links) == 16
    assert all((sweep_dir / link).is_file() for link in page.links)


def test_the_charts_have_an_element_and_data(files, page):
    shown = json.loads(re.search(r"Object.entries\((\{.*\})\)\)", page.scripts[1]).group(1))
    names = ["effect-0", "hosts-launch", "hosts-value", "phases", "picture-0", "picture-1", "savings"]
    assert sorted(shown) == names
    for element in shown:
        assert f'id="{element}"' in files["report.html"]
    assert len(shown["picture-0"]["datasets"]["points"]) == 18
    assert len({row["trial"] for row in shown["phases"]["datasets"]["rows"]}) == 8
    assert len(shown["savings"]["datasets"]["totals"]) == 5


def test_every_chart_draws_its_data(synthetic_charts):
    """Rendered as a browser would: no empty plot."""
    for name, chart in synthetic_charts.items():
        svg = vl_convert.vegalite_to_svg(chart | {"width": 500})
        drawn = re.findall(r'<path aria-label="([^"]*)" role="graphics-symbol"', svg)
        assert len(drawn) >= 2, name
        assert not [label for label in drawn if re.search("NaN|undefined|Infinity", label)], name


@pytest.fixture(scope="module")
def synthetic_charts():
    return report_charts.charts(report_model.build(synthetic.plan(), synthetic.sweep()))


def test_several_objectives(tmp_path):
    plan = synthetic.plan(objective={**synthetic.OBJECTIVE, "also": [{"metric": "ttft_p99_seconds"}]})
    files = build(tmp_path, plan, synthetic.sweep())
    assert schema_errors(json.loads(files["report.json"])) == []
    words = Page(files["report.html"]).words
    assert "asked: maximize output_tokens_per_second_per_gpu, minimize ttft_p99_seconds" in words
    assert 'id="objectives"' in files["report.html"]


def test_a_phase_that_has_no_colour_of_its_own_is_drawn(monkeypatch):
    monkeypatch.delitem(report_charts.report_style.PHASE_COLORS, "kv_cache")
    model = report_model.build(synthetic.plan(), synthetic.sweep())
    assert report_charts.report_style.OTHER_COLOR in json.dumps(report_charts.charts(model)["phases"])


@pytest.mark.parametrize("color", ["black", "#000", "#fff"])
def test_charts_take_the_colours_of_the_page(color, synthetic_charts):
    assert all(chart["config"]["background"] == "transparent" for chart in synthetic_charts.values())
    assert all(chart["config"]["axis"]["labelColor"] == "currentColor" for chart in synthetic_charts.values())
    assert f'"{color}"' not in json.dumps(synthetic_charts)


@pytest.mark.parametrize(
    "trials",
    [
        [synthetic.failed_trial(0)],
        [synthetic.trial(0, workloads=[], status="pruned")],
        [records.new_record(sweep="bare")],
        [synthetic.trial(0, [synthetic.workload(ttft_p99_seconds=None)])],
    ],
)
@pytest.mark.parametrize("plan", [{}, synthetic.plan()])
def test_pages_of_poor_results(tmp_path, plan, trials):
    files = build(tmp_path, plan, trials)
    assert "Where the time went" in files["report.html"] or not trials[0]["phases"]
    assert ("best.yml" in files) == bool(trials[0]["eligible"])
    assert ("No trial can win" in files["report.html"]) == ("best.yml" not in files)
    assert schema_errors(json.loads(files["report.json"])) == []


def test_best_yml_is_what_serve_takes(files):
    assert yaml.safe_load(files["best.yml"]) == {
        "sglang_server_image": "lmsysorg/sglang:v0.5.15",
        "sglang_server_repo_id": "example/tiny-llama",
        "sglang_server_revision": "c" * 40,
        "sglang_server_parameters": {"context_length": 4096, "chunked_prefill_size": 8192},
        "sglang_server_gpu_count": 1,
        "engine_image_digest": "sha256:" + "ab" * 32,
    }
    assert "# output_tokens_per_second_per_gpu (maximize): 1392.9" in files["best.yml"]


def test_a_trial_without_gpus_is_served_without():
    model = report_model.build(synthetic.plan(), [synthetic.trial(0, gpus=0)])
    assert yaml.safe_load(report_files.best_yml(model))["sglang_server_gpu_count"] == 0


def test_the_best_configuration_keeps_its_environment():
    model = report_model.build(synthetic.plan(environment={"SGLANG_X": "1"}), [synthetic.trial(0)])
    assert yaml.safe_load(report_files.best_yml(model))["sglang_server_environment"] == {"SGLANG_X": "1"}


def test_every_variable_of_best_yml_is_one_of_a_role_of_serve_yml():
    known = set()
    for role in ("engine_image", "sglang_server"):
        specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())
        known |= {name for entry in specs["argument_specs"].values() for name in entry.get("options") or {}}
    model = report_model.build(synthetic.plan(environment={"SGLANG_X": "1"}), [synthetic.trial(0)])
    assert set(yaml.safe_load(report_files.best_yml(model))) <= known


def test_trials_csv(files):
    rows = list(csv.DictReader(io.StringIO(files["trials.csv"])))
    assert [row["number"] for row in rows] == [str(number) for number in range(8)]
    assert rows[3]["rank"] == "1"
    assert rows[3]["param.chunked_prefill_size"] == "8192"
    assert float(rows[3]["chat/c32.output_tokens_per_second"]) > 3000
    assert rows[0]["cache.weights_rung"] == "hub"
    assert float(rows[0]["phase.weights_load_seconds"]) == 8.4
    assert rows[6]["error_class"] == "bad_flag"
    assert rows[6]["chat/c32.output_tokens_per_second"] == ""


def test_report_json_is_strict(files):
    model = json.loads(files["report.json"], parse_constant=pytest.fail)
    assert model["best"]["number"] == 3
    assert model["schema_version"] == 1


def schema_errors(model):
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(model)]


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_report_json_keeps_to_its_schema(files):
    assert schema_errors(json.loads(files["report.json"])) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"schema_version": 2}, "$.schema_version"),
        ({"new": 1}, "$: Additional properties"),
        ({"counts": {"total": "8"}}, "$.counts"),
        ({"best": {"number": 3}}, "$.best"),
    ],
)
def test_the_schema_notices_what_is_wrong(files, change, where):
    assert any(error.startswith(where) for error in schema_errors(json.loads(files["report.json"]) | change))


def test_the_report_of_the_h100_keeps_to_the_schema():
    folder = ROOT / "docs/example-h100/h100"
    model = report_model.build(json.loads((folder / "sweep.json").read_text()), records.load_trials(folder))
    assert schema_errors(records.finite(model)) == []


def test_report_md(files):
    text = files["report.md"]
    for line in (
        "**Trial 3: 1,393** output_tokens_per_second_per_gpu (maximize), **+18.0 %** over trial 0 (1,180).",
        "| chunked_prefill_size | 8192 |",
        "ansible-playbook serve.yml -e @results/synthetic/best.yml",
        "| page_cache | warm | 5 | 2.1 s | 5.3 s | 18 s |",
    ):
        assert line in text.splitlines(), line
    assert "<script>" not in text
    assert "\n\n\n" not in text


def test_how_sure_the_best_is(tmp_path):
    rates = {0: (800, 1000), 1: (810, 1010), 2: (400, 410)}
    trials = []
    for number, (first, again) in rates.items():
        repeats = [
            synthetic.workload(rate=float(first)),
            {**synthetic.workload(rate=float(again)), "point": "chat/c8~2"},
        ]
        trials.append(synthetic.trial(number, repeats, kind="baseline" if number == 2 else "search", slo={}))
    files = build(tmp_path, synthetic.plan(slo={}), trials)
    words = Page(files["report.html"]).words
    for text in (
        "no clear winner: trial 1 cannot be told from 0",
        "95 % interval of its score, from",
        "over the baseline, trial 2",
    ):
        assert text in words, text
    assert "no clear winner: trial 1 cannot be told from 0" in files["report.md"]
    assert "noise ±" in files["report.md"]
    assert "Nothing was measured twice" not in words


def test_report_md_of_a_sweep_without_a_winner(tmp_path):
    assert "No trial can win." in build(tmp_path, {}, [synthetic.failed_trial(0)])["report.md"]


def test_the_state_of_jit_caches_is_a_column_for_each_fact(tmp_path):
    trial = synthetic.trial(0)
    trial["cache"]["jit"] = {"state": "partial", "files_added": 9}
    (row,) = csv.DictReader(io.StringIO(build(tmp_path, synthetic.plan(), [trial])["trials.csv"]))
    assert (row["cache.jit.state"], row["cache.jit.files_added"]) == ("partial", "9")


def test_the_same_results_give_the_same_files(sweep_dir, files, tmp_path):
    again = build(sweep_dir, synthetic.plan(), synthetic.sweep())
    assert again == files
    assert report_files.write(tmp_path, files) == ["trials.csv", "report.json", "report.html", "report.md", "best.yml"]
    assert report_files.write(tmp_path, again) == []


def test_check_mode_writes_nothing(files, tmp_path):
    assert report_files.write(tmp_path, files, check_mode=True)
    assert list(tmp_path.iterdir()) == []


def test_a_best_configuration_of_an_earlier_report_does_not_outlive_it(tmp_path):
    (tmp_path / "best.yml").write_text("stale")
    assert report_files.write(tmp_path, {}, check_mode=True) == ["best.yml"]
    assert (tmp_path / "best.yml").exists()
    assert report_files.write(tmp_path, {}) == ["best.yml"]
    assert not (tmp_path / "best.yml").exists()


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        ("number", None, "–"),
        ("number", 1392.9, "1,393"),
        ("number", 0.012344, "0.01234"),
        ("seconds", None, "–"),
        ("seconds", 0.0, "0 s"),
        ("seconds", 0.0312, "31.2 ms"),
        ("seconds", 3.14159, "3.14 s"),
        ("seconds", 1234.5, "1234 s"),
        ("size", None, "–"),
        ("size", 0, "0 B"),
        ("size", 999, "999 B"),
        ("size", 2_700_000_000, "2.7 GB"),
        ("size", 5e15, "5e+03 TB"),
        ("compact", [1, 2], "[1, 2]"),
        ("compact", True, "true"),
        ("compact", "fa3", "fa3"),
        ("numbers", [], ""),
        ("numbers", [3, 1, 2, 5, 7, 8], "1-3, 5, 7, 8"),
        ("numbers", range(0, 40, 2), "20 of 0-38"),
        ("cell", None, ""),
        ("cell", "a|b\n*c* _d_ e_f <img>", r"a\|b \*c\* \_d\_ e_f &lt;img>"),
    ],
)
def test_how_values_read(form, value, text):
    assert getattr(report_pages, form)(value) == text


def test_nothing_that_json_does_not_have_reaches_the_page(tmp_path):
    trial = synthetic.trial(0, [synthetic.workload(e2e_p99_seconds=math.inf)])
    files = build(tmp_path, synthetic.plan(), [trial])
    json.loads(files["report.json"], parse_constant=pytest.fail)
    assert "Infinity" not in Page(files["report.html"]).scripts[1]
