# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a report: C(trials.csv), C(report.{json,html,md}) and, if a trial can win, C(best.yml)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.preheat.fleet.plugins.plugin_utils import durable_files, records, report_pages

BEST_FILE = "best.yml"


def contents(sweep_dir: Path, plan: Mapping[str, Any], model: Mapping[str, Any], serve_path: str) -> dict[str, str]:
    """The text of every file by name; C(best.yml) is missing where no trial can win."""
    found = {
        "trials.csv": trials_csv(model),
        "report.json": json.dumps(records.finite(model), indent=1, allow_nan=False) + "\n",
        "report.html": report_pages.report_html(sweep_dir, plan, model, serve_path),
        "report.md": report_pages.report_md(plan, model, serve_path),
    }
    return found | ({BEST_FILE: best_yml(model)} if model["best"] else {})


def write(sweep_dir: Path, files: Mapping[str, str], check_mode: bool = False) -> list[str]:
    """Bring the folder to C(files); returns the names of the files that changed."""
    changed = write_changed(sweep_dir, files, check_mode)
    stale = BEST_FILE not in files and (sweep_dir / BEST_FILE).exists()
    if stale and not check_mode:
        (sweep_dir / BEST_FILE).unlink()
    return changed + ([BEST_FILE] if stale else [])


def write_changed(folder: Path, files: Mapping[str, str], check_mode: bool = False) -> list[str]:
    """Write what is not there yet as it is; returns the names of the files that changed."""
    changed = [name for name, text in files.items() if _read(folder / name) != text]
    for name in [] if check_mode else changed:
        durable_files.write_durably(folder / name, files[name])
    return changed


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
    """The winner as variables of the roles sglang_server and, for the very image that was measured, engine_image."""
    best, objective = model["best"], model["objective"]
    variables = {
        "sglang_server_image": best["image"].get("name"),
        "sglang_server_repo_id": best["model"].get("repo_id"),
        "sglang_server_revision": best["model"].get("commit"),
        "sglang_server_parameters": best["server_parameters"],
        "sglang_server_gpu_count": best["gpu_count"],
    }
    digest, environment = best["image"].get("digest"), best["environment"]
    variables |= {"engine_image_digest": digest} if digest else {}
    variables |= {"sglang_server_environment": environment} if environment else {}
    header = [
        f"The best configuration of the sweep {model['sweep']}: trial {best['number']}",
        f"{objective['metric']} ({objective['direction']}): {best['value']:.6g}",
    ]
    if best["tied_with"]:
        header.append(f"of the same value: trials {', '.join(map(str, best['tied_with']))}")
    comment = "".join(f"# {line}\n" for line in header)
    return "---\n" + comment + yaml.safe_dump(variables, sort_keys=False, allow_unicode=True)


def _csv_row(trial: Mapping[str, Any]) -> dict[str, Any]:
    error, cache = trial["error"] or {}, trial["cache"] or {}
    row = {key: trial[key] for key in ("number", "attempt", "status", "eligible", "rank", "value", "slot")}
    row |= {"launch_seconds": trial["launch_seconds"], "wall_seconds": trial["wall_seconds"]}
    row |= {"error_class": error.get("class"), "error_message": error.get("message")}
    row |= {f"param.{name}": report_pages.compact(value) for name, value in trial["params"].items()}
    for name, value in cache.items():
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        row |= {f"cache.{name}.{part}".rstrip("."): inner for part, inner in parts}
    row |= {f"phase.{name}_seconds": seconds for name, seconds in trial["phases"].items()}
    for point in trial["points"]:
        label, requests = point["point"], point["requests"] or {}
        row |= {f"{label}.requests_{name}": requests.get(name) for name in ("total", "failed")}
        row |= {f"{label}.{name}": value for name, value in (point["metrics"] or {}).items()}
    return row


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
