"""A real registry (Debian's docker-registry) for tests, behind a relay that counts and slows, and images in it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import random
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from lab_fleet import HOSTS, LAB

ROOT = Path(__file__).parents[2]
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"


def ensure_registry() -> str:
    """Path of the registry's program, which is installed where it is missing."""
    if not shutil.which("docker-registry"):
        script = f". {ROOT}/scripts/lib.sh && ensure_packages docker-registry"
        subprocess.run(["bash", "-euc", script], check=True)
    return shutil.which("docker-registry") or "/usr/bin/docker-registry"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Relay:
    """Carries connections to the registry; counts the bytes of its answers, at most so many a second."""

    def __init__(self, target_port: int):
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self.bytes = 0
        self.bytes_per_second = 0  # 0: no limit
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    with self._lock:
                        self.bytes += len(data)
                        if self.bytes_per_second:
                            time.sleep(len(data) / self.bytes_per_second)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def tunnels(port: int, hosts=tuple(HOSTS)):
    """The registry at port of the hosts' own loopback, where engines take plain HTTP without being told to."""
    opened = []
    for host in hosts:
        command = [
            "ssh", "-i", str(LAB / "ssh/id_ed25519"), "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes",
            "-o", f"UserKnownHostsFile={LAB / 'ssh/known_hosts'}", "-o", "ControlPath=none", "-N",
            "-R", f"127.0.0.1:{port}:127.0.0.1:{port}", f"root@{HOSTS[host]}",
        ]  # fmt: skip
        opened.append(subprocess.Popen(command))
    try:
        yield
    finally:
        for tunnel in opened:
            tunnel.terminate()
            tunnel.wait()


class Registry:
    """docker-registry on a free port of this machine. With htpasswd (of bcrypt hashes) it wants a login."""

    def __init__(self, folder: Path, htpasswd: str = "", login: tuple[str, str] | None = None):
        self.port = free_port()
        config = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }
        if htpasswd:
            (folder / "htpasswd").write_text(htpasswd)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        (folder / "config.yml").write_text(yaml.safe_dump(config))
        with (folder / "log").open("wb") as log:
            command = [ensure_registry(), "serve", str(folder / "config.yml")]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.relay = Relay(self.port)
        self._headers = {}
        if login:
            self._headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        self._wait(folder)

    def _wait(self, folder: Path) -> None:
        for _ in range(100):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/", timeout=5).close()
                return
            if self._answers_401():
                return
            time.sleep(0.1)
        raise RuntimeError((folder / "log").read_text())

    def _answers_401(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/", timeout=5).close()
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.relay.close()
        self._process.kill()
        self._process.wait()

    # images

    def push(
        self, repository: str, tag: str, *, layers: int = 3, layer_bytes: int = 1 << 20, index: bool = True
    ) -> dict:
        """An image of random bytes; {digest, id, bytes (of its blobs), layer (a layer's digest)}."""
        source = random.Random(f"{repository}:{tag}")
        blobs, diff_ids = [], []
        for number in range(layers):
            plain = _tar({f"data-{number}": source.randbytes(layer_bytes)})
            diff_ids.append(_digest(plain))
            blobs.append(gzip.compress(plain, 1, mtime=0))
        config = {
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["none"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }  # fmt: skip
        raw = json.dumps(config).encode()
        for blob in [raw, *blobs]:
            self._upload(repository, blob)
        kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": _part("application/vnd.docker.container.image.v1+json", raw),
            "layers": [_part(kind, blob) for blob in blobs],
        }  # fmt: skip
        document = json.dumps(manifest).encode()
        self._put_manifest(repository, _digest(document) if index else tag, MANIFEST, document)
        if index:
            own = {**_part(MANIFEST, document), "platform": {"architecture": "amd64", "os": "linux"}}
            document = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [own]}).encode()
            self._put_manifest(repository, tag, INDEX, document)
        size = sum(map(len, blobs))
        return {"digest": _digest(document), "id": _digest(raw), "bytes": size, "layer": _digest(blobs[0])}

    def _call(self, url: str, method: str, data: bytes, **headers: str):
        if url.startswith("/"):
            url = f"http://127.0.0.1:{self.port}{url}"
        headers = {**self._headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        return urllib.request.urlopen(request, timeout=30)

    def _upload(self, repository: str, blob: bytes) -> None:
        with self._call(f"/v2/{repository}/blobs/uploads/", "POST", b"") as answer:
            location = answer.headers["Location"]
        joint = "&" if "?" in location else "?"
        kind = {"Content_Type": "application/octet-stream"}
        self._call(f"{location}{joint}digest={_digest(blob)}", "PUT", blob, **kind).close()

    def _put_manifest(self, repository: str, version: str, kind: str, document: bytes) -> None:
        self._call(f"/v2/{repository}/manifests/{version}", "PUT", document, Content_Type=kind).close()


def _part(kind: str, data: bytes) -> dict:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _tar(files: dict[str, bytes]) -> bytes:
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return result.getvalue()
