# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with the Docker engine, in plain words and with what to do next. Needs no SDK."""

from __future__ import annotations

import re

PORT_TAKEN = re.compile(r"port is already allocated|address already in use|failed to bind host port", re.I)
NO_GPU_DRIVER = re.compile(
    r"could not select device driver|unresolvable CDI devices|CDI device injection failed"
    r"|nvidia-container-cli|unknown or invalid runtime name|unknown device",
    re.I,
)


class LaunchError(Exception):
    """A failure that a caller can act upon: its class, what happened, and what to do next."""

    def __init__(self, error_class, message, remedy, phase=None, exit_code=None):
        super().__init__(message)
        self.error_class = error_class
        self.message = message
        self.remedy = remedy
        self.phase = phase
        self.exit_code = exit_code


class PullError(LaunchError):
    """An image that could not be brought here, or removed; reason is for programs."""

    def __init__(self, message, remedy, reason):
        super().__init__("image_missing", message, remedy, phase="image_pull")
        self.reason = reason


def explanation(error):
    """The engine's own words, without the HTTP envelope that the SDK puts around them."""
    return str(getattr(error, "explanation", None) or error).strip()


def engine_unreachable(docker_host, error):
    return LaunchError(
        "engine_unreachable",
        f"the Docker engine at docker_host '{docker_host}' does not answer: {explanation(error)}",
        "Start the Docker engine on this host, or set docker_host to where it listens, and see that this user may "
        "use it.",
    )


def translated(error, name):
    """The LaunchError for an engine that refused to create, start or update container C(name)."""
    text = explanation(error)
    if PORT_TAKEN.search(text):
        return LaunchError(
            "port_in_use",
            f"container '{name}' could not be published: {text}",
            "Choose another port, leave port at 0 for a free one, or stop what listens there.",
            phase="container_create",
        )
    if NO_GPU_DRIVER.search(text):
        return LaunchError(
            "crashed",
            f"the engine cannot give GPUs to container '{name}': {text}",
            "Install the NVIDIA Container Toolkit and register it with Docker "
            "('nvidia-ctk runtime configure --runtime=docker'), set gpu_access to cdi where the engine "
            "has CDI devices, or check the names in gpus against 'nvidia-smi -L'.",
            phase="container_create",
        )
    if "container-init binary not found" in text:
        return LaunchError(
            "crashed",
            f"Podman has no init for container '{name}': {text}",
            "Install catatonit on the host (the package's name in most distributions), or set init to false.",
            phase="container_create",
        )
    if "executable file not found" in text or "no such file or directory" in text.lower():
        return LaunchError(
            "crashed",
            f"container '{name}' has no such command: {text}",
            "Use an image with SGLang in it, or set command to how that image starts its server.",
            phase="container_create",
        )
    return LaunchError(
        "crashed",
        f"the engine refused container '{name}': {text}",
        "Read the engine's message; 'journalctl -u docker' on the host may say more.",
        phase="container_create",
    )
