from __future__ import annotations

import json
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import preflight_engine
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_engine import EngineError, engine_facts

IMAGE = "preheat-lab/sglang-cpu:0.5.15"
ANSWERS = {
    "/version": {"Version": "20.10.24+dfsg1", "ApiVersion": "1.41"},
    "/info": {"Driver": "overlay2", "DockerRootDir": "/var/lib/docker", "Runtimes": {"runc": {}}},
    f"/images/{IMAGE}/json": {"Id": "sha256:abc", "Size": 2460000000},
    "/images/json": [{"RepoTags": [IMAGE, "debian:bookworm"]}, {"RepoTags": None}, {"RepoTags": ["<none>:<none>"]}],
}


class Handler(BaseHTTPRequestHandler):
    def address_string(self):  # a Unix socket has no address to print
        return "client"

    def log_message(self, *_arguments):
        pass

    def do_GET(self):
        answer = self.server.answers.get(self.path)
        status = 404 if answer is None else answer if isinstance(answer, int) else 200
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def engine(tmp_path):
    """Start an HTTP server on a Unix socket or on TCP that answers as an engine would; returns its address."""
    servers = []

    def start(answers, tcp=False):
        server = HTTPServer(("127.0.0.1", 0), Handler) if tcp else UnixServer(str(tmp_path / "docker.sock"), Handler)
        server.answers = answers
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        return f"tcp://127.0.0.1:{server.server_port}" if tcp else f"unix://{tmp_path}/docker.sock"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """Programs that find_tool knows of, none to begin with."""
    known = set()
    monkeypatch.setattr(preflight_engine, "find_tool", lambda name: name if name in known else None)
    return known


def test_facts_over_a_unix_socket(engine, tmp_path):
    facts = engine_facts(engine(ANSWERS), [IMAGE, "missing:1"], cdi_folders=[str(tmp_path)])
    assert facts == {
        "docker_version": "20.10.24+dfsg1",
        "docker_api": "1.41",
        "storage_driver": "overlay2",
        "docker_root_dir": "/var/lib/docker",
        "has_nvidia_runtime": False,
        "has_cdi": False,
        "images": {
            IMAGE: {
                "present": True,
                "id": "sha256:abc",
                "size_bytes": 2460000000,
                "refusal": "",
                "download_bytes": None,
            },
            "missing:1": {
                "present": False,
                "id": None,
                "size_bytes": None,
                "refusal": "null",
                "download_bytes": None,
            },
        },
        "image_tags": ["debian:bookworm", IMAGE],
    }


def test_an_image_by_digest_is_there_under_whatever_name(engine):
    digest = "sha256:" + "ab" * 32
    known = {"Id": "sha256:abc", "Size": 5, "RepoTags": None, "RepoDigests": [f"127.0.0.1:4242/a/b@{digest}"]}
    address = engine({**ANSWERS, "/images/json": [{"RepoTags": None, "RepoDigests": None}, known]})
    found = engine_facts(address, [f"a/b@{digest}"])["images"][f"a/b@{digest}"]
    assert (found["present"], found["id"], found["size_bytes"]) == (True, "sha256:abc", 5)


def test_what_could_be_pulled_has_a_size(engine, monkeypatch):
    asked = []
    monkeypatch.setattr(preflight_engine, "download_bytes", lambda *arguments: asked.append(arguments) or 7)
    answers = {**ANSWERS, "/distribution/missing:1/json": {}, "/version": {**ANSWERS["/version"], "Arch": "arm64"}}
    facts = engine_facts(engine(answers), ["missing:1"], ("me", "pass"))
    assert facts["images"]["missing:1"]["download_bytes"] == 7
    assert asked == [("missing:1", ANSWERS["/info"], "arm64", ("me", "pass"))]


def test_over_tcp_the_root_folder_is_not_of_this_host(engine):
    facts = engine_facts(engine(ANSWERS, tcp=True), [])
    assert facts["docker_root_dir"] is None
    assert facts["image_tags"] == []


@pytest.mark.parametrize(
    ("info", "programs", "files", "runtime", "cdi"),
    [
        ({}, [], [], False, False),
        ({"Runtimes": {"nvidia": {}}}, [], [], True, False),
        ({}, ["nvidia-container-runtime-hook"], [], True, False),
        ({}, [], ["nvidia.yaml"], False, True),
        ({}, [], ["vendor.yaml", "nvidia.txt"], False, False),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, [], [], False, True),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.com/nic=0"}]}, [], [], False, False),
    ],
)
def test_ways_to_the_gpus(engine, tools, tmp_path, info, programs, files, runtime, cdi):  # noqa: PLR0917 a table
    tools.update(programs)
    folder = tmp_path / "cdi"
    folder.mkdir()
    for name in files:
        (folder / name).touch()
    address = engine({**ANSWERS, "/info": {**ANSWERS["/info"], **info}})
    facts = engine_facts(address, [], cdi_folders=[str(folder), str(tmp_path / "missing")])
    assert (facts["has_nvidia_runtime"], facts["has_cdi"]) == (runtime, cdi)


def failing(docker_host):
    with pytest.raises(EngineError) as caught:
        engine_facts(docker_host, [])
    return caught.value.kind


@pytest.mark.parametrize(
    ("docker_host", "kind"),
    [
        ("unix:///nowhere/docker.sock", "missing"),
        ("tcp://127.0.0.1:1", "unreachable"),
        ("ssh://gpu1", "unsupported"),
        ("/var/run/docker.sock", "unsupported"),
        ("", "unsupported"),
    ],
)
def test_no_engine(docker_host, kind):
    assert failing(docker_host) == kind


def test_an_engine_that_is_installed_but_does_not_run(tools, tmp_path):
    tools.add("dockerd")
    assert failing(f"unix://{tmp_path}/docker.sock") == "stopped"


def test_a_socket_that_nobody_listens_on(engine, tmp_path):
    with UnixServer(str(tmp_path / "docker.sock"), Handler):
        pass
    assert failing(f"unix://{tmp_path}/docker.sock") == "stopped"


def test_a_socket_of_others(monkeypatch):
    def connect(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(preflight_engine._UnixConnection, "connect", connect)
    assert failing(f"unix://{os.devnull}") == "denied"


@pytest.mark.parametrize("version", [None, 500, b"<html>"])
def test_something_else_listens(engine, version):
    assert failing(engine({"/version": version, "/info": {}})) == "strange"
