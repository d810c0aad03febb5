# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of an image on one host, from its registry, for this host and its peers."""

from __future__ import annotations

import dataclasses
import errno
import time

from ansible_collections.preheat.fleet.plugins.module_utils import oci_registry
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import PullError
from ansible_collections.preheat.fleet.plugins.module_utils.image_pull import remedy_for
from ansible_collections.preheat.fleet.plugins.module_utils.oci_fetch import Fetch
from ansible_collections.preheat.fleet.plugins.module_utils.oci_login import stored_login

REASONS = {"unreachable": "registry_unreachable", "strange": "wrong_digest"}


def fetch(client, params):
    """{digest, files, bytes_total, bytes_fetched, seconds, endpoint, source}: see the module engine_image_files.

    Raises PullError.
    """
    began = time.time()
    try:
        reference = oci_registry.parse(params["image"])
        if params["digest"]:
            reference = dataclasses.replace(reference, digest=params["digest"])
    except ValueError as error:
        raise PullError(str(error), "Correct image (engine_image_name).", "bad_name") from error
    login = (params["registry_username"], params["registry_password"])
    login = login if all(login) else stored_login(reference.registry)[0]
    try:
        endpoint, image = oci_registry.first_answer(reference, client.info(), login, client.architecture())
        job = Fetch(oci_registry.Registry(endpoint, reference.repository, login), params["dest"])
        job.run(image["files"])
    except oci_registry.RegistryError as error:
        reason = REASONS.get(error.reason, error.reason)
        raise PullError(f"image '{params['image']}': {error.message}", remedy_for(reason), reason) from error
    except OSError as error:
        reason = "no_space" if error.errno == errno.ENOSPC else "not_writable"
        remedy = f"See to {params['dest']} on this host, or name another folder (engine_image_dir)."
        raise PullError(f"the files of image '{params['image']}' cannot be kept: {error}", remedy, reason) from error
    own = (reference.endpoint, f"http://{reference.registry}")
    return {
        **image,
        "changed": job.bytes_fetched > 0,
        "bytes_fetched": job.bytes_fetched,
        "seconds": round(time.time() - began, 3),
        "endpoint": endpoint,
        "source": "registry" if endpoint in own else "mirror",
    }
