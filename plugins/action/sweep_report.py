# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: build a sweep's report from its results, on the controller."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.preheat.fleet.plugins.plugin_utils import (
    goodput,
    libraries,
    records,
    report_compare,
    report_files,
    report_model,
    report_savings,
)

ARGUMENTS: dict[str, Any] = {
    "results_dir": {"type": "path"},
    "sweep_name": {"type": "str"},
    "sweep_dir": {"type": "path"},
    "compare": {"type": "list", "elements": "str"},
    "savings": {
        "type": "dict",
        "default": {},
        "options": {
            name: {"type": "int" if name in ("experiments", "workloads", "hosts") else "float", "default": value}
            for name, value in report_savings.DEFAULTS.items()
        },
    },
}
RULES: dict[str, Any] = {
    "required_one_of": [["sweep_dir", "sweep_name", "compare"]],
    "mutually_exclusive": [["sweep_dir", "sweep_name", "compare"]],
    "required_by": {"sweep_name": "results_dir", "compare": "results_dir"},
}


class ActionModule(ActionBase):
    """Reads C(sweep.json) and the trials' records; writes the report's files beside them."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(ARGUMENTS, **RULES)
        if negative := {name: value for name, value in args["savings"].items() if value < 0}:
            name, value = next(iter(negative.items()))
            raise AnsibleActionFail(f"savings.{name}={value} is negative. Give a number >= 0; 0 is as measured.")
        if missing := libraries.missing(libraries.REPORT):
            raise AnsibleActionFail(f"the report needs {missing}, which is not installed. {libraries.REMEDY}")
        result = self._compare(args) if args["compare"] else self._report(args)
        for line in result["summary"]:
            self._display.display(line)
        return result

    def _report(self, args: dict[str, Any]) -> dict[str, Any]:
        sweep_dir = find_sweep(args["sweep_dir"] or Path(args["results_dir"]) / args["sweep_name"])
        model, plan = load_model(sweep_dir, args["savings"])
        best_path = sweep_dir / report_files.BEST_FILE
        files = report_files.contents(sweep_dir, plan, model, short(best_path))
        changed = report_files.write(sweep_dir, files, check_mode=self._task.check_mode)
        best = model["best"]
        return {
            "changed": bool(changed),
            "report": str(sweep_dir / "report.html"),
            "best": str(best_path) if best else None,
            "best_number": best["number"] if best else None,
            "best_params": best["params"] if best else None,
            "objective": dict(model["objective"] or {}, value=best["value"]) if best else model["objective"],
            "counts": model["counts"],
            "trials_left": model["trials_left"],
            "summary": summary(model, str(sweep_dir / "report.html")),
        }

    def _compare(self, args: dict[str, Any]) -> dict[str, Any]:
        results_dir = Path(args["results_dir"])
        sweeps = {
            name: load_model(find_sweep(results_dir / name), args["savings"]) for name in dict.fromkeys(args["compare"])
        }
        facts = report_compare.compare(sweeps)
        files = report_compare.contents(facts, sweeps)
        changed = report_files.write_changed(results_dir, files, check_mode=self._task.check_mode)
        page = str(results_dir.resolve() / f"{report_compare.NAME}.html")
        lines = [f"{row['sweep']}: {compared(row)}" for row in facts["sweeps"]]
        if not facts["comparable"]:
            lines.append("the objectives or the workloads differ: values are not compared")
        return {
            "changed": bool(changed),
            "report": page,
            "comparison": facts,
            "summary": [*lines, f"report: {page}"],
        }


def find_sweep(folder: str | Path) -> Path:
    """The folder of a sweep's results."""
    folder = Path(folder)
    if folder.is_dir():
        return folder.resolve()
    others = sorted(path.parent.name for path in folder.parent.glob("*/trials")) if folder.parent.is_dir() else []
    known = f"Known sweeps there: {', '.join(others)}." if others else "There are no results of any sweep there."
    raise AnsibleActionFail(f"sweep_name={folder.name}: {folder} is not a folder of results. {known}")


def load_model(sweep_dir: Path, savings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report's facts and the plan that they belong to."""
    trials = records.load_trials(sweep_dir)
    if not trials:
        raise AnsibleActionFail(f"{sweep_dir} holds no finished trial. Run tune.yml with this sweep first.")
    plan = load_json(sweep_dir / "sweep.json", "the plan of a sweep")
    trials = goodput.recount(sweep_dir, trials, plan.get("slo"))
    fetched = load_json(sweep_dir / report_savings.FETCH_FILE, "what fetching the model took")
    return report_model.build(plan, trials, fetched, savings), plan


def load_json(path: Path, what: str) -> dict[str, Any]:
    """What a run of tune.yml left beside its trials; results without it can still be reported."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnsibleError(f"{path} cannot be read as JSON: {error}. Restore it, or remove it.") from error
    if not isinstance(content, dict):
        raise AnsibleError(f"{path} is not {what}. Restore it, or remove it.")
    return content


def compared(row: dict[str, Any]) -> str:
    """One sweep of a comparison in a few words."""
    if row["value"] is None:
        return "no trial can win"
    ratio = f", {row['ratio']:.3f}x" if row["ratio"] else ""
    return f"{row['objective']['metric']} {row['value']:.6g}{ratio} (trial {row['number']})"


def summary(model: dict[str, Any], report: str) -> list[str]:
    """What there is to say in a few lines, the path of the report last."""
    counts, best, objective = model["counts"], model["best"], model["objective"]
    parts = [f"{counts[name]} {name}" for name in records.STATUSES if counts[name]]
    parts += [f"{model['trials_left']} left over"] if model["trials_left"] else []
    lines = [f"sweep {model['sweep']}: {counts['total']} trials ({', '.join(parts)})"]
    if best:
        params = ", ".join(f"{name}={value}" for name, value in best["params"].items()) or "the base configuration"
        gain = f", {best['gain'] * 100:+.1f} % over trial {best['first_number']}" if best["gain"] else ""
        tied = f", tied with {', '.join(map(str, best['tied_with']))}" if best["tied_with"] else ""
        lines.append(f"best: trial {best['number']} ({params})")
        lines.append(f"{objective['metric']}: {best['value']:.6g}{gain}{tied}")
    else:
        lines.append("best: none; no trial can win")
    lines += [f"the search ended early: {model['stopped']}"] if model["stopped"] else []
    lines += report_model.warnings(model)
    return [*lines, f"report: {report}"]


def short(path: Path) -> str:
    """As a user in the current folder would write it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
