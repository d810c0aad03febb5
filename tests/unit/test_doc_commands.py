"""Every command of the documentation is run by some test, and every example in it is what the code takes."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from doc_pages import BY_HAND, DOCS, ROOT, RUN_BY, SHELL, Block, blocks, commands, playbook_arguments, shape, variables

from ansible_collections.preheat.fleet.plugins.plugin_utils import sweep_plan

COMMANDS = commands()
BLOCKS = blocks()
YAML = [block for block in BLOCKS if block.language in ("yaml", "yml")]
PLAYBOOKS = sorted(path.name for path in ROOT.glob("*.yml") if path.name not in ("galaxy.yml", "requirements.yml"))
OPTIONS = {
    name: option
    for role in (ROOT / "roles").iterdir()
    if (role / "meta" / "argument_specs.yml").is_file()
    for name, option in sweep_plan.role_options(role.name).items()
}
COPIED = "sweeps/example.yml"  # where the documentation has sweeps/mine.yml or sweeps/NAME.yml


def made_by(target):
    """All that a target of the Makefile runs, itself included."""
    rules = dict(re.findall(r"^([a-z-]+):([^#\n]*)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    return {target}.union(*(made_by(needed) for needed in rules.get(target, "").split()))


def test_there_are_commands_and_examples():
    assert len(COMMANDS) > 30
    assert len(YAML) > 10


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is(block):
    """Else its commands are not found."""
    if block.language in ("", "text"):
        assert not re.search(r"^(\$ )?(ansible|make|pip|docker)\b", block.text, re.MULTILINE), "a command: write ```sh"
    else:
        assert block.language in (*SHELL, "yaml", "yml", "json")


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_run_somewhere(command):
    known = shape(command.words)
    if command.words[0] == "make" and command.words[1] in made_by("test-full"):
        return
    assert known in RUN_BY, f"nothing runs this; add '{known}' to RUN_BY in tests/unit/doc_pages.py"


@pytest.mark.parametrize(("known", "where"), RUN_BY.items())
def test_what_runs_a_command_is_there_and_names_it(known, where):
    assert known in {shape(command.words) for command in COMMANDS}, "in no page any more"
    if where == DOCS or where.startswith(BY_HAND):
        return
    file, _colon, words = where.partition(": ")
    names = [words] if words else [word for word in known.split() if not word.startswith(("@", "--"))]
    text = (ROOT / file).read_text()
    assert [name for name in names if name not in text] == [], f"not in {file}"


@pytest.mark.parametrize("command", [command for command in COMMANDS if playbook_arguments(command.words)], ids=str)
def test_what_a_playbook_is_given_is_what_roles_take(command):
    arguments = playbook_arguments(command.words)
    assert arguments.playbook in PLAYBOOKS
    given, files = variables(arguments.given)
    check_variables(given)
    for name in files:
        path = ROOT / name
        assert path.is_file() or re.fullmatch(r"sweeps/(mine|NAME)\.yml|results/(mine|NAME)/best\.yml", name), name
        if path.is_file():
            check_variables(yaml.safe_load(path.read_text()))


def test_playbooks_and_plays_of_examples_are_ansibles(tmp_path):
    plays = []
    for number, block in enumerate(block for block in YAML if is_play(block)):
        plays.append(tmp_path / f"{number}.yml")
        plays[-1].write_text(block.text)
    command = [Path(sys.executable).parent / "ansible-playbook", "--syntax-check", *PLAYBOOKS, *plays]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", YAML, ids=str)
def test_an_example_in_yaml_is_what_the_code_takes(block, tmp_path):
    content = yaml.safe_load(block.text)
    if is_play(block):
        for task in tasks_of(content):
            check_task(task)
    elif "collections" in content or "roles" in content:
        assert all(entry["name"] for entries in content.values() for entry in entries)
    elif "gpu_hosts" in content or "all" in content:
        check_inventory(block.text, tmp_path)
    else:
        check_variables(content)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=str)
def test_an_example_in_json_is_json(block):
    assert json.loads(block.text)


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yml")), ids=lambda path: path.name)
def test_the_sweeps_to_copy(path):
    check_variables(yaml.safe_load(path.read_text()))


def test_the_inventory_to_edit(tmp_path):
    """And the example in its comment."""
    text = (ROOT / "inventory/hosts.yml").read_text()
    check_inventory(text, tmp_path)
    example = "\n".join(line[2:] for line in text.splitlines() if line.startswith("#   "))
    check_inventory(example, tmp_path)


# What an example is checked against


def is_play(block: Block) -> bool:
    return isinstance(yaml.safe_load(block.text), list)


def tasks_of(plays):
    """All tasks of plays, or the list itself where it is one of tasks."""
    for entry in plays:
        if "hosts" in entry:
            for section in ("pre_tasks", "tasks", "post_tasks", "handlers"):
                yield from entry.get(section) or []
        else:
            yield entry


def check_task(task):
    for name, arguments in task.items():
        if name.startswith("preheat.fleet."):
            result = ArgumentSpecValidator(argument_spec(name.rsplit(".", 1)[1])).validate(arguments or {})
            assert result.error_messages == [], name


class Caught(Exception):
    pass


def argument_spec(module):
    """What a module gives to AnsibleModule."""

    def catch(*_args, **kwargs):
        raise Caught(kwargs["argument_spec"])

    imported = importlib.import_module(f"ansible_collections.preheat.fleet.plugins.modules.{module}")
    with mock.patch.object(imported, "AnsibleModule", catch), pytest.raises(Caught) as caught:
        imported.main()
    return caught.value.args[0]


def check_inventory(text, folder):
    """Ansible reads it, and what it sets for hosts is what roles take."""
    path = folder / "hosts.yml"
    path.write_text(text)
    manager = InventoryManager(loader=DataLoader(), sources=[str(path)])
    assert manager.groups["gpu_hosts"].get_hosts()
    for entity in (*manager.groups.values(), *manager.hosts.values()):
        check_variables({name: value for name, value in entity.vars.items() if not name.startswith("inventory_")})


def check_variables(given):
    """Names, types and the keys inside; a sweep's parts as the plan checks them, with what is left out as in COPIED."""
    assert sweep_plan.unknown_variables({"": given}) == []
    own = {name: value for name, value in given.items() if not name.startswith("ansible_")}
    assert set(own) <= set(OPTIONS)
    typed = {name: value for name, value in own.items() if "{{" not in str(value)}
    assert sweep_plan.check_types({name: OPTIONS[name] for name in typed}, typed)[1] == []
    if any(name.startswith("sweep_") for name in own):
        whole = yaml.safe_load((ROOT / COPIED).read_text()) | typed
        coerced, problems = sweep_plan.check_types(sweep_plan.role_options("sweep"), whole)
        assert problems == []
        sweep = {name.removeprefix("sweep_"): value for name, value in coerced.items()}
        for workload in sweep["workloads"]:
            if workload.get("dataset_file"):
                workload["dataset_file"] = __file__  # any file that is there
        assert sweep_plan.check_sweep(sweep) == []
