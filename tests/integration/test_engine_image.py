"""The engine image on the lab's hosts, from a real registry: read once for each host, or once for all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest
from lab_fleet import HOSTS, ROOT
from lab_registry import Registry, tunnels

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


@pytest.fixture(scope="module")
def shop(fleet, tmp_path_factory):
    # The runs of these tests leave out what a first run gives a host.
    fleet.playbook("warm.yml", "--tags", "gpu_host_install")
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


def test_who_has_the_image_takes_no_part(fleet, shop):
    fleet.run("gpu1", f"docker pull -q {shop.name}")
    shop.reads()
    assert changes(warm(fleet, shop.name, "swarm")) == {"gpu1": 0, "gpu2": 1}
    assert shop.reads() == pytest.approx(1, rel=0.02)


def test_a_host_that_cannot_reach_the_registry_gets_the_image_by_digest_from_one_that_can(fleet, shop, tmp_path):
    registry = Registry(tmp_path)
    with contextlib.closing(registry), tunnels(registry.relay.port, ["gpu2"]):
        made = registry.push(REPOSITORY, "2")
        name = f"127.0.0.1:{registry.relay.port}/{REPOSITORY}@{made['digest']}"
        output = warm(fleet, name, "swarm")
        assert registry.relay.bytes / made["bytes"] == pytest.approx(1, rel=0.05), output
        # Its name is found on a host that never saw that registry.
        assert changes(warm(fleet, name, "swarm")) == dict.fromkeys(HOSTS, 0)
        output = warm(fleet, name.replace(made["digest"], "sha256:" + "0" * 64), "swarm", expect=2)
        assert output.count("has no preheat-test/engine sha256:000") >= len(HOSTS)


def test_what_a_killed_run_had_is_not_read_again(fleet, shop):
    shop.registry.relay.bytes_per_second = 4 << 20
    given = json.dumps({"engine_image_name": shop.name, "engine_image_source": "swarm"})
    command = ["ansible-playbook", "warm.yml", "-i", "tests/lab/inventory", "-e", given, "--tags", "engine_image_run"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True) as killed:
        end = time.monotonic() + 60
        while shop.registry.relay.bytes < shop.image["bytes"] / 2:
            assert time.monotonic() < end, "nothing was read"
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
    shop.registry.relay.bytes_per_second = 0
    warm(fleet, shop.name, "swarm")
    assert shop.reads() < 1.1
    assert {image(fleet, host, shop.name)[0] for host in HOSTS} == {shop.image["id"]}


@pytest.mark.parametrize("source", ["registry", "swarm"])
def test_wrong_bytes_get_into_no_engine(fleet, tmp_path, source):
    registry = Registry(tmp_path)
    with contextlib.closing(registry), tunnels(registry.relay.port):
        made = registry.push(REPOSITORY, "3")
        name = f"127.0.0.1:{registry.relay.port}/{REPOSITORY}:3"
        digest = made["layer"].partition(":")[2]
        layer = tmp_path / f"storage/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"
        data = bytearray(layer.read_bytes())
        data[-100] ^= 1
        layer.write_bytes(data)
        output = warm(fleet, name, source, expect=2)
        assert re.search("do not have the digest|verification failed", output)
        assert [image(fleet, host, name) for host in HOSTS] == [None] * len(HOSTS)


def test_an_image_of_these_hosts_alone_needs_no_registry(fleet, shop):
    for source in ("registry", "swarm"):
        output = warm(fleet, "preheat-lab/light-engine:latest", source)
        assert changes(output) == dict.fromkeys(HOSTS, 0)
    assert shop.reads() == 0


def test_an_archive_of_the_controller(fleet, shop, tmp_path):
    fleet.run("gpu1", f"docker pull -q {shop.name}")
    (tmp_path / "engine.tar").write_bytes(fleet.read("gpu1", f"docker save {shop.name}"))
    shop.reads()
    given = {"engine_image_archive": str(tmp_path / "engine.tar")}
    assert changes(warm(fleet, shop.name, **given)) == {"gpu1": 0, "gpu2": 4}  # folder, copy, image, copy gone
    assert shop.reads() == 0
    assert image(fleet, "gpu2", shop.name) == (shop.image["id"], set())
    assert fleet.run("gpu2", "ls /opt/preheat/images") == ""
    assert changes(warm(fleet, shop.name, **given)) == dict.fromkeys(HOSTS, 0)
    output = warm(fleet, f"{REPOSITORY}:other", expect=2, **given)
    assert output.count(f"it has {shop.name}") >= len(HOSTS)


def test_where_the_hosts_cannot_share_each_asks_the_registry(fleet, shop):
    output = warm(fleet, shop.name, "swarm", engine_image_swarm_address="192.0.2.1")
    assert output.count("could not be shared: No address is known") == len(HOSTS)
    assert changes(output) == dict.fromkeys(HOSTS, 1)
    assert shop.reads() == pytest.approx(1 + len(HOSTS), rel=0.02)
    for host in HOSTS:
        assert fleet.run(host, "ls /opt/preheat/images") == ""
