from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import docker_failure

errors = pytest.importorskip("docker.errors")


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
    error = docker_failure.translated(errors.APIError("500", explanation=explanation), "server")
    assert error.error_class == error_class
    assert error.phase == "container_create"
    assert explanation in error.message
    assert "'server'" in error.message
    assert remedy in error.remedy
