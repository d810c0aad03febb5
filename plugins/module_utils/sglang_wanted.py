# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted of a server, and what of it is on this host: model, image, GPUs, weight cache."""

from __future__ import annotations

import os
import time

from ansible_collections.preheat.fleet.plugins.module_utils import (
    sglang_container,
    sglang_jit_cache,
    sglang_model,
    sglang_weight_cache,
)
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError
from ansible_collections.preheat.fleet.plugins.module_utils.docker_gpus import gpu_access_of
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_flags import flag_arguments


class Wanted:
    """The module's arguments on this host. C(model), C(image), C(jit_folder) and C(pulled), the time and the bytes of
    a pull, are known after C(spec()). C(weight_cache) is None where none is asked for.
    """

    def __init__(self, client, params, secrets, check_mode, warn):
        self._client, self._params, self._check_mode, self._warn = client, params, check_mode, warn
        self.model = self.image = self.pulled = self.jit_folder = None
        weight_cache = sglang_weight_cache.WeightCache(client, params, secrets) if params["weight_cache"] else None
        self.weight_cache = weight_cache

    def spec(self, report):
        """What the container is made of; what is found out goes into C(report). Nothing but an image is brought."""
        params = self._params
        try:
            sglang_container.check_environment(params["environment"])
            flags = flag_arguments(params["parameters"])
        except ValueError as error:
            raise LaunchError("invalid", str(error), "Change this argument.") from error
        self.model = self._model()
        self.image = self._image()
        report["docker_version"] = self._client.engine_version()
        self._client.check_restart_policy(params["restart_policy"])
        report["model"] = self.model.described()
        image_id = self.image["Id"] if self.image else "(not on this host)"
        access = self._gpu_access()
        if params["jit_cache_dir"]:
            slug = sglang_jit_cache.gpu_slug(params["gpus"] if access != "none" else [])
            self.jit_folder = os.path.join(params["jit_cache_dir"], sglang_jit_cache.key(image_id, slug))
        kind = self._kind(image_id)
        spec = kind(params, self.model, flags, image_id, access, jit_folder=self.jit_folder)
        if spec.gpu_access == "cdi":
            spec.cdi_devices = self._client.cdi_devices(spec.gpus)
        report["command"] = spec.docker_command(spec.port)
        return spec

    def _kind(self, image_id):
        if self.weight_cache:
            # Check mode starts nothing, so it cannot ask the image.
            asked = image_id if self.image and not self._check_mode else None
            if self.weight_cache.accepts(self.model.directory, asked):
                return sglang_weight_cache.client_spec
            self._warn(f"weight_cache: {self.weight_cache.refusal}; the server loads its weights itself")
        return sglang_container.ServerSpec

    def _model(self):
        params = self._params
        try:
            if params["model_path"]:
                model = sglang_model.from_directory(params["model_path"])
            else:
                commit = sglang_model.resolve_commit(params["cache_dir"], params["repo_id"], params["revision"])
                model = self._snapshot(commit)
            sglang_model.check_complete(model.directory)
            return model
        except sglang_model.ModelMissing as error:
            if self._check_mode and params["repo_id"]:
                self._warn(f"{error}; check mode goes on as if it had been fetched")
                return self._snapshot(params["revision"])
            raise LaunchError(
                "model_missing",
                str(error),
                "Fetch the model with preheat.fleet.hf_model first (playbook warm.yml), with the same repo_id, "
                "revision and cache_dir.",
            ) from error

    def _snapshot(self, commit):
        return sglang_model.from_cache(
            self._params["cache_dir"], sglang_container.CONTAINER_CACHE_DIR, self._params["repo_id"], commit
        )

    def _image(self):
        name, pull = self._params["image"], self._params["pull"]
        image = self._client.image(name)
        wants_pull = pull == "always" or (pull == "missing" and image is None)
        if wants_pull and self._check_mode:
            return image
        if wants_pull:
            progress = self._client.pull(name)
            self.pulled = (time.time(), progress.bytes_pulled)
            image = self._client.image(name)
        if image is None:
            raise LaunchError(
                "image_missing",
                f"image '{name}' is not on this host, and pull is '{pull}'",
                "Set pull to missing, or load the image there with 'docker load'.",
                phase="image_pull",
            )
        return image

    def _gpu_access(self):
        if not self._params["gpus"]:
            return "none"
        access = self._params["gpu_access"]
        return gpu_access_of(self._client.info()) if access == "auto" else access
