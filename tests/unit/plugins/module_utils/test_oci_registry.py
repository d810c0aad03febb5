from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import oci_fetch
from ansible_collections.preheat.fleet.plugins.module_utils.oci_registry import (
    DOCKER_HUB,
    Registry,
    RegistryError,
    endpoints,
    first_answer,
    parse,
    registry_of,
)

DIGEST = "sha256:" + "ab" * 32


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("sglang", DOCKER_HUB),
        ("lmsysorg/sglang:v1", DOCKER_HUB),
        ("ghcr.io/a/b:1", "ghcr.io"),
        ("localhost/a", "localhost"),
        ("host:5000/a", "host:5000"),
    ],
)
def test_registry_of(image, registry):
    assert registry_of(image) == registry


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("sglang", (DOCKER_HUB, "library/sglang", "latest", "")),
        ("lmsysorg/sglang:v1", (DOCKER_HUB, "lmsysorg/sglang", "v1", "")),
        (f"lmsysorg/sglang@{DIGEST}", (DOCKER_HUB, "lmsysorg/sglang", "", DIGEST)),
        (f"nvcr.io/a/b/c:1.2@{DIGEST}", ("nvcr.io", "a/b/c", "1.2", DIGEST)),
        ("host:5000/a", ("host:5000", "a", "latest", "")),
    ],
)
def test_parse(image, expected):
    found = parse(image)
    assert (found.registry, found.repository, found.tag, found.digest) == expected


@pytest.mark.parametrize("image", ["", "UPPER/x", "a b", "a@sha256:12", "a@md5:" + "0" * 64, "host:5000/", "a:b:c"])
def test_what_is_no_name_is_refused(image):
    with pytest.raises(ValueError, match="names no image"):
        parse(image)


INFO = {
    "RegistryConfig": {
        "IndexConfigs": {
            "docker.io": {"Mirrors": ["http://mirror:5000/"], "Secure": True},
            "plain:5000": {"Secure": False},
        }
    }
}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a/b", ["http://mirror:5000", "https://registry-1.docker.io"]),
        ("ghcr.io/a/b", ["https://ghcr.io"]),
        ("plain:5000/a", ["http://plain:5000"]),
        ("127.0.0.1:5000/a", ["http://127.0.0.1:5000"]),
        ("127.example:5000/a", ["https://127.example:5000"]),
    ],
)
def test_endpoints_are_the_engine_s(image, expected):
    assert endpoints(parse(image), INFO) == expected


@pytest.mark.parametrize("info", [{}, {"RegistryConfig": None}, {"RegistryConfig": {"IndexConfigs": None}}])
def test_an_engine_that_tells_nothing(info):
    assert endpoints(parse("a/b"), info) == ["https://registry-1.docker.io"]


class Server(ThreadingHTTPServer):
    """A registry with tokens, redirects, and faults that a test asks for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.documents, self.blobs, self.asked = {}, {}, []
        self.login, self.redirect, self.cut_at = None, False, None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def put(self, data, tag=None):
        self.documents[digest_of(data)] = data
        if tag:
            self.documents[tag] = data
        return {"digest": digest_of(data), "size": len(data)}

    def image(self, layers=(b"layer",), tag="1", platforms=("amd64",)):
        config = b"{}"
        parts = []
        for data in [config, *layers]:
            self.blobs[digest_of(data)] = data
            parts.append({"digest": digest_of(data), "size": len(data)})
        manifest = self.put(json.dumps({"config": parts[0], "layers": parts[1:]}).encode(), tag)
        entries = [{**manifest, "platform": {"os": "linux", "architecture": name}} for name in platforms]
        return self.put(json.dumps({"manifests": entries}).encode(), f"index-{tag}")["digest"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Authorization"), self.headers.get("Range")))
        path, _query, _rest = self.path.partition("?")
        if path == "/token":
            wanted = "Basic " + base64.b64encode(b"me:pass").decode()
            good = not server.login or self.headers.get("Authorization") == wanted
            self.reply(200 if good else 401, b'{"token": "t"}')
        elif path.startswith("/cdn/"):
            self.blob(path.rpartition("/")[2])
        elif server.login and self.headers.get("Authorization") != "Bearer t":
            realm = f'Bearer realm="http://{server.address}/token",service="test"'
            self.reply(401, b"", {"WWW-Authenticate": realm})
        elif "/blobs/" in path and server.redirect:
            self.reply(307, b"", {"Location": f"/cdn/{path.rpartition('/')[2]}"})
        elif "/blobs/" in path:
            self.blob(path.rpartition("/")[2])
        else:
            data = server.documents.get(path.rpartition("/")[2])
            self.reply(200 if data is not None else 404, data or b"")

    def blob(self, digest):
        data = self.server.blobs.get(digest)
        begin = int((self.headers.get("Range") or "bytes=0-").partition("=")[2].partition("-")[0])
        cut = self.server.cut_at
        if cut is not None and not (self.headers.get("Range") or "").endswith("-0"):
            self.server.cut_at = None
            self.reply(206 if begin else 200, data[begin:], cut=cut)
            return
        self.reply(404 if data is None else 206 if self.headers.get("Range") else 200, (data or b"")[begin:])

    def reply(self, status, data, headers=None, cut=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data if cut is None else data[:cut])

    def log_message(self, *_args):
        return


@pytest.fixture
def server():
    found = Server()
    yield found
    found.shutdown()
    found.server_close()


def registry(server, login=None):
    return Registry(f"http://{server.address}", "org/engine", login)


def test_an_image_is_its_index_its_manifest_its_configuration_and_its_layers(server):
    index = server.image([b"one", b"two", b"one"], platforms=("arm64", "amd64"))
    found = registry(server).image("index-1")
    assert found["digest"] == index
    names = [file["digest"] for file in found["files"]]
    assert names[0] == index
    assert names[2:] == [digest_of(b"{}"), digest_of(b"one"), digest_of(b"two")]
    assert [file["is_manifest"] for file in found["files"]] == [True, True, False, False, False]
    assert found["bytes_total"] == sum(file["size"] for file in found["files"])
    assert registry(server).image("1")["digest"] == names[1]  # without an index


@pytest.mark.parametrize(
    ("version", "architecture", "reason"),
    [("nothing", "amd64", "not_found"), ("index-1", "s390x", "not_found"), ("text", "amd64", "strange")],
)
def test_what_is_not_there(server, version, architecture, reason):
    server.image()
    server.put(b"no json", "text")
    with pytest.raises(RegistryError) as caught:
        registry(server).image(version, architecture)
    assert caught.value.reason == reason


def test_a_manifest_with_another_digest_is_refused(server):
    index = server.image()
    server.documents[index] += b" "
    with pytest.raises(RegistryError, match="with the digest"):
        registry(server).image(index)


def test_a_login_is_asked_for_a_token_and_shown_to_no_other_origin(server):
    server.image([b"layer"])
    server.login, server.redirect = True, True
    found = registry(server, ("me", "pass"))
    layer = found.image("1")["files"][-1]
    url, headers = found.locate(layer["digest"])
    assert url == f"http://{server.address}/cdn/{layer['digest']}"
    assert "Authorization" not in headers
    with pytest.raises(RegistryError) as caught:
        registry(server).image("1")
    assert caught.value.reason == "unauthorized"


def test_a_registry_that_is_not_there():
    with pytest.raises(RegistryError) as caught:
        first_answer(parse("127.0.0.1:1/a/b"), {}, None, "amd64")
    assert caught.value.reason == "unreachable"


# into a folder


def fetch(server, tmp_path, version="index-1", **arguments):
    source = registry(server)
    files = source.image(version)["files"]
    return oci_fetch.Fetch(source, str(tmp_path), sleep=lambda seconds: None, **arguments), files


def test_files_get_their_names_when_their_bytes_are_right(server, tmp_path):
    server.image([b"one" * 1000, b"two"])
    job, files = fetch(server, tmp_path)
    job.run(files)
    assert {path.name: digest_of(path.read_bytes()) for path in tmp_path.iterdir()} == {
        file["digest"].partition(":")[2]: file["digest"] for file in files
    }
    assert job.bytes_fetched == sum(file["size"] for file in files)
    again, files = fetch(server, tmp_path)
    again.run(files)
    assert again.bytes_fetched == 0


def test_what_a_killed_run_left_is_not_fetched_again(server, tmp_path):
    layer = bytes(range(256)) * 40
    server.image([layer])
    name = hashlib.sha256(layer).hexdigest()
    (tmp_path / f"{name}.fetch.incomplete").write_bytes(layer[:6000])
    job, files = fetch(server, tmp_path)
    job.run(files)
    assert (tmp_path / name).read_bytes() == layer
    assert job.bytes_fetched == sum(file["size"] for file in files) - 6000


def test_a_connection_that_ends_is_taken_up_where_it_ended(server, tmp_path):
    layer = bytes(range(256)) * 400
    server.image([layer])
    job, files = fetch(server, tmp_path, workers=1)
    server.cut_at = 5000
    job.run([file for file in files if file["size"] == len(layer)])
    assert [asked[2] for asked in server.asked if asked[2] and not asked[2].endswith("-0")] == ["bytes=5000-"]
    assert job.bytes_fetched == len(layer)


def test_wrong_bytes_never_get_a_name(server, tmp_path):
    server.image([b"layer"])
    server.blobs[digest_of(b"layer")] = b"LAYER"
    job, files = fetch(server, tmp_path)
    with pytest.raises(RegistryError, match="do not have the digest"):
        job.run(files)
    assert not (tmp_path / hashlib.sha256(b"layer").hexdigest()).exists()


def test_too_little_disk_is_found_before_anything_is_fetched(server, tmp_path):
    server.image([b"layer"])
    job, files = fetch(server, tmp_path)
    files[-1]["size"] = 1 << 60
    with pytest.raises(OSError, match="are missing"):
        job.run(files)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_the_registry_lost(server, tmp_path):
    server.image([b"layer"])
    del server.blobs[digest_of(b"layer")]
    job, files = fetch(server, tmp_path)
    with pytest.raises(RegistryError) as caught:
        job.run(files)
    assert caught.value.reason == "not_found"
