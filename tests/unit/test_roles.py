"""What every role and module documents is what it takes, no more and no less."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
# What the documentation and the argument spec of an option must agree on, and what each means where it is left out.
FACETS = {"type": "str", "elements": None, "required": False, "default": None, "choices": [], "aliases": []}


def load(path):
    return yaml.safe_load(path.read_text()) if path.is_file() else None


def documented_options(role):
    """Options of all entry points: {name: option}."""
    entry_points = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    return {name: option for entry in entry_points.values() for name, option in (entry.get("options") or {}).items()}


@pytest.mark.parametrize("role", ROLES)
def test_every_default_of_a_role_is_documented_and_no_other(role):
    defaults = load(ROOT / "roles" / role / "defaults" / "main.yml") or {}
    options = documented_options(role)
    assert set(defaults) - set(options) == set(), "set in defaults/main.yml, but not documented"
    said = {name for name, option in options.items() if "default" in option}
    assert said - set(defaults) == set(), "documented with a default that defaults/main.yml does not set"
    for name in said:
        assert options[name]["default"] == defaults[name], f"{name}: the documented default is not the real one"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_documents_only_variables_with_its_prefix(role):
    assert [name for name in documented_options(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_point_has_tasks_and_a_description(role):
    for name, entry in load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"].items():
        assert (ROOT / "roles" / role / "tasks" / f"{name}.yml").is_file(), f"{name} has no tasks"
        assert entry.get("short_description"), name
        for option, facts in (entry.get("options") or {}).items():
            assert facts.get("description"), f"{name}: {option} has no description"
            assert facts.get("type"), f"{name}: {option} has no type"


def test_there_are_roles_and_modules():
    assert "gpu_host" in ROLES
    assert "gpu_info" in MODULES


@pytest.fixture(scope="session")
def documentation():
    """What ansible-doc says of every module, fragments merged in."""
    names = [f"preheat.fleet.{module}" for module in MODULES]
    command = [str(Path(sys.executable).parent / "ansible-doc"), "--type", "module", "--json", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name.rsplit(".", 1)[1]: document for name, document in json.loads(done.stdout).items()}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_documentation_examples_and_returns(documentation, module):
    assert module in documentation, "ansible-doc cannot read it"
    document = documentation[module]
    assert document["doc"]["short_description"]
    assert document["doc"].get("version_added")
    assert {"check_mode", "diff_mode"} <= set(document["doc"].get("attributes") or {})
    assert f"preheat.fleet.{module}" in document["examples"]
    assert isinstance(yaml.safe_load(document["examples"]), list)
    for name, value in (document["return"] or {}).items():
        assert {"description", "returned", "type"} <= set(value), f"RETURN of {name}"


class Arguments(Exception):
    """Carries what a module gives to AnsibleModule."""


def argument_spec(module):
    """The module's argument spec, caught where main() makes its AnsibleModule."""

    def catch(*_args, **kwargs):
        raise Arguments(kwargs["argument_spec"])

    imported = importlib.import_module(f"ansible_collections.preheat.fleet.plugins.modules.{module}")
    with mock.patch.object(imported, "AnsibleModule", catch), pytest.raises(Arguments) as caught:
        imported.main()
    return caught.value.args[0]


def is_action_plugin(module):
    """Whether the module only documents an action plugin of its name."""
    tree = ast.parse((ROOT / "plugins" / "modules" / f"{module}.py").read_text())
    return not any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


def differences(spec, options, path=""):
    """How an argument spec and the documentation of its options differ, option by option."""
    found = [f"{path}{name}: not documented" for name in set(spec) - set(options)]
    found += [f"{path}{name}: documented, but not taken" for name in set(options) - set(spec)]
    for name in set(spec) & set(options):
        for facet, meaning in FACETS.items():
            taken, said = spec[name].get(facet, meaning), options[name].get(facet, meaning)
            if taken != said:
                found.append(f"{path}{name}: {facet} is {taken!r}, documented as {said!r}")
        found += differences(spec[name].get("options") or {}, options[name].get("suboptions") or {}, f"{path}{name}.")
    return sorted(found)


@pytest.mark.parametrize("module", [module for module in MODULES if not is_action_plugin(module)])
def test_a_module_documents_what_it_takes(documentation, module):
    assert differences(argument_spec(module), documentation[module]["doc"].get("options") or {}) == []


@pytest.mark.parametrize("module", [module for module in MODULES if is_action_plugin(module)])
def test_a_module_without_main_has_an_action_plugin(module):
    assert (ROOT / "plugins" / "action" / f"{module}.py").is_file()


@pytest.mark.parametrize(
    ("spec", "options", "expected"),
    [
        ({"a": {"type": "int", "default": 1}}, {"a": {"type": "int", "default": 1}}, []),
        ({"a": {}}, {"a": {"type": "str", "required": False}}, []),
        ({"a": {}}, {}, ["a: not documented"]),
        ({}, {"a": {}}, ["a: documented, but not taken"]),
        ({"a": {"type": "int"}}, {"a": {"type": "str"}}, ["a: type is 'int', documented as 'str'"]),
        ({"a": {"default": 0}}, {"a": {"default": 1}}, ["a: default is 0, documented as 1"]),
        ({"a": {"default": False}}, {"a": {}}, ["a: default is False, documented as None"]),
        ({"a": {"options": {"b": {}}}}, {"a": {"suboptions": {}}}, ["a.b: not documented"]),
    ],
)
def test_differences_are_found(spec, options, expected):
    assert differences(spec, options) == expected
