from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils.jit_share import plan


def host(usable, **folders):
    return {"usable": usable, "folders": [{"key": key, "files": 1, "bytes": size} for key, size in folders.items()]}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, []),
        ({"a": {}, "b": {"failed": True}}, []),
        ({"a": host(["k"], k=9)}, []),
        ({"a": host(["k"], k=9), "b": host(["k"], k=9)}, []),
        ({"a": host(["k"], k=9), "b": host(["k"]), "c": host(["k"], k=4)}, [("k", "a", ["b", "c"])]),
        # Another image or another GPU: no use for it. Nor does a host that gave no answer.
        ({"a": host(["k"], k=9), "b": host(["other"]), "c": {"failed": True}}, []),
        # Who holds the most gives, whoever it is, also of what it could not use itself any more.
        ({"a": host(["k"], k=3), "b": host([], k=9)}, [("k", "b", ["a"])]),
        (
            {"a": host(["k", "l"], k=9, l=1), "b": host(["k", "l"], k=1, l=9)},
            [("k", "a", ["b"]), ("l", "b", ["a"])],
        ),
    ],
)
def test_plan(found, expected):
    assert [(share["key"], share["seed"], share["receivers"]) for share in plan(found)] == expected
