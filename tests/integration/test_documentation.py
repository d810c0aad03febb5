"""The commands of the documentation that no other test runs, as they stand there, in a checkout as a user has it.

Which they are, and in which order they build on each other: RUN_BY in tests/unit/doc_pages.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import urllib.request

import pytest
import yaml
from doc_pages import DOCS, RUN_BY, commands, shape
from lab_fleet import HOSTS, HUB, LAB, ROOT

REPO = "preheat-lab/tiny-llama"
TOKEN = "hf_LabTokenOfTheVault"
PASSWORD = "of the vault"
SILENCE_SECONDS = 120
FOLDER = "/root/.cache/preheat-test-docs"
# What is different here: names that stand for the reader's own.
HERE = {"sweeps/NAME": "sweeps/mine", "results/NAME": "results/mine", "sweep_name=NAME": "sweep_name=mine",
        "qwen3-8b-h100": "h100", "qwen3-8b-h200": "h100-nemo"}  # fmt: skip
# A sweep of its own for what launches again, so that it does.
MORE = {"HF_HUB_OFFLINE=1 tune.yml @sweep": ["-e", "sweep_name=offline"]}
SAYS = {
    "ansible -m ping gpu_hosts": "pong",
    "ansible gpu_hosts -m preheat.fleet.sglang_server_info": "servers",
    "plan.yml @sweep": "sweep mine: 1 points known, 1 launches",
    "tune.yml --check @sweep": "sweep mine: 1 points known, 1 launches",
    "tune.yml --ask-vault-pass @sweep": "complete:",
    "HF_HUB_OFFLINE=1 tune.yml @sweep": "complete:",
    "warm.yml @sweep model_cache_preload": "of weights are in RAM",
    "report.yml sweep_name": "results/mine/report.html",
    "report.yml sweep_report_compare": "comparison.html",
    "make bench-saving RESULTS": '"origin_hours_no_cache"',
    "make bench-saving": '"origin_hours_no_cache"',
}
RUN = {known: next(command for command in commands() if shape(command.words) == known)
       for known, where in RUN_BY.items() if where == DOCS}  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, fleet, hub):
    """A user's own copy: the inventory has the lab's hosts, the sweep to copy is one for them, the model is gated."""
    folder = tmp_path_factory.mktemp("checkout")
    own = ("inventory", "sweeps", "results", "docs", "ansible.cfg")
    for path in ROOT.iterdir():
        if path.name not in own and (not path.name.startswith(".") or path.name in (".collections", ".venv", ".lab")):
            (folder / path.name).symlink_to(path)
    shutil.copy(ROOT / "ansible.cfg", folder)
    shutil.copytree(ROOT / "docs/example-h100", folder / "docs/example-h100")
    for sweep in ("h100", "h100-nemo"):
        shutil.copytree(ROOT / "docs/example-h100" / sweep, folder / "results" / sweep)
    (folder / "sweeps").mkdir()
    (folder / "sweeps/example.yml").write_text(yaml.safe_dump(sweep_of_the_lab()))
    shutil.copytree(ROOT / "tests/lab/inventory", folder / "inventory")
    lab = yaml.safe_load((folder / "inventory/group_vars/lab.yml").read_text())
    own_caches = {"model_cache_dir": f"{FOLDER}/hub", "sglang_server_jit_cache_dir": f"{FOLDER}/jit"}
    (folder / "inventory/group_vars/lab.yml").write_text(yaml.safe_dump({**lab, **own_caches, "lab_dir": str(LAB)}))
    (folder / "token.yml").write_text(yaml.safe_dump({"model_cache_token": TOKEN}))
    (folder / "password").write_text(PASSWORD)
    yield folder
    hub.post("reset")
    for host in HOSTS:
        fleet.run(host, f"rm -rf {FOLDER}")


def sweep_of_the_lab():
    """One launch of the light engine, with a commit as hosts without a network need it."""
    with urllib.request.urlopen(f"{HUB.rpartition('/')[0]}/api/models/{REPO}/revision/main", timeout=10) as answer:
        commit = json.load(answer)["sha"]
    return {
        "sweep_name": "mine",
        "sweep_model": {"repo_id": REPO, "revision": commit},
        "sweep_image": "preheat-lab/light-engine:latest",
        "sweep_server": {"base": {"device": "cpu"}, "environment": {"LIGHT_ENGINE_START_SECONDS": "0.4"}},
        "sweep_workloads": [{"name": "chat", "input_tokens": 8, "output_tokens": 4, "concurrency": [2]}],
        "sweep_objective": {"metric": "output_tokens_per_second"},
    }


def typed(words, cwd, environment):
    """Run a command that asks for the password of the vault; (exit code, output)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(words[0], words, environment)
    output, answered = b"", 0
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while select.select([terminal], [], [], SILENCE_SECONDS)[0]:
            output += os.read(terminal, 65536)
            if output.count(b"assword: ") > answered:
                answered += 1
                os.write(terminal, f"{PASSWORD}\n".encode())
    os.kill(pid, signal.SIGKILL)  # if it still waits for something
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()


def run(words, cwd, environment):
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "text": True}
    done = subprocess.run(words, cwd=cwd, env=environment, timeout=300, check=False, **out)
    return done.returncode, done.stdout


@pytest.mark.parametrize("known", RUN)
def test_a_command_of_the_documentation(checkout, hub, known):
    words = [*RUN[known].words, *MORE.get(known, [])]
    for text, here in HERE.items():
        words = [word.replace(text, here) for word in words]
    environment = {**os.environ, "PWD": str(checkout), "ANSIBLE_NOCOLOR": "1", "EDITOR": f"cp {checkout}/token.yml"}
    while "=" in words[0]:
        environment.update([words.pop(0).split("=", 1)])
    if "--ask-vault-pass" in words:
        hub.post("access", repo=REPO, tokens=[TOKEN])
    if "--ask-vault-pass" in words or words[0] == "ansible-vault":
        exit_code, output = typed(words, checkout, environment)
    else:
        password = {"ANSIBLE_VAULT_PASSWORD_FILE": str(checkout / "password")}
        exit_code, output = run(words, checkout, environment | password)
    assert exit_code == 0, output
    assert SAYS.get(known, "") in " ".join(output.split()), output  # long texts are broken into lines
    assert TOKEN not in output
