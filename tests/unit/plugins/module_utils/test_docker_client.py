from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import docker_client, docker_failure

errors = pytest.importorskip("docker.errors")


@pytest.mark.parametrize(
    ("name", "digests", "expected"),
    [
        ("lmsysorg/sglang:v0.5.23", ["other/x@sha256:1", "lmsysorg/sglang@sha256:2"], "sha256:2"),
        ("lmsysorg/sglang", ["docker.io/lmsysorg/sglang@sha256:2"], "sha256:2"),
        ("localhost:5000/sglang:1", ["localhost:5000/sglang@sha256:3"], "sha256:3"),
        ("localhost:5000/sglang", ["localhost:5000/sglang@sha256:3"], "sha256:3"),
        ("sglang@sha256:4", ["sglang@sha256:4"], "sha256:4"),
        ("retagged:1", ["lmsysorg/sglang@sha256:2"], "sha256:2"),
        ("built:1", [], "sha256:id"),
        ("built:1", None, "sha256:id"),
    ],
)
def test_image_digest(name, digests, expected):
    assert docker_client.image_digest({"Id": "sha256:id", "RepoDigests": digests}, name) == expected


@pytest.mark.parametrize(
    ("name", "version", "policy", "refused"),
    [
        ("Podman Engine", "4.3.1", "unless-stopped", True),
        ("Podman Engine", "5.0.3", "always", True),
        ("Podman Engine", "4.3.1", "no", False),
        ("Podman Engine", "5.1.0-rc1", "unless-stopped", False),
        ("Podman Engine", "10.0", "unless-stopped", False),
        ("Engine", "4.3.1", "unless-stopped", False),
    ],
)
def test_a_restart_policy_that_podman_cannot_set(name, version, policy, refused):
    client = docker_client.DockerClient.__new__(docker_client.DockerClient)
    client.api = SimpleNamespace(version=lambda: {"Components": [{"Name": name, "Version": version}]})
    if not refused:
        return client.check_restart_policy(policy)
    with pytest.raises(docker_failure.LaunchError, match=f"{policy}.*Podman {version}") as caught:
        client.check_restart_policy(policy)
    assert caught.value.error_class == "invalid"
    return None


def refusing(status, waited):
    def remove_container(container_id, **how):
        raise errors.APIError("refused", response=SimpleNamespace(status_code=status), explanation="in progress")

    def wait(container_id, condition):
        waited.append((container_id, condition))
        raise errors.NotFound("gone meanwhile")

    client = docker_client.DockerClient.__new__(docker_client.DockerClient)
    client.api = SimpleNamespace(remove_container=remove_container, wait=wait)
    return client


def test_a_container_that_somebody_else_removes_just_then_is_waited_for():
    waited = []
    refusing(409, waited).remove("c")
    assert waited == [("c", "removed")]


def test_a_removal_that_the_engine_cannot_do_is_an_error():
    waited = []
    with pytest.raises(errors.APIError):
        refusing(500, waited).remove("c")
    assert waited == []


@pytest.mark.parametrize("docker_host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "nonsense://x"])
def test_an_engine_that_is_not_there(docker_host):
    with pytest.raises(docker_failure.LaunchError) as caught:
        docker_client.DockerClient(docker_host, 5)
    assert caught.value.error_class == "engine_unreachable"
    assert docker_host in caught.value.message


class Api:
    """The SDK's client with these images."""

    def __init__(self, images=()):
        self._images, self.pulled = images, []

    def inspect_image(self, name):
        for image in self._images:
            if name in (image["Id"], *image["RepoTags"], *image["RepoDigests"]):
                return image
        raise errors.ImageNotFound(name)

    def images(self):
        return self._images

    def pull(self, repository, tag, **_options):
        self.pulled.append((repository, tag))
        return iter([{"error": "toomanyrequests"}] if repository == "limited" else [{"status": "Pulling fs layer"}])


def client_of(api):
    client = docker_client.DockerClient.__new__(docker_client.DockerClient)
    client.api = api
    return client


DIGEST = "sha256:" + "ab" * 32
HERE = {
    "Id": "sha256:id",
    "RepoTags": ["lmsysorg/sglang:v1"],
    "RepoDigests": [f"127.0.0.1:4242/lmsysorg/sglang@{DIGEST}"],
}


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("lmsysorg/sglang:v1", True),
        (f"lmsysorg/sglang@{DIGEST}", True),  # by its bytes, whatever registry they came from
        (f"lmsysorg/sglang:v1@{DIGEST}", True),
        ("lmsysorg/sglang:v2", False),
        (f"lmsysorg/sglang@{DIGEST[:-1]}0", False),
    ],
)
def test_an_image_by_name_or_by_its_digest(name, there):
    api = Api([{"Id": "sha256:other", "RepoTags": [], "RepoDigests": []}, HERE])
    assert client_of(api).image(name) == (HERE if there else None)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("lmsysorg/sglang", ("lmsysorg/sglang", "latest")),
        ("h:5000/a:v1", ("h:5000/a", "v1")),
        (f"h:5000/a:v1@{DIGEST}", ("h:5000/a", DIGEST)),
    ],
)
def test_pull_asks_for_one_image(name, asked):
    api = Api()
    assert client_of(api).pull(name).bytes_pulled == 0
    assert api.pulled == [asked]


def test_a_pull_that_the_registry_limits():
    with pytest.raises(docker_failure.PullError) as caught:
        client_of(Api()).pull("limited")
    assert (caught.value.error_class, caught.value.phase) == ("image_missing", "image_pull")
    assert "toomanyrequests" in caught.value.message
