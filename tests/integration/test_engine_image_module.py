"""The modules of images against the engine of this machine and a real registry that wants a login."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys

import pytest
from lab_fleet import ROOT
from lab_registry import Registry

pytest.importorskip("docker")

REPOSITORY = "preheat-test/engine"


class Module:
    """Runs a module as Ansible would on a host."""

    def __init__(self, folder):
        self._file = folder / "args.json"

    def __call__(self, name, **arguments):
        self._file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        command = [sys.executable, "-m", f"ansible_collections.preheat.fleet.plugins.modules.{name}", str(self._file)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / ".collections"), "DOCKER_CONFIG": str(self._file.parent)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return json.loads(done.stdout)


USER, PASSWORD = "reader", "s3cr3t-of-a-test"
HTPASSWD = "reader:$2b$05$a/xnWcw.6zjyRhcMkoPFg.0Mg95Ks1T8DxY2nrUByCWfkW027sy.K"


def test_a_registry_with_a_login(tmp_path):
    module = Module(tmp_path)
    registry = Registry(tmp_path, HTPASSWD, (USER, PASSWORD))
    with contextlib.closing(registry):
        made = registry.push(REPOSITORY, "4", index=False)
        name = f"127.0.0.1:{registry.port}/{REPOSITORY}:4"
        login = {"registry_username": USER, "registry_password": PASSWORD}
        files = {"image": name, "dest": str(tmp_path / "layout/blobs/sha256")}
        try:
            for refused in (module("engine_image", image=name), module("engine_image_files", **files)):
                assert (refused["failed"], refused["reason"]) == (True, "unauthorized")
                assert "docker login" in refused["remedy"]
            assert module("engine_image", image=name, **login)["digest"] == made["digest"]
            assert module("engine_image", image=name)["source"] == "cache"
            assert module("engine_image", image=name, state="absent")["changed"]
            # What 'docker login' left serves as well, and a folder of files as an OCI image layout.
            left = {
                "auths": {
                    f"127.0.0.1:{registry.port}": {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
                }
            }
            (tmp_path / "config.json").write_text(json.dumps(left))
            fetched = module("engine_image_files", **files)
            assert (fetched["digest"], fetched["source"]) == (made["digest"], "registry")
            assert not module("engine_image_files", **files)["changed"]
            registry.close()
            taken = module("engine_image", image=name, digest=made["digest"], layout=str(tmp_path / "layout"))
            assert (taken["id"], taken["digest"], taken["source"]) == (made["id"], made["digest"], "layout")
            gone = module("engine_image", image=name)
            assert gone["source"] == "cache"
        finally:
            module("engine_image", image=name, state="absent")
        refused = module("engine_image", image=name)
        assert refused["reason"] == "registry_unreachable", refused
