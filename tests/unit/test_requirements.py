"""The pinned requirements: every version exact, every file known by its hash, and what is asked for is in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parents[2] / "requirements"
LOCKS = sorted(path.stem for path in FOLDER.glob("*.in"))


def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """(requirement, its hashes) of a lock."""
    text = (FOLDER / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(Requirement(line.split("--hash")[0]), re.findall(r"--hash=sha256:([0-9a-f]{64})", line)) for line in lines]


def asked(name: str) -> set[str]:
    """Names in an .in file, those that it includes too."""
    names = set()
    for line in (FOLDER / f"{name}.in").read_text().splitlines():
        if line.startswith("-r "):
            names |= asked(line.removeprefix("-r ").removesuffix(".in"))
        elif line and not line.startswith("#"):
            names.add(canonicalize_name(Requirement(line).name))
    return names


@pytest.mark.parametrize("name", LOCKS)
def test_all_is_pinned_with_hashes_and_names_no_index(name):
    found = entries(name)
    assert found
    for requirement, hashes in found:
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
    assert not re.search(r"://|^-", (FOLDER / f"{name}.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_asked_for_is_locked(name):
    missing = asked(name) - {canonicalize_name(requirement.name) for requirement, _hashes in entries(name)}
    assert not missing, f"run 'make requirements': {missing}"


def test_tests_run_with_the_controller_s_versions():
    pins = {(canonicalize_name(requirement.name), str(requirement.specifier)) for requirement, _ in entries("dev")}
    for requirement, _hashes in entries("controller"):
        assert (canonicalize_name(requirement.name), str(requirement.specifier)) in pins
