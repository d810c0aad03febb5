from __future__ import annotations

import csv
import html.parser
import io
import json
import math
import re

import pytest
import synthetic_trials as synthetic
import yaml

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, report_charts, report_files, report_model


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
        "better than trial 0",
        "chunked_prefill_size=8192",
        "ansible-playbook serve.yml -e @results/synthetic/best.yml",
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
    assert sorted(shown) == ["phases", "picture-0", "picture-1"]
    for element in shown:
        assert f'id="{element}"' in files["report.html"]
    assert len(shown["picture-0"]["layer"][0]["data"]["values"]) == 18
    assert len({row["trial"] for row in shown["phases"]["data"]["values"]}) == 8


@pytest.mark.parametrize("color", ["black", "#000", "#fff"])
def test_charts_take_the_colours_of_the_page(color):
    charts = report_charts.charts(report_model.build(synthetic.plan(), synthetic.sweep()))
    assert all(chart["config"]["background"] == "transparent" for chart in charts.values())
    assert all(chart["config"]["axis"]["labelColor"] == "currentColor" for chart in charts.values())
    assert f'"{color}"' not in json.dumps(charts)


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


def test_best_yml_is_what_serve_takes(files):
    assert yaml.safe_load(files["best.yml"]) == {
        "sglang_server_image": "lmsysorg/sglang:v0.5.15",
        "sglang_server_repo_id": "example/tiny-llama",
        "sglang_server_revision": "c" * 40,
        "sglang_server_parameters": {"context_length": 4096, "chunked_prefill_size": 8192},
        "sglang_server_gpu_count": 1,
    }
    assert "# output_tokens_per_second_per_gpu (maximize): 1392.9" in files["best.yml"]


def test_a_trial_without_gpus_is_served_without():
    model = report_model.build(synthetic.plan(), [synthetic.trial(0, gpus=0)])
    assert yaml.safe_load(report_files.best_yml(model))["sglang_server_gpu_count"] == 0


def test_the_best_configuration_keeps_its_environment():
    model = report_model.build(synthetic.plan(environment={"SGLANG_X": "1"}), [synthetic.trial(0)])
    assert yaml.safe_load(report_files.best_yml(model))["sglang_server_environment"] == {"SGLANG_X": "1"}


def test_every_variable_of_best_yml_is_one_of_the_role():
    specs = yaml.safe_load((report_files.TEMPLATE.parents[2] / "sglang_server/meta/argument_specs.yml").read_text())
    known = {name for entry in specs["argument_specs"].values() for name in entry.get("options") or {}}
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


def test_the_same_results_give_the_same_files(sweep_dir, files, tmp_path):
    again = build(sweep_dir, synthetic.plan(), synthetic.sweep())
    assert again == files
    assert report_files.write(tmp_path, files) == ["trials.csv", "report.json", "report.html", "best.yml"]
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
        ("_number", None, "–"),
        ("_number", 1392.9, "1,393"),
        ("_number", 0.012344, "0.01234"),
        ("_seconds", None, "–"),
        ("_seconds", 0.0, "0 s"),
        ("_seconds", 0.0312, "31.2 ms"),
        ("_seconds", 3.14159, "3.14 s"),
        ("_seconds", 1234.5, "1234 s"),
        ("_size", None, "–"),
        ("_size", 0, "0 B"),
        ("_size", 999, "999 B"),
        ("_size", 2_700_000_000, "2.7 GB"),
        ("_size", 5e15, "5e+03 TB"),
        ("_compact", [1, 2], "[1, 2]"),
        ("_compact", True, "true"),
        ("_compact", "fa3", "fa3"),
    ],
)
def test_how_values_read(form, value, text):
    assert getattr(report_files, form)(value) == text


def test_nothing_that_json_does_not_have_reaches_the_page(tmp_path):
    trial = synthetic.trial(0, [synthetic.workload(e2e_p99_seconds=math.inf)])
    files = build(tmp_path, synthetic.plan(), [trial])
    json.loads(files["report.json"], parse_constant=pytest.fail)
    assert "Infinity" not in Page(files["report.html"]).scripts[1]
