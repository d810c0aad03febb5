# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's files: C(trials.csv), C(report.json), C(report.html) and, if a trial can win, C(best.yml)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from ansible_collections.preheat.fleet.plugins.plugin_utils import records

BEST_FILE = "best.yml"
TEMPLATE = Path(__file__).parents[2] / "roles" / "sweep_report" / "templates" / "report.html.j2"


def contents(sweep_dir: Path, plan: Mapping[str, Any], model: Mapping[str, Any], serve_path: str) -> dict[str, str]:
    """The text of every file by name; C(best.yml) is missing where no trial can win."""
    found = {
        "trials.csv": trials_csv(model),
        "report.json": json.dumps(records.finite(model), indent=1, allow_nan=False) + "\n",
        "report.html": report_html(sweep_dir, plan, model, serve_path),
    }
    return found | ({BEST_FILE: best_yml(model)} if model["best"] else {})


def write(sweep_dir: Path, files: Mapping[str, str], check_mode: bool = False) -> list[str]:
    """Bring the folder to C(files); returns the names of the files that changed."""
    changed = [name for name, text in files.items() if _read(sweep_dir / name) != text]
    stale = BEST_FILE not in files and (sweep_dir / BEST_FILE).exists()
    if not check_mode:
        for name in changed:
            records.write_durably(sweep_dir / name, files[name])
        if stale:
            (sweep_dir / BEST_FILE).unlink()
    return changed + ([BEST_FILE] if stale else [])


def trials_csv(model: Mapping[str, Any]) -> str:
    """One row for each trial; a column for every parameter, phase, and metric of a workload point."""
    rows = [_csv_row(trial) for trial in model["trials"]]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def best_yml(model: Mapping[str, Any]) -> str:
    """The winner as variables of the role sglang_server."""
    best, objective = model["best"], model["objective"]
    variables = {
        "sglang_server_image": best["image"].get("name"),
        "sglang_server_repo_id": best["model"].get("repo_id"),
        "sglang_server_revision": best["model"].get("commit"),
        "sglang_server_parameters": best["server_parameters"],
        "sglang_server_gpu_count": best["gpu_count"],
    }
    if best["environment"]:
        variables["sglang_server_environment"] = best["environment"]
    header = [
        f"The best configuration of the sweep {model['sweep']}: trial {best['number']}",
        f"{objective['metric']} ({objective['direction']}): {best['value']:.6g}",
    ]
    if best["tied_with"]:
        header.append(f"of the same value: trials {', '.join(map(str, best['tied_with']))}")
    if best["image"].get("digest"):
        header.append(f"measured with image {best['image']['digest']}")
    comment = "".join(f"# {line}\n" for line in header)
    return "---\n" + comment + yaml.safe_dump(variables, sort_keys=False, allow_unicode=True)


def report_html(sweep_dir: Path, plan: Mapping[str, Any], model: Mapping[str, Any], serve_path: str) -> str:
    """The page: self-contained, with everything that comes from a record escaped."""
    # Altair and its bundle take a second to import; whoever only plans or runs trials does not pay for them.
    from ansible_collections.preheat.fleet.plugins.plugin_utils import report_charts

    # Any part of a plan or a record may be missing.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=_number, seconds=_seconds, size=_size, compact=_compact)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        model=model,
        plan=plan,
        asked=_asked(plan),
        charts=report_charts.charts(model),
        bundle=report_charts.bundle(),
        logs=_logs(sweep_dir, model),
        serve_path=serve_path,
    )


def _csv_row(trial: Mapping[str, Any]) -> dict[str, Any]:
    error, cache = trial["error"] or {}, trial["cache"] or {}
    row = {key: trial[key] for key in ("number", "attempt", "status", "eligible", "rank", "value", "slot")}
    row["wall_seconds"] = trial["wall_seconds"]
    row |= {"error_class": error.get("class"), "error_message": error.get("message")}
    row |= {f"param.{name}": _compact(value) for name, value in trial["params"].items()}
    row |= {f"cache.{name}": value for name, value in cache.items()}
    row |= {f"phase.{name}_seconds": seconds for name, seconds in trial["phases"].items()}
    for point in trial["points"]:
        label, requests = point["point"], point["requests"] or {}
        row |= {f"{label}.requests_{name}": requests.get(name) for name in ("total", "failed")}
        row |= {f"{label}.{name}": value for name, value in (point["metrics"] or {}).items()}
    return row


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


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _number(value: Any) -> str:
    """Four digits that matter, thousands apart."""
    if not isinstance(value, (int, float)):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _seconds(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "–"
    return f"{value * 1000:.3g} ms" if 0 < value < 0.1 else f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def _size(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "–"
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, (len(f"{value:.0f}") - 1) // 3)
    return f"{value / 1000**power:.3g} {units[power]}"


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
