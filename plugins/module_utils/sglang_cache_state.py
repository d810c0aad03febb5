# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a launch found warm, and what it read and compiled."""

from __future__ import annotations

from ansible_collections.preheat.fleet.plugins.module_utils import (
    sglang_disk_reads,
    sglang_jit_cache,
    sglang_model,
    sglang_page_cache,
)

_PAGE_CACHE_FRACTION = 0.95


def before(model_directory):
    """What of the weights a launch finds in RAM. To be asked before it, for afterwards all of them are."""
    fraction = _resident_fraction(model_directory)
    rung = "page_cache" if fraction is not None and fraction >= _PAGE_CACHE_FRACTION else "disk"
    return {"resident_fraction_before": fraction, "weights_rung": rung}


def after(client, container_id, model_directory, jit_folder, since):
    """What a launch that began at C(since) (epoch seconds) read and compiled until it was ready."""
    return {
        "resident_fraction_after": _resident_fraction(model_directory),
        "disk_read_bytes": sglang_disk_reads.read_bytes(client.block_io(container_id), container_id),
        "jit": sglang_jit_cache.measure(jit_folder or "", since),
    }


def _resident_fraction(model_directory):
    fraction = sglang_page_cache.resident_fraction(sglang_model.weight_files(model_directory))
    return None if fraction is None else round(fraction, 4)
