# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image in the engine of a host: there as wanted, or brought from a registry, a folder or an archive."""

from __future__ import annotations

import json
import os
import tarfile
import time

from ansible_collections.preheat.fleet.plugins.module_utils import oci_registry, oci_server
from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import image_digest
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import PullError


class EngineImage:
    """params: the arguments of the module engine_image. Everything that fails is a PullError."""

    def __init__(self, client, params, check_mode=False):
        self.client, self.params, self.check_mode = client, params, check_mode
        try:
            self.reference = oci_registry.parse(params["image"])
        except ValueError as error:
            raise PullError(str(error), "Correct image (engine_image_name).", "bad_name") from error
        given = params["digest"]
        if given and not oci_registry.DIGEST.fullmatch(given):
            remedy = "Write it as sha256: and 64 hexadecimal digits (engine_image_digest)."
            raise PullError(f"digest '{given}' is none", remedy, "bad_name")
        if given and self.reference.digest and given != self.reference.digest:
            remedy = "Leave one of the two out (engine_image_digest)."
            raise PullError(f"image '{params['image']}' is not the one with digest {given}", remedy, "bad_name")
        self.digest = given or self.reference.digest
        self.name = params["image"].partition("@")[0]  # without the digest; what the engine shall call it
        self.has_tag = bool(self.reference.tag)

    # present

    def ensure(self):
        """The result of the module with state present."""
        began = time.time()
        before = self._find()
        # What a digest names cannot change; what a tag names can.
        if before and (self.params["pull"] != "always" or self.digest):
            return {**self._result(before), "changed": False}
        known = self._under_another_name()
        if not known and self.params["pull"] == "never" and not self._has_source():
            raise PullError(
                f"image '{self.params['image']}'{self._with_digest()} is not on this host, and pull is never",
                "Set pull to missing (engine_image_pull), or name an archive (engine_image_archive).",
                "not_found",
            )
        if self.check_mode:
            source = "cache" if known else self._source()
            return {**self._result(before or known), "changed": True, "source": source}
        brought, replaced = {}, self._under_name()
        if known:
            self.client.tag(known["Id"], self.name)
        else:
            brought = self._bring()
        after = self._find()
        if after is None:
            raise self._wrong_digest()
        ids = [image and image["Id"] for image in (replaced, after)]
        return {
            **self._result(after),
            **brought,
            "changed": ids[0] != ids[1],
            "seconds": round(time.time() - began, 3),
            "diff": {"before": {"id": ids[0]}, "after": {"id": ids[1]}},
        }

    def _find(self):
        """The image that is wanted, if it is here under its name; with a digest, only the one that has it."""
        image = self._under_name()
        return image if image and (not self.digest or has_digest(image, self.digest)) else None

    def _under_name(self):
        return self.client.image(self.name if self.has_tag else self.params["image"])

    def _under_another_name(self):
        if not (self.digest and self.has_tag):
            return None
        return self.client.image(f"{self.name}@{self.digest}") or self.client.image(self.digest)

    def _result(self, image):
        """What is known of an image that is here, or None."""
        known = {"image": self.params["image"], "source": "cache", "bytes_pulled": 0, "phases": [], "seconds": 0.0}
        if image is None:
            return {**known, "id": None, "digest": self.digest or None, "size_bytes": None}
        digest = self.digest or image_digest(image, self.params["image"])
        return {**known, "id": image["Id"], "digest": digest, "size_bytes": image["Size"]}

    def _has_source(self):
        return bool(self.params["archive"] or self.params["layout"])

    def _source(self):
        return "archive" if self.params["archive"] else "layout" if self.params["layout"] else "registry"

    def _with_digest(self):
        return f" with digest {self.digest}" if self.digest else ""

    def _wrong_digest(self):
        found = self.client.image(self.name)
        has = image_digest(found, self.name) if found else "no image of that name"
        return PullError(
            f"image '{self.params['image']}'{self._with_digest()} is not what the {self._source()} gave: {has}",
            "Correct the digest, or take the image from where it was published.",
            "wrong_digest",
        )

    # where it comes from

    def _bring(self):
        source = self._source()
        if source == "archive":
            began = time.time()
            check_archive(self.params["archive"], self.name, self.digest)
            self.client.load(self.params["archive"])
            phases = [{"name": "load", "start": began, "seconds": round(time.time() - began, 3)}]
            return {"source": source, "phases": phases}
        if source == "layout":
            progress = self._from_layout()
        else:
            repository = self.name.rpartition(":")[0] if ":" in self.name.rpartition("/")[2] else self.name
            target = f"{repository}@{self.digest}" if self.digest else self.name
            progress = self.client.pull(target, self._login())
            self._tag(target)
        return {"source": source, "bytes_pulled": progress.bytes_pulled, "phases": progress.phases()}

    def _login(self):
        user, password = self.params["registry_username"], self.params["registry_password"]
        return (user, password) if user and password else None

    def _from_layout(self):
        """Through a registry of this host: the engine checks every digest, and keeps the image's own."""
        if not self.params["docker_host"].startswith("unix:"):
            raise PullError(
                f"the engine at docker_host '{self.params['docker_host']}' may run elsewhere, and could not reach a "
                "registry at this host's 127.0.0.1",
                "Pull from the registry (engine_image_source: registry), or use the engine's Unix socket.",
                "engine_elsewhere",
            )
        folder = os.path.join(self.params["layout"], "blobs", "sha256")
        digest = self.digest or only_digest(self.params["layout"])
        with oci_server.serve(folder) as address:
            target = f"{address}/{self.reference.repository}@{digest}"
            progress = self.client.pull(target)
        self._tag(target)
        return progress

    def _tag(self, pulled):
        """An image that was pulled by digest gets the name; without a tag in it, it is found by its digest."""
        if self.has_tag and "@" in pulled:
            self.client.tag(self.client.image(pulled)["Id"], self.name)

    # absent

    def remove(self):
        """The result of the module with state absent: the name goes, and what only that name held."""
        image = self._find() if self.digest else self.client.image(self.name)
        if image is None:
            return {"changed": False, "removed": []}
        others = [tag for tag in image.get("RepoTags") or [] if _plain(tag) != _plain(self.name)]
        digests = image.get("RepoDigests") or []
        names = [self.name, *([] if others else digests)] if self.has_tag else digests or [image["Id"]]
        if not self.check_mode:
            for name in names:
                self.client.remove_image(name)
        return {"changed": True, "removed": names}


def has_digest(image, digest):
    """Whether a digest names an image: a registry's, or (of one that came from none) the image's id."""
    return digest == image["Id"] or any(known.endswith("@" + digest) for known in image.get("RepoDigests") or [])


def only_digest(layout):
    """The digest of the one image of an OCI image layout."""
    path = os.path.join(layout, "index.json")
    try:
        with open(path, encoding="utf-8") as stream:
            digests = [entry["digest"] for entry in json.load(stream)["manifests"]]
    except (OSError, ValueError, KeyError) as error:
        remedy = "Give an OCI image layout, such as 'skopeo copy docker://IMAGE oci:FOLDER' writes."
        raise PullError(f"layout '{layout}' cannot be read: {error}", remedy, "bad_layout") from error
    if len(digests) != 1:
        raise PullError(f"layout '{layout}' has {len(digests)} images", "Name the image by its digest.", "bad_layout")
    return digests[0]


def check_archive(path, name, digest=""):
    """Raise PullError if an archive of 'docker save' lacks the image, before the engine reads all of it.

    A compressed archive cannot be looked into without reading it all: nothing is said of it.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            entries = json.load(archive.extractfile("manifest.json"))
    except tarfile.ReadError:
        return
    except (OSError, KeyError, ValueError) as error:
        remedy = "Give what 'docker save IMAGE -o FILE' writes (engine_image_archive)."
        raise PullError(f"archive '{path}' cannot be read: {error}", remedy, "bad_archive") from error
    ids = {}
    for entry in entries:
        config = os.path.basename(entry["Config"]).partition(".")[0]
        ids.update(dict.fromkeys(entry.get("RepoTags") or [], f"sha256:{config}"))
    wanted = _plain(name)
    found = {_plain(tag): image_id for tag, image_id in ids.items()}
    if wanted not in found:
        has = ", ".join(sorted(ids)) or "only images without a name"
        remedy = "Correct the name, or save the image under this name ('docker save NAME:TAG')."
        raise PullError(f"archive '{path}' has no image '{name}'; it has {has}", remedy, "not_found")
    if digest and found[wanted] != digest:
        raise PullError(
            f"image '{name}' in archive '{path}' has the id {found[wanted]}, not {digest}",
            "An archive keeps the image's id, not its registry's digest: give the id (docker image inspect -f "
            "'{{.Id}}'), or leave the digest out.",
            "wrong_digest",
        )


def _plain(name):
    """The name in full, without a digest."""
    reference = oci_registry.parse(name)
    return reference.registry, reference.repository, reference.tag
