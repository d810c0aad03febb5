# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of reports, rendered from their models: HTML that needs nothing else, Markdown for pull requests."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from ansible_collections.preheat.fleet.plugins.plugin_utils import records, report_model

TEMPLATES = Path(__file__).parents[2] / "roles" / "sweep_report" / "templates"


def report_html(sweep_dir: Path, plan: Mapping[str, Any], model: Mapping[str, Any], serve_path: str) -> str:
    """The page: self-contained, with everything that comes from a record escaped."""
    # Altair and its bundle take a second to import; whoever only plans or runs trials does not pay for them.
    from ansible_collections.preheat.fleet.plugins.plugin_utils import report_charts

    return render(
        "report.html.j2",
        model=model,
        plan=plan,
        asked=_asked(plan),
        charts=report_charts.charts(model),
        bundle=report_charts.bundle(),
        logs=_logs(sweep_dir, model),
        warnings=report_model.warnings(model),
        serve_path=serve_path,
        serve_command=shlex.join(map(str, model["best"]["command"])) if model["best"] else "",
    )


def report_md(plan: Mapping[str, Any], model: Mapping[str, Any], serve_path: str) -> str:
    """The report in short, as GitHub and GitLab show it."""
    trials = {trial["number"]: trial for trial in model["trials"]}
    shown = [trials[item["number"]] for item in model["ranking"][:10]]
    counts = model["counts"]
    counted = [f"{counts[status]} {status}" for status in records.STATUSES if counts[status]]
    return render(
        "report.md.j2",
        model=model,
        plan=plan,
        trials=trials,
        top_params=list(dict.fromkeys(name for trial in shown for name in trial["params"])),
        counted=counted + ([f"{model['trials_left']} left over"] if model["trials_left"] else []),
        serve_path=serve_path,
        warnings=report_model.warnings(model),
    )


def render(template: str, **values: Any) -> str:
    """A template of the role sweep_report; HTML is escaped. Any part of a plan or a record may be missing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(number=number, seconds=seconds, size=size, compact=compact, numbers=numbers, cell=cell)
    return environment.get_template(template).render(**values)


def _asked(plan: Mapping[str, Any]) -> dict[str, str]:
    """The sweep as it was asked for, as YAML by part; parts that were not asked for are left out."""
    parts = ("model", "image", "server", "workloads", "search", "objective", "slo")
    return {
        part: yaml.safe_dump(plan[part], sort_keys=False, allow_unicode=True).removesuffix("...\n").strip()
        for part in parts
        if plan.get(part)
    }


def _logs(sweep_dir: Path, model: Mapping[str, Any]) -> dict[int, list[tuple[str, str]]]:
    """The files beside the record of each trial: name and link, relative to the report."""
    links: dict[int, list[tuple[str, str]]] = {}
    for trial in model["trials"]:
        folder = records.trial_dir(sweep_dir, trial["number"])
        names = sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))
        links[trial["number"]] = [(name, (folder / name).relative_to(sweep_dir).as_posix()) for name in names]
    return links


def number(value: Any) -> str:
    """Four digits that matter, thousands apart."""
    if not isinstance(value, (int, float)):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def seconds(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "–"
    return f"{value * 1000:.3g} ms" if 0 < value < 0.1 else f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def size(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "–"
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, (len(f"{value:.0f}") - 1) // 3)
    return f"{value / 1000**power:.3g} {units[power]}"


def compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def numbers(values: Iterable[int], most: int = 12) -> str:
    """Trial numbers, runs of three and more as a range: C(0, 2-5, 9); of more than C(most) parts only their count."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts = [text for run in runs for text in ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run))]
    count = sum(map(len, runs))
    return ", ".join(parts) if len(parts) <= most else f"{count} of {runs[0][0]}-{runs[-1][-1]}"


def cell(value: Any) -> str:
    """Text of a record in a table of Markdown: one line in which nothing is markup, not even HTML."""
    if value is None or isinstance(value, jinja2.Undefined):
        return ""
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    # An underscore within a word is not markup.
    return re.sub(r"[\\|`*\[\]#~]|(?<!\w)_|_(?!\w)", lambda found: "\\" + found[0], text)
