# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every module takes that holds a snapshot; documented in the fragment huggingface."""

from __future__ import annotations

SNAPSHOT_ARGUMENTS: dict = {
    "repo_id": {"type": "str", "required": True},
    "cache_dir": {"type": "path"},
    "allow_patterns": {"type": "list", "elements": "str"},
    "ignore_patterns": {"type": "list", "elements": "str"},
    "allow_pickle": {"type": "bool", "default": False},
    "token": {"type": "str", "no_log": True},
    "endpoint": {"type": "str"},
    "fallback_endpoints": {"type": "list", "elements": "str"},
    "verify": {"type": "str", "choices": ["size", "full"], "default": "size"},
    "retries": {"type": "int", "default": 5},
    "min_free_bytes": {"type": "int", "default": 1 << 30},
}
