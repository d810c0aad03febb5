"""The engine image on the lab's hosts, from a real registry: read once for each host, or once for all."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess

import pytest
from lab_fleet import HOSTS, LAB
from lab_registry import Registry

REPOSITORY = "preheat-test/engine"
LAYERS, LAYER_BYTES = 6, 2 << 20


class Shop:
    """The registry, as the hosts see it (at their own 127.0.0.1, through SSH), with one image in it."""

    def __init__(self, registry: Registry, image: dict):
        self.registry, self.image = registry, image
        self.name = f"127.0.0.1:{registry.relay.port}/{REPOSITORY}:1"

    def reads(self) -> float:
        """Bytes that were read of the registry since the last question, in images."""
        read, self.registry.relay.bytes = self.registry.relay.bytes, 0
        return read / self.image["bytes"]


@contextlib.contextmanager
def tunnels(port: int):
    """The registry at port of every host's own loopback, where engines take plain HTTP without being told to."""
    open_tunnels = []
    for address in HOSTS.values():
        command = [
            "ssh", "-i", str(LAB / "ssh/id_ed25519"), "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes",
            "-o", f"UserKnownHostsFile={LAB / 'ssh/known_hosts'}", "-o", "ControlPath=none", "-N",
            "-R", f"127.0.0.1:{port}:127.0.0.1:{port}", f"root@{address}",
        ]  # fmt: skip
        open_tunnels.append(subprocess.Popen(command))
    try:
        yield
    finally:
        for tunnel in open_tunnels:
            tunnel.terminate()
            tunnel.wait()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("registry"))
    try:
        with tunnels(registry.relay.port):
            yield Shop(registry, registry.push(REPOSITORY, "1", layers=LAYERS, layer_bytes=LAYER_BYTES))
    finally:
        registry.close()


@pytest.fixture(autouse=True)
def cold(fleet, shop):
    def forget():
        shop.registry.relay.bytes_per_second = 0
        remove = (
            "docker images --digests | awk '/preheat-test/ {print $1 \"@\" $3; print $1 \":\" $2}' | grep -v '<none>'"
        )
        for host in HOSTS:
            fleet.run(host, f"{remove} | sort -u | xargs -r docker rmi >/dev/null 2>&1; rm -rf /opt/preheat/images")

    forget()
    shop.reads()
    yield
    forget()


def warm(fleet, name, source="registry", *more, playbook="warm.yml", expect=0, **variables):
    given = {"engine_image_name": name, "engine_image_source": source, "model_cache_models": [], **variables}
    return fleet.playbook(playbook, "-e", json.dumps(given), "--tags", "engine_image_run", *more, expect=expect)


def changes(output):
    return {host: int(count) for host, count in re.findall(r"^(gpu\d) +: ok=\d+ +changed=(\d+)", output, re.M)}


def image(fleet, host, name):
    """(id, digests) of an image of a host; None if it is not there."""
    asked = fleet.run(host, f"docker image inspect {name} 2>/dev/null || true")
    found = json.loads(asked or "[]")
    return (found[0]["Id"], {known.partition("@")[2] for known in found[0]["RepoDigests"]}) if found else None


@pytest.mark.parametrize(("source", "reads"), [("registry", len(HOSTS)), ("swarm", 1)])
def test_the_registry_is_read_so_often_and_what_is_there_costs_nothing(fleet, shop, source, reads):
    planned = warm(fleet, shop.name, source, "--check")
    assert planned.count("would be brought") == len(HOSTS)
    assert shop.reads() == 0

    output = warm(fleet, shop.name, source)
    assert shop.reads() == pytest.approx(reads, rel=0.02), output
    assert changes(output) == dict.fromkeys(HOSTS, 1)
    for host in HOSTS:
        assert image(fleet, host, shop.name) == (shop.image["id"], {shop.image["digest"]})
        assert fleet.run(host, "ls -A /opt/preheat/images 2>/dev/null || true").split() in ([], [".locks"])

    assert changes(warm(fleet, shop.name, source)) == dict.fromkeys(HOSTS, 0)
    assert shop.reads() == 0
