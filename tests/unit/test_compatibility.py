"""docs/compatibility.md says what `make compat` tries, and the collection asks for no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "scripts/compat.sh").read_text()
TRIED = SCRIPT.partition("\nALL=(\n")[2].partition("\n)")[0].split()
PAGE = (ROOT / "docs/compatibility.md").read_text()
CORES = {pair.split(":")[1] for pair in TRIED if pair.startswith("controller:")}
OLDEST = min(CORES, key=lambda version: [int(part) for part in version.split(".")])


def test_the_tables_are_what_is_tried():
    controllers = re.findall(r"^\| (2\.\d+) \| (3\.\d+) \|", PAGE, re.MULTILINE)
    hosts = re.findall(r"^\| (3\.\d+) \|", PAGE, re.MULTILINE)
    assert [f"controller:{core}:{python}" for core, python in controllers] + [f"host:{one}" for one in hosts] == TRIED


def test_the_collection_and_its_roles_ask_for_the_oldest():
    assert yaml.safe_load((ROOT / "meta/runtime.yml").read_text()) == {"requires_ansible": f">={OLDEST}.0"}
    for file in ROOT.glob("roles/*/meta/main.yml"):
        assert yaml.safe_load(file.read_text())["galaxy_info"]["min_ansible_version"] == OLDEST, file
    assert f"\nansible-core>={OLDEST}\n" in (ROOT / "requirements/controller.in").read_text()


def test_the_libraries_of_hosts_are_the_pinned_ones():
    lock = (ROOT / "requirements/host.txt").read_text()
    for python, version in re.findall(r"^\| (3\.\d+) \| (\S+) \|", PAGE, re.MULTILINE):
        since = "<" if python == "3.9" else ">="
        pin = rf"^huggingface-hub=={re.escape(version)}\.\d+ ; python_full_version {since} '3\.10'"
        assert re.search(pin, lock, re.MULTILINE), python
