"""`make dashboard` on a sweep's study, as a browser shows it. Screenshots are kept in .lab/browser."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import browser
import pytest
import synthetic_trials as synthetic

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, study_journal, sweep_space

ROOT = Path(__file__).parents[2]
TRIALS = 40
SERVER = {
    "base": {"context_length": 4096},
    "space": {
        "attention_backend": ["fa3", "flashinfer", "triton"],
        "chunked_prefill_size": [1024 * 2**power for power in range(5)],
        "mem_fraction_static": [round(0.70 + 0.01 * step, 2) for step in range(25)],
    },
}

pytestmark = pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium: make browser installs it")

# Plots without a mark; texts of a plot that lie over each other; cards that lie over each other; errors of scripts.
LOOK = """
const over = boxes => {
  let found = 0;
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const a = boxes[i], b = boxes[j];
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (width > 1 && height > 1 && width * height > 0.25 * Math.min(a.width * a.height, b.width * b.height)) found++;
  }
  return found;
};
const shown = element => element.getBoundingClientRect();
const plots = [...document.querySelectorAll('.plot-container')].map(plot => ({
  title: plot.closest('.MuiCard-root')?.querySelector('h6')?.textContent,
  marks: plot.querySelectorAll('.point').length,
  width: shown(plot).width, height: shown(plot).height,
  over: over([...plot.querySelectorAll('svg text')].filter(text => text.textContent.trim()).map(shown)),
}));
return {plots, cards: over([...document.querySelectorAll('.MuiCard-root')].map(shown)), errors: window.pageErrors,
  text: document.body.innerText, page: document.documentElement.scrollWidth, window: innerWidth};
"""


def make_study(folder, trials=TRIALS, waiting=5):
    """A sweep under way."""
    plan = synthetic.plan(name=folder.name, sweep_dir=str(folder), server=SERVER)
    for number in range(trials):
        records.write_trial(folder, synthetic.large_trial(number, random.Random(number)))
    study_journal.open_study(plan, sweep_space.grid(SERVER)[trials : trials + waiting], [])


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard") / "demo"
    make_study(folder)
    return folder


@pytest.fixture(scope="module")
def dashboard(folder):
    """The dashboard as a user starts it; its origin."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", "-s", "dashboard", f"SWEEP={folder}", f"PORT={port}"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    origin = f"http://127.0.0.1:{port}"
    try:
        said = ""
        while origin not in (line := process.stdout.readline()):
            said += line
            assert line, f"make dashboard ended: {said}"
        assert "read only" in line
        yield origin
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def test_nothing_is_empty_and_nothing_lies_over_another(dashboard):
    page = f"{dashboard}/dashboard/studies/0"
    browser.picture(page, "dashboard", width=1400, height=1800)
    seen = browser.measure(page, LOOK, width=1400)
    assert seen["errors"] == []
    assert seen["page"] <= seen["window"], "the page is wider than the window"
    assert {plot["title"] for plot in seen["plots"]} == {"History", "Hyperparameter Importance", "Timeline"}
    for plot in seen["plots"]:
        assert plot["marks"] >= 3, plot
        assert min(plot["width"], plot["height"]) > 100, plot
        assert plot["over"] == 0, plot
    assert seen["cards"] == 0
    trials = [synthetic.large_trial(number, random.Random(number)) for number in range(TRIALS)]
    best = max((trial for trial in trials if trial["eligible"]), key=lambda trial: trial["objective"]["value"])
    assert f"Best Trial (number={best['number']})" in seen["text"]
    assert synthetic.OBJECTIVE["metric"] in seen["text"]


def test_a_trial_and_why_it_failed(dashboard):
    page = f"{dashboard}/dashboard/studies/0/trials?numbers=9"
    browser.picture(page, "dashboard-trial", width=1400, height=1200)
    text = browser.measure(page, "return document.body.innerText", width=1400)
    assert "slot gpu2/0" in text
    assert "status failed" in text
    assert "error out_of_memory" in text


def test_it_is_read_only(dashboard):
    request = urllib.request.Request(f"{dashboard}/api/studies/0", method="DELETE")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=30)
    assert len(get(f"{dashboard}/api/studies")["study_summaries"]) == 1


def test_it_follows_the_sweep_into_its_next_run(dashboard, folder):
    """Last, as it changes the study."""
    assert len(get(f"{dashboard}/api/studies/0")["trials"]) == TRIALS + 5
    make_study(folder, TRIALS + 2, waiting=3)
    deadline = time.monotonic() + 60
    while True:
        states = [trial["state"] for trial in get(f"{dashboard}/api/studies/0")["trials"]]
        if states.count("Waiting") == 3 or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert (len(states), states.count("Waiting")) == (TRIALS + 5, 3)
