# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker through its SDK: the one place that connects, and that turns the engine's errors into docker_failure's."""

from __future__ import annotations

import contextlib
import http
import re
import traceback

from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import (
    LaunchError,
    PullError,
    engine_unreachable,
    explanation,
    translated,
)
from ansible_collections.preheat.fleet.plugins.module_utils.docker_gpus import cdi_devices, gpu_access_of
from ansible_collections.preheat.fleet.plugins.module_utils.gpu_inventory import inventory
from ansible_collections.preheat.fleet.plugins.module_utils.image_pull import Progress
from ansible_collections.preheat.fleet.plugins.module_utils.image_pull import explain as explain_pull

try:
    import docker
    from docker import errors as docker_errors
    from docker import types as docker_types
    from docker import utils as docker_utils
    from requests.exceptions import RequestException

    DOCKER_IMPORT_ERROR = None
    # What a request to the engine can raise when the engine itself is in trouble.
    ENGINE_ERRORS: tuple[type[Exception], ...] = (docker_errors.DockerException, RequestException)
except ImportError:
    DOCKER_IMPORT_ERROR = traceback.format_exc()
    ENGINE_ERRORS = ()

MANAGED_LABEL = "preheat.managed"


def parse_size(name, text):
    """Bytes of the argument C(name), a size as Docker writes it (C(32g), C(512m))."""
    try:
        return docker_utils.parse_bytes(text)
    except docker_errors.DockerException as error:
        raise LaunchError("invalid", f"{name} '{text}' is not a size", "Write it as 512m or 32g.") from error


def image_digest(image, name):
    """The registry's digest of an image under this name; the image id where it came from no registry."""
    repository = name.rsplit("@", 1)[0]
    if ":" in repository.rsplit("/", 1)[-1]:
        repository = repository.rsplit(":", 1)[0]
    digests = [entry.split("@", 1) for entry in image.get("RepoDigests") or [] if "@" in entry]
    ours = [digest for repo, digest in digests if repo == repository or repo.endswith("/" + repository)]
    return (ours or [digest for unused, digest in digests] or [image["Id"]])[0]


class DockerClient:
    """A connected engine. Every method raises LaunchError for what a person has to mend."""

    def __init__(self, docker_host, timeout_seconds):
        self.docker_host = docker_host
        try:
            self.api = docker.APIClient(base_url=docker_host, version="auto", timeout=timeout_seconds)
        except ENGINE_ERRORS as error:
            raise engine_unreachable(docker_host, error) from error

    def engine_version(self):
        return self.api.version()["Version"]

    def architecture(self):
        """As registries name it: amd64, arm64."""
        return self.api.version()["Arch"]

    def info(self):
        return self.api.info()

    # Images

    def image(self, name):
        """An image by name, or by digest whatever repository of this host it is recorded for: bytes are the same."""
        try:
            return self.api.inspect_image(name)
        except docker_errors.NotFound:
            digest = name.partition("@")[2]
        for entry in self.api.images() if digest else ():
            if any(known.endswith("@" + digest) for known in entry.get("RepoDigests") or []):
                return self.api.inspect_image(entry["Id"])
        return None

    def pull(self, name, login=None):
        """Pull an image; its image_pull.Progress. login: (user, password), else what 'docker login' left."""
        progress = Progress()
        try:
            # Without a tag the API would fetch every tag of the repository, where the client fetches 'latest'.
            repository, tag = docker_utils.parse_repository_tag(name)
            if tag and tag.startswith("sha256:"):
                repository = docker_utils.parse_repository_tag(repository)[0]  # a tag beside a digest says nothing
            auth = {"username": login[0], "password": login[1]} if login else None
            for event in self.api.pull(repository, tag=tag or "latest", stream=True, decode=True, auth_config=auth):
                if "error" in event:
                    raise docker_errors.APIError(event["error"], explanation=event["error"])
                progress.take(event)
        except docker_errors.APIError as error:
            said = explanation(error)
            reason, remedy = explain_pull(said)
            raise PullError(f"image '{name}' could not be pulled: {said}", remedy, reason) from error
        return progress

    def tag(self, image_id, name):
        repository, tag = docker_utils.parse_repository_tag(name)
        self.api.tag(image_id, repository, tag or "latest", force=True)

    def load(self, path):
        """Load an archive of 'docker save'."""
        try:
            with open(path, "rb") as stream:
                for event in self.api.load_image(stream):
                    if "error" in event:
                        raise docker_errors.APIError(event["error"], explanation=event["error"])
        except docker_errors.APIError as error:
            said = explanation(error)
            reason = explain_pull(said)[0]
            remedy = "See that it is what 'docker save' wrote, and that the engine has space for it."
            raise PullError(f"archive '{path}' could not be loaded: {said}", remedy, reason) from error

    def remove_image(self, name):
        try:
            self.api.remove_image(name)
        except docker_errors.NotFound:
            return
        except docker_errors.APIError as error:
            remedy = "Remove the containers that use it first (playbook teardown.yml removes preheat's)."
            raise PullError(f"image '{name}' could not be removed: {explanation(error)}", remedy, "in_use") from error

    def image_ids(self):
        return [image["Id"] for image in self.api.images()]

    # Containers

    def container(self, name):
        try:
            return self.api.inspect_container(name)
        except docker_errors.NotFound:
            return None

    def managed_names(self, labels):
        """Names of all containers, running or not, that preheat manages and that carry these labels."""
        wanted = [f"{MANAGED_LABEL}=true"] + [f"{key}={value}" for key, value in sorted(labels.items())]
        found = self.api.containers(all=True, filters={"label": wanted})
        return sorted(entry["Names"][0].lstrip("/") for entry in found if entry.get("Names"))

    def cdi_devices(self, gpus):
        return cdi_devices(self.info(), gpus, lambda: inventory()["gpus"])

    def device_request(self, access, gpus):
        ids = [str(gpu) for gpu in gpus]
        if access == "cdi":
            return docker_types.DeviceRequest(driver="cdi", device_ids=self.cdi_devices(ids))
        return docker_types.DeviceRequest(driver="nvidia", device_ids=ids, capabilities=[["gpu"]])

    def create(self, *, name, image, command, environment, labels, container_port, **host):
        """Create a container; C(host) are the arguments of the SDK's create_host_config."""
        return self._act(
            lambda: self.api.create_container(
                image,
                command=command,
                name=name,
                environment=environment,
                labels=labels,
                ports=[container_port] if host.get("port_bindings") else None,
                host_config=self.api.create_host_config(**host),
            )["Id"],
            name,
        )

    def output_of(self, container_id, command):
        """What a command prints that runs in a running container, whatever its exit code; empty if it cannot run."""
        try:
            started = self.api.exec_create(container_id, command)
            return self.api.exec_start(started["Id"]).decode("utf-8", "replace")
        except docker_errors.APIError:
            return ""

    def output_of_image(self, image_id, command, gpus=()):
        """What a command prints that runs in a container of its own, without a network; None if it fails."""
        requests = [self.device_request(gpu_access_of(self.info()), gpus)] if gpus else None
        container_id = self._act(
            lambda: self.api.create_container(
                image_id,
                # An image's own entry point may print a banner.
                entrypoint=command[:1],
                command=command[1:],
                labels={MANAGED_LABEL: "true"},
                host_config=self.api.create_host_config(network_mode="none", device_requests=requests),
            )["Id"],
            image_id,
        )
        try:
            self.api.start(container_id)
            ended = self.api.wait(container_id)
            return self.logs(container_id) if ended["StatusCode"] == 0 else None
        except docker_errors.APIError:
            return None
        finally:
            self.remove(container_id)

    def start(self, container_id, name):
        self._act(lambda: self.api.start(container_id), name)

    def check_restart_policy(self, policy):
        """A server gets its policy once it is ready, which Podman before 5.1 has no request for."""
        for part in self.api.version().get("Components") or [] if policy != "no" else []:
            version = re.match(r"(\d+)\.(\d+)", part.get("Version") or "")
            if part.get("Name") == "Podman Engine" and version and tuple(map(int, version.groups())) < (5, 1):
                raise LaunchError(
                    "invalid",
                    f"restart_policy '{policy}': Podman {part['Version']} cannot set it for a container that runs",
                    "Set restart_policy (sglang_server_restart_policy) to 'no', or update Podman to 5.1 or newer.",
                )

    def set_restart_policy(self, container_id, policy):
        self._act(lambda: self.api.update_container(container_id, restart_policy={"Name": policy}), container_id)

    def stop(self, container_id, grace_seconds):
        """SIGTERM, the grace period, then SIGKILL; a container that is gone or stopped is fine."""
        with contextlib.suppress(docker_errors.NotFound):
            self.api.stop(container_id, timeout=grace_seconds)

    def remove(self, container_id):
        with contextlib.suppress(docker_errors.NotFound):
            try:
                self.api.remove_container(container_id, force=True, v=True)
            except docker_errors.APIError as error:
                if error.status_code != http.HTTPStatus.CONFLICT:
                    raise
                # Somebody else removes it just then.
                self.api.wait(container_id, condition="removed")

    def block_io(self, container_id):
        """What a running container read and wrote, by block device, as the engine knows it; empty if it does not."""
        try:
            statistics = self.api.stats(container_id, stream=False, one_shot=True)
        except ENGINE_ERRORS:
            return []
        return (statistics.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []

    def logs(self, container_id, timestamps=False, tail="all"):
        """The container's output, both streams in the order in which the engine read them."""
        try:
            raw = self.api.logs(container_id, stdout=True, stderr=True, timestamps=timestamps, tail=tail)
        except docker_errors.APIError as error:
            return f"(no log: {explanation(error)})\n"
        return raw.decode("utf-8", "replace")

    def _act(self, call, name):
        try:
            return call()
        except docker_errors.APIError as error:
            raise translated(error, name) from error
