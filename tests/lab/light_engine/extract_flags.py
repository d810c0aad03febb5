"""Write down the flags of a genuine SGLang, so that the light engine takes and refuses the same ones.

Run in the lab's SGLang image, once per version:
    docker run --rm -v $PWD/tests/lab/light_engine:/light preheat-lab/sglang-cpu:0.5.15 python3 /light/extract_flags.py
"""

import argparse
import json
import runpy
import sys
from pathlib import Path

TYPES = {int: "int", float: "float"}


class Extracted(Exception):
    pass


def describe(action: argparse.Action) -> dict:
    """What flags.py needs to rebuild an argument."""
    described = {"flags": action.option_strings, "dest": action.dest, "kind": type(action).__name__}
    for name in ("nargs", "const", "required"):
        if getattr(action, name) not in (None, False):
            described[name] = getattr(action, name)
    if action.choices:
        described["choices"] = list(action.choices)
    if action.type in TYPES:
        described["type"] = TYPES[action.type]
    if action.default not in (None, argparse.SUPPRESS):
        described["default"] = action.default
    return described


def extract(module: str) -> list:
    def intercept(parser, *_arguments, **_options):
        raise Extracted([describe(action) for action in parser._actions if action.dest != "help"])

    argparse.ArgumentParser.parse_args = argparse.ArgumentParser.parse_known_args = intercept
    sys.argv = [module, "--model-path", "none"]
    try:
        runpy.run_module(module, run_name="__main__")
    except Extracted as extracted:
        return extracted.args[0]
    raise SystemExit(f"{module} parsed no arguments")


if __name__ == "__main__":
    for module in ("launch_server", "bench_serving"):
        flags = extract(f"sglang.{module}")
        lines = ",\n".join(json.dumps(flag, sort_keys=True, default=str) for flag in flags)
        (Path(__file__).parent / "sglang" / f"{module}.flags.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        print(f"{module}: {len(flags)} flags")
