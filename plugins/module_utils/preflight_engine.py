# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A look at the Docker engine with the standard library alone: preflight runs before anything is installed."""

from __future__ import annotations

import http.client
import json
import os
import socket
from urllib.parse import quote, urlsplit

from ansible_collections.preheat.fleet.plugins.module_utils.gpu_tools import find_tool
from ansible_collections.preheat.fleet.plugins.module_utils.preflight_registry import download_bytes, refusal

TIMEOUT_SECONDS = 60
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
# dockerd offers NVIDIA device requests as soon as it finds this program, with or without a registered runtime.
NVIDIA_HOOK = "nvidia-container-runtime-hook"


class EngineError(Exception):
    """No answer from the engine; kind is missing, stopped, denied, unreachable, unsupported or strange."""

    def __init__(self, kind, detail):
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """Reads from one engine. Every request opens a connection: there are a handful of them."""

    def __init__(self, docker_host):
        self.url = urlsplit(docker_host)
        if self.url.scheme not in ("unix", "tcp", "http"):
            raise EngineError("unsupported", f"scheme {self.url.scheme!r}")

    @property
    def is_local(self):
        return self.url.scheme == "unix"

    def get(self, path):
        """Return the JSON document at a path, or None if the engine has no such thing."""
        status, text = self.ask(path)
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise EngineError("strange", f"GET {path} gave status {status}: {text[:200]}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise EngineError("strange", f"GET {path} gave no JSON: {text[:200]}") from error

    def ask(self, path, headers=None):
        """Return the status and the text of a GET."""
        connection = (
            _UnixConnection(self.url.path)
            if self.is_local
            else http.client.HTTPConnection(self.url.hostname, self.url.port or 2375, timeout=TIMEOUT_SECONDS)
        )
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except FileNotFoundError as error:
            raise EngineError("stopped" if find_tool("dockerd") else "missing", str(error)) from error
        except PermissionError as error:
            raise EngineError("denied", str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise EngineError("stopped" if self.is_local else "unreachable", str(error)) from error
        finally:
            connection.close()


def engine_facts(docker_host, image_names, login=None, cdi_folders=CDI_FOLDERS):
    """What the engine is and which of the images it has; login: (user, password) for their registry.

    Raises EngineError.
    """
    engine = Engine(docker_host)
    version = engine.get("/version")
    info = engine.get("/info")
    if not isinstance(version, dict) or not isinstance(info, dict):
        raise EngineError("strange", "what answers has no /version and /info")
    images = {name: _image(engine, name) for name in image_names}
    for name, image in images.items():
        if not image["present"]:
            image["refusal"] = refusal(engine, name, login)
            if image["refusal"] == "":
                image["download_bytes"] = download_bytes(name, info, version.get("Arch") or "amd64", login)
    tags = []
    if not all(image["present"] for image in images.values()):
        tags = [tag for image in engine.get("/images/json") or [] for tag in image.get("RepoTags") or []]
    return {
        "docker_version": version.get("Version"),
        "docker_api": version.get("ApiVersion"),
        "storage_driver": info.get("Driver"),
        # The folder says nothing about the disks of this host if the engine runs elsewhere.
        "docker_root_dir": info.get("DockerRootDir") if engine.is_local else None,
        "has_nvidia_runtime": "nvidia" in (info.get("Runtimes") or {}) or bool(find_tool(NVIDIA_HOOK)),
        "has_cdi": _has_cdi(info, cdi_folders),
        "images": images,
        "image_tags": sorted(tag for tag in tags if tag != "<none>:<none>"),
    }


def _image(engine, name):
    """An image of the host. One by digest is there under whatever repository it is recorded, as for a launch."""
    document = engine.get(f"/images/{quote(name, safe='/:@')}/json")
    digest = name.partition("@")[2]
    for entry in engine.get("/images/json") or [] if digest and not document else ():
        if any(known.endswith("@" + digest) for known in entry.get("RepoDigests") or []):
            document = entry
    found = document or {}
    return {
        "present": bool(found),
        "id": found.get("Id"),
        "size_bytes": found.get("Size"),
        "refusal": "",  # of the registry, for what is not there; None where that is not known
        "download_bytes": None,  # of what is not there, where the registry tells
    }


def _has_cdi(info, folders):
    """Whether the engine knows GPUs as CDI devices (or, before Docker 28 tells, has a description of them)."""
    if any("/gpu=" in device.get("ID", "") for device in info.get("DiscoveredDevices") or []):
        return True
    for folder in info.get("CDISpecDirs") or folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        if any(name.startswith(("nvidia", "amd")) and name.endswith((".yaml", ".json")) for name in names):
            return True
    return False
