"""The documentation as tests read it: its fenced blocks, its commands, and what runs each of them."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SHELL = ("sh", "bash", "shell", "console")
# Of commands in running text only these are complete enough to be run.
PROGRAMS = ("ansible", "ansible-playbook", "ansible-vault", "make", "pip")
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_ENVIRONMENT = re.compile(r"[A-Z_]+=")

DOCS = "tests/integration/test_documentation.py"
TUNE = "tests/integration/test_tune.py"
BY_HAND = "by hand: "
# What runs each command (see shape()): a file, which has the playbook's name and its variables in it, or what stands
# after the colon. The commands of DOCS are run there as they stand in the documentation, in this order; they build on
# each other.
RUN_BY = {
    "ansible -m ping gpu_hosts": DOCS,
    "preflight.yml": DOCS,
    "cp sweeps/example.yml sweeps/mine.yml": DOCS,
    "preflight.yml @sweep": DOCS,
    "plan.yml @sweep": DOCS,
    "tune.yml --check @sweep": DOCS,
    "mkdir -p inventory/group_vars/gpu_hosts": DOCS,
    "ansible-vault create inventory/group_vars/gpu_hosts/vault.yml": DOCS,
    "tune.yml --ask-vault-pass @sweep": DOCS,
    "HF_HUB_OFFLINE=1 tune.yml @sweep": DOCS,
    "warm.yml @sweep model_cache_preload": DOCS,
    "ansible gpu_hosts -m preheat.fleet.sglang_server_info": DOCS,
    "report.yml sweep_name": DOCS,
    "report.yml sweep_name sweep_report_savings": DOCS,
    "make bench-saving RESULTS": DOCS,
    "report.yml sweep_name sweep_results_dir": DOCS,
    "report.yml sweep_report_compare": DOCS,
    "prune.yml --check --diff model_cache_budget_bytes": DOCS,
    "prune.yml model_cache_jit_unused_seconds": DOCS,
    "prune.yml model_cache_budget_bytes": "tests/integration/test_warm.py",
    "tune.yml @sweep": TUNE,
    "serve.yml @best": TUNE,
    "warm.yml model_cache_models": "tests/integration/test_warm.py",
    "warm.yml model_cache_models model_cache_seed": "tests/integration/test_seed.py",
    "warm.yml model_cache_models model_cache_source": "tests/integration/test_warm_swarm.py",
    "warm.yml --tags=engine_image_run engine_image_name engine_image_source": "tests/integration/test_engine_image.py",
    "tune.yml @sweep sglang_server_weight_cache": "tests/integration/test_lower_rungs.py",
    "warm.yml @sweep sglang_server_jit_share": "tests/integration/test_jit_share.py",
    "tar -C ~/.cache/huggingface/hub -cf qwen3-8b.tar models--Qwen--Qwen3-8B": "tests/integration/test_seed.py: tar -C",
    # The lab's hosts have no package index: they install what this brought, as a host without a network would.
    "pip download --requirement requirements/host.txt --dest wheels/host": "tests/lab/lab.sh: pip download",
    "pip download --requirement requirements/controller.txt --dest wheels/controller": "tests/lab/lab.sh: pip download",
    "pip install --no-index --find-links wheels/controller -r requirements/controller.txt": (
        "roles/gpu_host/tasks/venv.yml: --no-index"
    ),
    "python3 -m venv .venv": "scripts/ensure_venv.sh: -m venv",
    ".venv/bin/pip install -r requirements/controller.txt": "scripts/ensure_venv.sh: pip install",
    "make docs": "tests/unit/test_docs.py: docs.py",
    "tune.yml @sweep sweep_storage": "tests/faults/sweep_under_faults.py",
    "export PGPASSWORD=...": "tests/faults/conftest.py: PGPASSWORD",
    "createuser preheat --pwprompt": BY_HAND + "PostgreSQL's own",
    "createdb sweeps --owner preheat": BY_HAND + "PostgreSQL's own",
    "git clone https://github.com/preheat/fleet preheat": BY_HAND + "needs the public repository",
    "cd preheat": BY_HAND + "a shell's own",
    ". .venv/bin/activate": BY_HAND + "a shell's own",
    "$EDITOR inventory/hosts.yml": BY_HAND + "the file is parsed by test_doc_commands.py",
    "make bench": BY_HAND + "half an hour of measuring, for docs/performance.md",
    "make bench-warm": BY_HAND + "measures, for docs/performance.md",
    "make bench-saving": DOCS,
    "make dashboard SWEEP": "tests/browser/test_dashboard.py",
    "watch cat results/mine/status.txt": BY_HAND + "a terminal's own; test_tune.py reads the file",
    "ansible-galaxy collection build": 'tests/integration/test_collection.py: "build"',
    "ansible-builder create --file extensions/execution-environment/execution-environment.yml --context ee": (
        'tests/unit/test_execution_environment.py: "create"'
    ),
    "pip install ansible-builder ansible-navigator": BY_HAND + "tools of the user's",
    "podman build --tag preheat-ee --build-arg EE_BASE_IMAGE=IMAGE@sha256:... ee": BY_HAND + "needs an image registry",
    "ansible-navigator run preheat.fleet.tune --eei preheat-ee -i inventory -e @sweeps/mine.yml": (
        BY_HAND + "needs the image"
    ),
    "make requirements": BY_HAND + "asks a package index; test_requirements.py checks what it wrote",
    "make requirements UPGRADE": BY_HAND + "as make requirements",
    "make clean": BY_HAND + "takes the lab away on which tests run",
}


@dataclass(frozen=True)
class Block:
    """A fenced block; line is that of its fence."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command, as words; C(&&) has been taken apart."""

    page: str
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"


def pages() -> list[Path]:
    """The README and docs/ without the reference, which is generated from what is tested itself."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(page for page in found if ROOT / "docs" / "reference" not in page.parents)


def blocks() -> list[Block]:
    found = []
    for page in pages():
        text = page.read_text()
        for match in _FENCE.finditer(text):
            indent, language, inside = match.groups()
            lines = "".join(line.removeprefix(indent) for line in inside.splitlines(keepends=True))
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(str(page.relative_to(ROOT)), line, language, lines))
    return found


def commands() -> list[Command]:
    """Every command of the shell blocks, and those of PROGRAMS in running text."""
    found = []
    for block in blocks():
        if block.language in SHELL:
            for line in block.text.replace("\\\n", " ").splitlines():
                found += _commands(block.page, block.line, line)
    for page in pages():
        running = _FENCE.sub("", page.read_text())
        for match in re.finditer(r"`([^`]+)`", running):
            text = " ".join(match.group(1).split())
            if text.startswith(tuple(f"{program} " for program in PROGRAMS)):
                found += _commands(str(page.relative_to(ROOT)), 0, text)
    return found


def _commands(page: str, line: int, text: str) -> list[Command]:
    parts: list[list[str]] = [[]]
    for word in shlex.split(text, comments=True):
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    return [Command(page, line, tuple(part)) for part in parts if part]


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def playbook_arguments(words: tuple[str, ...]) -> argparse.Namespace | None:
    """The arguments of ansible-playbook as the documentation uses it, with C(environment); None for other commands.

    ValueError for an option that this does not know.
    """
    environment = [word for word in words if _ENVIRONMENT.match(word)]
    rest = [word for word in words if word not in environment]
    if rest[:1] != ["ansible-playbook"]:
        return None
    parser = _Parser(add_help=False)
    parser.add_argument("playbook")
    parser.add_argument("-e", dest="given", action="append", default=[])
    for option in ("-i", "--limit", "--tags", "--forks"):
        parser.add_argument(option)
    for option in ("--check", "--diff", "--ask-vault-pass"):
        parser.add_argument(option, action="store_true")
    return parser.parse_args(rest[1:], argparse.Namespace(environment=environment))


def variables(given: list[str]) -> tuple[dict[str, object], list[str]]:
    """What -e gives: variables, and the files that are named with an @."""
    found: dict[str, object] = {}
    files = []
    for item in given:
        if item.startswith("@"):
            files.append(item[1:])
        elif item.startswith("{"):
            found.update(yaml.safe_load(item))
        else:
            found.update(word.split("=", 1) for word in shlex.split(item))
    return found, files


def shape(words: tuple[str, ...]) -> str:
    """What RUN_BY knows a command by: of a playbook its name, options and variables, of make its target."""
    arguments = playbook_arguments(words)
    if arguments:
        names, files = variables(arguments.given)
        kinds = ["@best" if name.endswith("best.yml") else "@sweep" for name in files]
        flags = [name for name in ("check", "diff", "ask_vault_pass") if getattr(arguments, name)]
        options = [f"--{name.replace('_', '-')}" for name in flags]
        options += [f"--{name}={getattr(arguments, name)}" for name in ("limit", "tags") if getattr(arguments, name)]
        return " ".join([*arguments.environment, arguments.playbook, *sorted(options), *sorted(kinds), *sorted(names)])
    if words[0] == "ansible":
        return " ".join(words[: words.index("-e")] if "-e" in words else words)
    if words[0] == "make":
        return " ".join(word.split("=")[0] for word in words)
    return " ".join(words)
