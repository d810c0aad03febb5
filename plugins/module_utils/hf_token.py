# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A token on its way to a background job of the same host.

Ansible keeps the arguments of a job in a file as long as the job runs, and for good if it is killed. So the job gets a
path instead of the token, to a file in memory that it removes as it begins.
"""

from __future__ import annotations

import os
import tempfile

from ansible_collections.preheat.fleet.plugins.module_utils.hf_errors import HubError

IN_MEMORY = "/dev/shm"


def leave(token: str) -> str:
    """Path of a new file with the token, for its owner alone. In the folder of temporary files if there is no tmpfs."""
    folder = IN_MEMORY if os.access(IN_MEMORY, os.W_OK | os.X_OK) else None
    handle, path = tempfile.mkstemp(prefix="preheat-token-", dir=folder)  # mode 0600
    with os.fdopen(handle, "w") as file:
        file.write(token)
    return path


def take(path: str) -> str:
    """What leave() wrote, once: the file goes. Raises HubError (bad_value)."""
    try:
        with open(path) as file:
            token = file.read().strip()
        os.unlink(path)
    except OSError as error:
        remedy = "Name a file that holds the token and may be removed, or give the token itself."
        raise HubError("bad_value", f"token_file {path!r} cannot be taken: {error}.", remedy) from error
    return token
