"""The role gpu_host against a host of the lab: check mode, converge, idempotence, and what may go wrong between."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = "gpu1"
INSTALL = """
- hosts: gpu1
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: preheat.fleet.gpu_host}
"""
PREFLIGHT = """
- hosts: gpu1:nowhere
  gather_facts: false
  ignore_unreachable: true
  tasks:
    - ansible.builtin.import_role: {name: preheat.fleet.gpu_host, tasks_from: preflight}
    - ansible.builtin.copy:
        content: "{{ gpu_host_preflight_result | to_json }}"
        dest: "{{ playbook_dir }}/{{ inventory_hostname }}.json"
        mode: "0600"
      delegate_to: localhost
      check_mode: false
      changed_when: false
"""


class Host:
    """The lab's host with a folder of its own for one test."""

    def __init__(self, fleet, folder: Path):
        self.fleet, self.folder = fleet, folder
        self.root = f"/opt/preheat-test-{uuid.uuid4().hex[:8]}"
        self.python = f"{self.root}/venv/bin/python"

    def sh(self, script: str) -> str:
        return self.fleet.run(HOST, script).strip()

    def play(self, playbook: str, *args: str, expect: int = 0, **variables) -> dict[str, int]:
        """Play on the host; its line of the recap."""
        file = self.folder / "play.yml"
        file.write_text(playbook)
        extra = json.dumps({"gpu_host_root": self.root, **variables})
        output = self.fleet.playbook(str(file), "-e", extra, *args, expect=expect)
        recap = re.search(rf"^{HOST} +: (.*)$", output, re.MULTILINE)
        assert recap, output
        return {key: int(value) for key, value in (pair.split("=") for pair in recap.group(1).split())}

    def preflight(self, *args: str, **variables) -> tuple[dict, dict]:
        """What preflight registers for this host and for one that cannot be reached."""
        inventory = self.folder / "nowhere.ini"
        inventory.write_text("nowhere ansible_host=127.0.0.1 ansible_port=1\n")
        recap = self.play(PREFLIGHT, "-i", str(inventory), *args, **variables)
        assert recap["changed"] == recap["failed"] == 0
        here, nowhere = (json.loads((self.folder / f"{name}.json").read_text()) for name in (HOST, "nowhere"))
        return here, nowhere


@pytest.fixture
def host(fleet, tmp_path):
    host = Host(fleet, tmp_path)
    yield host
    host.sh(f"rm -rf {host.root}")


@pytest.fixture
def few_requirements(tmp_path):
    """One pinned requirement, where a test is not about the libraries."""
    pinned = (ROOT / "requirements" / "host.txt").read_text()
    file = tmp_path / "few.txt"
    file.write_text(re.search(r"^tqdm==.*\n( +--hash=.*\n)+", pinned, re.MULTILINE).group())
    return str(file)


def test_the_life_of_an_environment(host, few_requirements):
    assert host.play(INSTALL, "--check")["changed"] == 1
    assert host.sh(f"ls -d {host.root} || echo none") == "none"
    assert host.play(INSTALL)["changed"] > 0
    host.sh(f"{host.python} -c 'import docker, huggingface_hub'")

    again = host.play(INSTALL)
    assert again["changed"] == 0
    assert again["ok"] == 2, "a no-op is the check of the arguments and one task"
    assert host.play(INSTALL, "--check")["changed"] == 0

    # Other requirements replace all of it, and so does whatever breaks it.
    assert host.play(INSTALL, gpu_host_requirements=few_requirements)["changed"] > 0
    there = host.sh(f"ls {host.root}/venv/lib/python3*/site-packages").split()
    assert "tqdm" in there
    assert "docker" not in there
    stamp = f"{host.root}/venv/preheat.stamp"
    for damage in (f"echo 3.1 0 >{stamp}", f"rm {stamp}", f"rm {host.python}"):
        host.sh(damage)
        assert host.play(INSTALL, "--check", gpu_host_requirements=few_requirements)["changed"] == 1, damage
    assert host.play(INSTALL, gpu_host_requirements=few_requirements)["changed"] > 0
    assert host.play(INSTALL, gpu_host_requirements=few_requirements)["changed"] == 0


def test_a_user_who_owns_the_folder_needs_no_root(host, few_requirements, tmp_path):
    host.sh(f"install -d -o nobody {host.root}")
    inventory = tmp_path / "unprivileged.ini"
    become = "ansible_become=true ansible_become_method=ansible.builtin.su ansible_become_user=nobody"
    inventory.write_text(f"{HOST} {become} ansible_become_flags='-s /bin/sh'\n")
    assert host.play(INSTALL, "-i", str(inventory), gpu_host_requirements=few_requirements)["changed"] > 0
    assert host.sh(f"stat -c %U {host.root}/venv/bin/pip") == "nobody"
    assert host.play(INSTALL, "-i", str(inventory), gpu_host_requirements=few_requirements)["changed"] == 0


@pytest.mark.parametrize("trouble", ["missing", "another"])
def test_a_wheel_that_is_not_the_one_is_an_error_and_not_half_an_environment(host, few_requirements, tmp_path, trouble):
    wheelhouse = tmp_path / "wheelhouse"
    wheelhouse.mkdir()
    if trouble == "another":
        (wheel,) = (ROOT / ".lab/wheelhouse").glob("tqdm-*.whl")
        (wheelhouse / wheel.name).write_bytes(wheel.read_bytes() + b"something else")
    wishes = {"gpu_host_requirements": few_requirements, "gpu_host_wheelhouse": str(wheelhouse)}
    assert host.play(INSTALL, expect=2, **wishes)["failed"] == 1
    assert host.play(INSTALL, "--check", **wishes)["changed"] == 1


@pytest.mark.parametrize("mode", [[], ["--check"]])
def test_preflight_tells_of_every_host(host, mode):
    here, nowhere = host.preflight(
        *mode,
        gpu_host_preflight_images=[{"name": "no-such/image:1", "pull": "never", "variable": "sweep_image"}],
        gpu_host_preflight_model={"repo_id": "org/name", "files": [{"path": "w", "etag": "e", "size": 10**18}]},
        gpu_host_preflight_gpus=8,
    )
    # The lab says that it gives no GPUs to containers, so none are missing.
    assert [problem["variable"] for problem in here["problems"]] == ["sweep_image", "model_cache_dir"]
    assert here["facts"]["docker_version"]
    assert abs(here["facts"]["clock_offset_seconds"]) < 5
    assert nowhere["unreachable"]
    assert host.sh(f"ls -d {host.root} || echo none") == "none"


def test_preflight_of_a_host_without_the_python_it_names(host):
    here, _nowhere = host.preflight(gpu_host_python="/usr/bin/no-python")
    (problem,) = here["problems"]
    assert problem["variable"] == "gpu_host_python"
    assert "no-python" in problem["message"]
