# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a registry says of an image: its digest, its files with size and sha256, and where their bytes are.

The API is that of the OCI Distribution Specification 1.1, which Docker Registry HTTP API V2 became. Standard library
only, since preflight asks before anything is installed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

TIMEOUT_SECONDS = 20
DOCKER_HUB = "https://index.docker.io/v1/"  # what Docker's configuration calls it
DOCKER_HUB_ENDPOINT = "https://registry-1.docker.io"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
DOCUMENT_BYTES = 4 << 20  # the specification's limit of a manifest

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

DOCUMENTS = ", ".join([*INDEXES, *MANIFESTS])
IDENTITY = {"Accept-Encoding": "identity"}


class RegistryError(Exception):
    """What a registry refused; reason (for programs) is not_found, unauthorized, unreachable or strange."""

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Reference:
    """An image's name in its parts, as docker reads it; the tag is empty where only a digest is given."""

    registry: str  # as Docker's configuration names it
    repository: str
    tag: str
    digest: str

    @property
    def endpoint(self):
        return DOCKER_HUB_ENDPOINT if self.registry == DOCKER_HUB else f"https://{self.registry}"

    @property
    def version(self):
        """What a registry is asked for."""
        return self.digest or self.tag


def parse(image):
    """The Reference of an image's name. Raises ValueError where docker would refuse it."""
    name, at, digest = image.partition("@")
    registry = registry_of(name)
    path = name if registry == DOCKER_HUB else name.partition("/")[2]
    repository, _colon, tag = path.partition(":")
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    is_name = re.fullmatch(r"[a-z0-9]+([._/-]+[a-z0-9]+)*", repository) and re.fullmatch(r"[\w.-]*", tag)
    if not is_name or (at and not DIGEST.fullmatch(digest)):
        raise ValueError(f"'{image}' names no image: write [REGISTRY/]NAME:TAG or [REGISTRY/]NAME@sha256:DIGEST")
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def registry_of(image):
    """The registry as Docker's configuration names it: the part before the first slash, where that is a host."""
    first, slash, _rest = image.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return first if is_host else DOCKER_HUB


def endpoints(reference, engine_info):
    """Where to ask for an image, in order: as the engine (its /info) would, mirrors of Docker Hub first.

    Certificates that only the engine trusts (/etc/docker/certs.d) are not known here.
    """
    configured = (engine_info.get("RegistryConfig") or {}).get("IndexConfigs") or {}
    if reference.registry == DOCKER_HUB:
        mirrors = (configured.get("docker.io") or {}).get("Mirrors") or []
        return [*(mirror.rstrip("/") for mirror in mirrors), reference.endpoint]
    host = reference.registry.rpartition(":")[0] or reference.registry
    loopback = host in ("localhost", "[::1]") or re.fullmatch(r"127(\.\d+){3}", host)
    insecure = loopback or (configured.get(reference.registry) or {}).get("Secure") is False
    return [f"http://{reference.registry}" if insecure else reference.endpoint]


# What follows redirects, as urlopen() does. Not Ansible's open_url, whose module each call would bring to the host, and
# which would send what ~/.netrc has.
FOLLOWING = urllib.request.build_opener()


class _Stay(urllib.request.HTTPRedirectHandler):
    """Does not follow: whoever is redirected to another origin must not take the login along."""

    def redirect_request(self, *_args):
        return None


class Registry:
    """One repository of a registry. login is (user, password), or None for what is public."""

    def __init__(self, endpoint, repository, login=None):
        self.endpoint, self.repository = endpoint.rstrip("/"), repository
        self._login = login
        self._authorization = None
        self._opener = urllib.request.build_opener(_Stay)

    # requests

    def _url(self, kind, version):
        return f"{self.endpoint}/v2/{self.repository}/{kind}/{urllib.parse.quote(version, safe=':')}"

    def _open(self, url, **headers):
        """The answer, after a login where one is asked for. Raises HTTPError for every other status."""
        try:
            return self._opener.open(self._request(url, headers), timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            self._authorization = self._authorize(error.headers.get("WWW-Authenticate") or "")
        return self._opener.open(self._request(url, headers), timeout=TIMEOUT_SECONDS)

    def _request(self, url, headers):
        login = {"Authorization": self._authorization} if self._authorization else {}
        return urllib.request.Request(url, headers={**IDENTITY, **headers, **login})

    def _authorize(self, challenge):
        """The header that answers a challenge: a token for pulling (RFC 6750), or the login itself."""
        basic = None
        if self._login:
            basic = "Basic " + base64.b64encode(":".join(self._login).encode()).decode()
        kind, _space, rest = challenge.partition(" ")
        if kind.lower() != "bearer":
            return basic
        said = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        query = {"service": said.get("service", ""), "scope": f"repository:{self.repository}:pull"}
        request = urllib.request.Request(
            f"{said.get('realm', '')}?{urllib.parse.urlencode(query)}",
            headers={"Authorization": basic} if basic else {},
        )
        with FOLLOWING.open(request, timeout=TIMEOUT_SECONDS) as answer:
            token = json.load(answer)
        return f"Bearer {token.get('token') or token['access_token']}"

    def _document(self, version, expected):
        """(digest, text) of a manifest or index, checked against the digest that names it."""
        try:
            with self._open(self._url("manifests", version), Accept=DOCUMENTS) as answer:
                data = answer.read(DOCUMENT_BYTES + 1)
        except (OSError, ValueError, KeyError) as error:
            raise explain(error, self.endpoint, f"{self.repository} {version}") from error
        found = "sha256:" + hashlib.sha256(data).hexdigest()
        if expected and found != expected:
            message = f"{self.endpoint} gave a manifest of {self.repository} with the digest {found}, not {expected}"
            raise RegistryError("strange", message)
        return found, data

    def locate(self, digest, is_manifest=False):
        """(url, headers) of a file's bytes. What lies at another origin is asked for without the login."""
        url = self._url("manifests" if is_manifest else "blobs", digest)
        headers = {"Accept": DOCUMENTS} if is_manifest else {}
        try:
            # One byte, and not HEAD: an address that is signed for HEAD gives no bytes.
            self._open(url, Range="bytes=0-0", **headers).close()
        except urllib.error.HTTPError as error:
            location = urllib.parse.urljoin(url, error.headers.get("Location") or "")
            if error.code in (301, 302, 303, 307, 308) and location.startswith(("https://", "http://")):
                return location, dict(IDENTITY)
            raise
        login = {"Authorization": self._authorization} if self._authorization else {}
        return url, {**IDENTITY, **headers, **login}

    # images

    def image(self, version, architecture="amd64", system="linux"):
        """{digest, files [{digest, size, is_manifest}], bytes_total} of an image for one platform.

        digest is what C(docker pull) records: that of the index, where there are several platforms. The files are in
        the order in which an engine asks for them. Raises RegistryError.
        """
        expected = version if DIGEST.fullmatch(version) else ""
        digest, data = self._document(version, expected)
        files = [{"digest": digest, "size": len(data), "is_manifest": True}]
        manifest = _parsed(data, self.repository)
        if "manifests" in manifest:
            chosen = for_platform(manifest["manifests"], architecture, system)
            if chosen is None:
                raise RegistryError(
                    "not_found", f"{self.repository} {version} has no image for {system}/{architecture}"
                )
            _digest, data = self._document(chosen["digest"], chosen["digest"])
            files.append({"digest": chosen["digest"], "size": len(data), "is_manifest": True})
            manifest = _parsed(data, self.repository)
        if "config" not in manifest or "layers" not in manifest:
            raise RegistryError("strange", f"{self.repository} {version} has a manifest of an unsupported kind")
        for part in [manifest["config"], *manifest["layers"]]:
            files.append({"digest": part["digest"], "size": part["size"], "is_manifest": False})
        unique = list({file["digest"]: file for file in files}.values())
        return {"digest": digest, "files": unique, "bytes_total": sum(file["size"] for file in unique)}


def for_platform(manifests, architecture, system="linux"):
    """The first entry of an index for a platform; None if there is none."""
    for entry in manifests:
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == (system, architecture):
            return entry
    return None


def _parsed(data, repository):
    try:
        manifest = json.loads(data)
        if isinstance(manifest, dict):
            return manifest
    except ValueError:
        pass
    raise RegistryError("strange", f"what the registry gave for {repository} is no manifest")


def explain(error, endpoint, what):
    """The RegistryError of a request that failed."""
    status = getattr(error, "code", None)
    if status == 404:
        return RegistryError("not_found", f"{endpoint} has no {what}")
    if status in (401, 403):
        return RegistryError("unauthorized", f"{endpoint} does not give {what} with this login (HTTP {status})")
    if isinstance(error, (ValueError, KeyError)):
        return RegistryError("strange", f"{endpoint} answered in a way that is no registry's: {error}")
    detail = f"HTTP {status}" if status else getattr(error, "reason", None) or error
    return RegistryError("unreachable", f"{endpoint} did not answer for {what}: {detail}")


def first_answer(reference, engine_info, login, architecture):
    """(endpoint, image) of the first endpoint that knows an image. Raises the last one's RegistryError."""
    for endpoint in endpoints(reference, engine_info):
        try:
            registry = Registry(endpoint, reference.repository, login)
            return endpoint, registry.image(reference.version, architecture)
        except RegistryError as error:
            failure = error
    raise failure
