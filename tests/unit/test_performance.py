"""The figures of docs/performance.md are those of the files that it names."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/performance.md").read_text()
EXAMPLE, EXAMPLE_H200 = ROOT / "docs/example-h100", ROOT / "docs/example-h200"
# The columns of a launch's phases, and their names in a record.
PHASES = ("container_create", "engine_start", "weights_load", "kv_cache", "graph_capture", "server_warmup", "ready")


def table(first_header: str, nth: int = 0) -> list[list[str]]:
    """Cells of the nth table whose header begins so, without emphasis."""
    lines = PAGE.splitlines()
    begin = [number for number, line in enumerate(lines) if line.startswith(f"| {first_header} |")][nth] + 2
    end = next(number for number in range(begin, len(lines)) if not lines[number].startswith("|"))
    return [[cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in lines[begin:end]]


def rungs(folder: Path) -> dict[str, dict]:
    """The launches of a ladder by name; of those that were made again the last."""
    lines = (folder / "ladder/rungs.jsonl").read_text().splitlines()
    return {line["name"]: line for line in map(json.loads, lines)}


def phases_of(trial: Path) -> dict[str, float]:
    return {phase["name"]: phase["seconds"] for phase in json.loads((trial / "trial.json").read_text())["phases"]}


def shown(phases: dict[str, float]) -> list[str]:
    return [f"{phases[name]:.1f}" for name in PHASES]


def test_the_benchmarks_table_is_what_was_measured():
    spec = importlib.util.spec_from_file_location("bench_all", ROOT / "bench/all.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    written = PAGE.split(bench.BEGIN)[1].split(bench.END)[0].strip()
    assert written == bench.table(json.loads(bench.KEPT.read_text()))


LAUNCHES_22 = {
    "page cache, JIT caches cold": "jit-as-found-preheat",
    "disk, round 2": "disk-preheat-2",
    "page cache, round 2": "page_cache-preheat-2",
}


@pytest.mark.parametrize(("row", "name"), LAUNCHES_22.items())
def test_launches_with_22_gb(row, name):
    cells = {cells[0]: cells[1:] for cells in table("launch")}[row]
    launch = rungs(EXAMPLE / "presets")[name]
    assert cells == [*shown(launch["phases"]), f"{launch['ready_seconds']:.1f}"]


def test_the_rungs_are_those_of_the_ladder():
    told = {cells[0]: cells for cells in table("weights from")}
    launches = rungs(EXAMPLE / "presets")
    for row, rung in (("the disk, nothing of it in RAM", "disk"), ("the page cache", "page_cache")):
        for column, way in ((2, "preheat"), (3, "bare")):
            seconds = [launches[f"{rung}-{way}-{turn}"]["ready_seconds"] for turn in (1, 2)]
            assert told[row][column].removesuffix(" s") == ", ".join(f"{value:.1f}" for value in seconds)


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, 6])
def test_launches_with_14_gb(number):
    cells = next(cells for cells in table("trial") if cells[0] == str(number))
    assert cells[3:10] == shown(phases_of(EXAMPLE / f"h100/trials/{number:04d}"))


def test_cold_over_warm():
    (fetched,) = json.loads((EXAMPLE / "h100-presets/fetch.json").read_text())["hosts"].values()
    launches = rungs(EXAMPLE / "presets")
    warm = sum(launches[f"page_cache-preheat-{turn}"]["ready_seconds"] for turn in (1, 2)) / 2
    cold = fetched["seconds"] + launches["jit-as-found-preheat"]["ready_seconds"]
    assert f"{cold:.1f} s over {warm:.1f} s" in PAGE
    assert f"is **{cold / warm:.1f}**" in PAGE


def test_weights_in_gpu_memory():
    told = {cells[0]: cells[1:] for cells in table("weights from", 1)}
    launches = rungs(EXAMPLE_H200)

    def seconds(*names: str) -> str:
        return ", ".join(f"{launches[name]['ready_seconds']:.1f}" for name in names) + " s"

    def phase(name: str, digits: int, *launched: str) -> str:
        return ", ".join(f"{launches[launch]['phases'][name]:.{digits}f}" for launch in launched) + " s"

    hot = [f"page_cache-preheat-{turn}" for turn in (1, 2, 3)]
    first, held = ["gpu-first-preheat", "gpu-first-preheat-3"], ["gpu-preheat-1", "gpu-preheat-2"]
    assert told == {
        "the page cache, JIT caches cold": [
            seconds("jit-as-found-preheat"), "", phase("weights_load", 1, "jit-as-found-preheat"),
        ],
        "the page cache": [
            seconds(*hot), seconds("page_cache-bare-1", "page_cache-bare-2"), phase("weights_load", 1, *hot),
        ],
        "GPU memory, by the daemon that this launch starts": [
            seconds(*first), "",
            f"{phase('weights_load', 2, *first)}, and {phase('weights_preload', 1, *first)} to start the daemon",
        ],
        "GPU memory": [seconds(*held), seconds("gpu-bare-1", "gpu-bare-2"), phase("weights_load", 2, *held)],
    }  # fmt: skip
