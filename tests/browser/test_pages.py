"""The report and the comparison as a browser shows them. Screenshots are kept in .lab/browser."""

from __future__ import annotations

import random

import browser
import pytest
import synthetic_trials as synthetic

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    records,
    report_compare,
    report_files,
    report_model,
)

pytestmark = pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium: make browser installs it")

# Charts that are empty or wider than their place; texts of a chart that lie over each other; errors of scripts.
LOOK = """
const charts = [...document.querySelectorAll('.chart')].map(chart => {
  const svg = chart.querySelector('svg'), box = svg?.getBoundingClientRect();
  const texts = [...chart.querySelectorAll('svg text')].filter(text => text.textContent.trim()
    && getComputedStyle(text).opacity > 0 && text.getAttribute('opacity') !== '0');
  const boxes = texts.map(text => text.getBoundingClientRect());
  const over = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const a = boxes[i], b = boxes[j];
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (width > 1 && height > 1 && width * height > 0.25 * Math.min(a.width * a.height, b.width * b.height))
      over.push(texts[i].textContent + ' / ' + texts[j].textContent);
  }
  return {id: chart.id, width: box?.width ?? 0, height: box?.height ?? 0, place: chart.getBoundingClientRect().width,
    marks: chart.querySelectorAll('[role="graphics-symbol"]').length, over,
    cut: texts.filter((_, i) => boxes[i].left < box.left - 2 || boxes[i].right > box.right + 2).map(t => t.innerHTML)};
});
return {charts, errors: window.pageErrors, page: document.documentElement.scrollWidth, window: innerWidth};
"""
# The least contrast between text and what lies behind it, by WCAG 2.2.
CONTRAST = """
const light = color => { const [r, g, b] = color.match(/[0-9.]+/g).map(Number).map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = element => {
  for (let e = element; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (/^rgb\\(/.test(color)) return color;
  }
  return 'rgb(255, 255, 255)';
};
const seen = [...document.querySelectorAll('h1, h2, h3, p, td, th, pre, li, .quiet, svg text')];
return seen.filter(e => e.textContent.trim()).map(e => {
  const ink = e.tagName === 'text' ? getComputedStyle(e).fill : getComputedStyle(e).color;
  const [a, b] = [light(ink), light(behind(e.closest('.chart') ?? e))].sort((x, y) => y - x);
  return {text: e.textContent.trim().slice(0, 30), ratio: (a + 0.05) / (b + 0.05)};
}).sort((x, y) => x.ratio - y.ratio).slice(0, 3);
"""


def large(count):
    return [synthetic.large_trial(number, random.Random(number)) for number in range(count)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    sweeps = {}
    for name, trials in {"small": synthetic.sweep(), "large": large(120)}.items():
        for trial in trials:
            records.write_trial(folder / name, trial, {"server.log": "ready\n"})
        plan = synthetic.plan(name=name, points=len(trials))
        model = report_model.build(plan, trials)
        report_files.write(folder / name, report_files.contents(folder / name, plan, model, "best.yml"))
        sweeps[name] = (model, plan)
    report_files.write_changed(folder, report_compare.contents(report_compare.compare(sweeps), sweeps))
    return {
        "small": folder / "small/report.html",
        "large": folder / "large/report.html",
        "comparison": folder / "comparison.html",
    }


@pytest.mark.parametrize(("name", "charts"), [("small", 7), ("large", 9), ("comparison", 3)])
@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_is_empty_and_nothing_lies_over_another(pages, name, charts, width):
    browser.picture(pages[name], f"{name}-{width}", width=width)
    seen = browser.measure(pages[name], LOOK, width=width)
    assert seen["errors"] == []
    assert seen["page"] <= seen["window"], "the page is wider than the window"
    assert len(seen["charts"]) == charts
    for chart in seen["charts"]:
        assert chart["marks"] > 1, chart
        assert chart["height"] > 40, chart
        assert 0.6 * chart["place"] < chart["width"] <= chart["place"] + 1, chart
        assert chart["over"] == [], chart
        assert chart["cut"] == [], chart


@pytest.mark.parametrize("name", ["small", "comparison"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read_in_light_and_dark(pages, name, dark):
    browser.picture(pages[name], f"{name}-{'dark' if dark else 'light'}", dark=dark)
    for item in browser.measure(pages[name], CONTRAST, dark=dark):
        assert item["ratio"] >= 4.5, item


def test_the_filter(pages):
    script = """
    const box = document.querySelector('input[type=search]'), rows = [...document.querySelectorAll('tr.trial')];
    const shown = text => { box.value = text; box.dispatchEvent(new Event('input'));
      return rows.filter(row => row.getBoundingClientRect().height > 0).length; };
    return [shown('FAILED'), shown('gpu1 complete'), shown('nothing at all'), shown(''), rows.length];
    """
    assert browser.measure(pages["small"], script) == [2, 3, 0, 8, 8]


def test_on_paper(pages):
    assert browser.pdf(pages["small"], "small").read_bytes().startswith(b"%PDF")
