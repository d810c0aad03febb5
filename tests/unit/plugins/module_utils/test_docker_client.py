from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import docker_client

errors = pytest.importorskip("docker.errors")


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:01:00.5Z", 60.5),
        ("2026-11-23T08:28:43.123456789Z", 1795422523.123456789),
        ("2026-11-23T17:28:43+09:00", 1795422523.0),
        ("2026-11-23T04:58:43.5-03:30", 1795422523.5),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        (None, None),
        ("yesterday", None),
    ],
)
def test_parse_timestamp(text, epoch):
    assert docker_client.parse_timestamp(text) == (None if epoch is None else pytest.approx(epoch, abs=1e-6))


def test_split_timestamps():
    text = "1970-01-01T00:00:01Z one\n1970-01-01T00:00:02.5Z \na line of its own\n1970-01-01T00:00:03Z three  3\n"
    assert docker_client.split_timestamps(text) == [(1.0, "one"), (2.5, "a line of its own"), (3.0, "three  3")]
    assert docker_client.split_timestamps("no time here\n") == []


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


NVIDIA_CDI = [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}, {"Source": "cdi", "ID": "nvidia.com/gpu=all"}]


@pytest.mark.parametrize(
    ("info", "access", "kind"),
    [
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, "device_request", None),
        ({"Runtimes": {"runc": {}, "nvidia": {}}, "DiscoveredDevices": NVIDIA_CDI}, "device_request", "nvidia.com/gpu"),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": NVIDIA_CDI}, "cdi", "nvidia.com/gpu"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "amd.com/gpu=0"}]}, "cdi", "amd.com/gpu"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.com/nic=0"}]}, "device_request", None),
        ({"Runtimes": None, "DiscoveredDevices": None}, "device_request", None),
    ],
)
def test_gpu_access(info, access, kind):
    assert docker_client.gpu_access_of(info) == access
    assert docker_client.cdi_kind_of(info) == kind


@pytest.mark.parametrize(
    ("devices", "gpus", "names"),
    [
        (["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-b"], ["GPU-b"], ["nvidia.com/gpu=GPU-b"]),
        (["nvidia.com/gpu=0", "nvidia.com/gpu=1"], ["GPU-b"], ["nvidia.com/gpu=1"]),
        (["amd.com/gpu=0", "amd.com/gpu=1", "amd.com/gpu=all"], ["GPU-b", "GPU-a"], ["amd.com/gpu=1", "amd.com/gpu=0"]),
        (["amd.com/gpu=0"], ["0"], ["amd.com/gpu=0"]),
        (["amd.com/gpu=0"], ["GPU-x"], ["amd.com/gpu=GPU-x"]),
        ([], ["GPU-b"], ["nvidia.com/gpu=GPU-b"]),
    ],
)
def test_cdi_devices(devices, gpus, names):
    info = {"DiscoveredDevices": [{"Source": "cdi", "ID": device} for device in devices]}
    listed = [{"index": 0, "uuid": "GPU-a"}, {"index": 1, "uuid": "GPU-b"}]
    assert docker_client.cdi_devices(info, gpus, lambda: listed) == names


@pytest.mark.parametrize(
    ("explanation", "error_class", "remedy"),
    [
        (
            "driver failed programming: Bind for 127.0.0.1:30000 failed: port is already allocated",
            "port_in_use",
            "port",
        ),
        ("failed to bind host port for 127.0.0.1:30000: listen tcp4: address already in use", "port_in_use", "port"),
        ('could not select device driver "nvidia" with capabilities: [[gpu]]', "crashed", "Container Toolkit"),
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7", "crashed", "nvidia-smi -L"),
        ('exec: "python3": executable file not found in $PATH: unknown', "crashed", "command"),
        ("container-init binary not found on the host: stat /usr/libexec/podman/catatonit", "crashed", "catatonit"),
        ("something new", "crashed", "journalctl"),
    ],
)
def test_what_the_engine_refuses(explanation, error_class, remedy):
    error = docker_client.DockerClient._translated(errors.APIError("500", explanation=explanation), "server")
    assert error.error_class == error_class
    assert error.phase == "container_create"
    assert explanation in error.message
    assert "'server'" in error.message
    assert remedy in error.remedy


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
    with pytest.raises(docker_client.LaunchError, match=f"{policy}.*Podman {version}") as caught:
        client.check_restart_policy(policy)
    assert caught.value.error_class == "invalid"
    return None


@pytest.mark.parametrize("docker_host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "nonsense://x"])
def test_an_engine_that_is_not_there(docker_host):
    with pytest.raises(docker_client.LaunchError) as caught:
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
    with pytest.raises(docker_client.PullError) as caught:
        client_of(Api()).pull("limited")
    assert (caught.value.error_class, caught.value.phase) == ("image_missing", "image_pull")
    assert "toomanyrequests" in caught.value.message
