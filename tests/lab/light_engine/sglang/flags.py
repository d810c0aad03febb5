"""Parsers that take and refuse the same flags as the genuine SGLang that they were extracted from."""

import argparse
import json
from pathlib import Path

TYPES = {"int": int, "float": float}


def build_parser(module: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{module}.py")
    flags = json.loads((Path(__file__).parent / f"{module}.flags.json").read_text(encoding="utf-8"))
    for flag in flags:
        names, kind = flag.pop("flags"), flag.pop("kind")
        if kind == "BooleanOptionalAction":
            names = [name for name in names if not name.startswith("--no-")]
            default, action = flag.get("default"), argparse.BooleanOptionalAction
            parser.add_argument(*names, dest=flag["dest"], default=default, action=action)
        elif kind.endswith("StoreTrueAction"):
            parser.add_argument(*names, dest=flag["dest"], action="store_true")
        elif kind.endswith("StoreConstAction"):
            parser.add_argument(*names, dest=flag["dest"], const=flag.get("const"), action="store_const")
        else:
            parser.add_argument(*names, **{**flag, "type": TYPES.get(flag.get("type"))})
    return parser
