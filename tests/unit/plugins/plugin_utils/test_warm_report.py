"""The table of what all hosts hold."""

from __future__ import annotations

import json

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import warm_report

ITEM = {"repo_id": "o/m", "revision": "main"}
HELD = {
    "__model_cache_model": ITEM, "repo_id": "o/m", "revision": "main", "commit": "c" * 40, "changed": False,
    "bytes_total": 2_000_000_000, "bytes_to_fetch": 0, "bytes_fetched": 0, "seconds": 0.4, "mb_per_second": 0.0,
    "source": "cache", "verified": "size", "repaired": [],
}  # fmt: skip
FETCHED = {"changed": True, "bytes_to_fetch": 10**9, "bytes_fetched": 10**9, "seconds": 20.0, "mb_per_second": 50.0}
SWARM = {**FETCHED, "bytes_from_hub": 250_000_000, "bytes_from_peers": 750_000_000, "source": "hub+swarm"}
FAILED = {"__model_cache_model": {"repo_id": "o/x"}, "failed": True, "reason": "gated_repo", "msg": "It is gated. Ask."}


def rows(results, check=False, **failures):
    return warm_report.rows(results, failures, check)


@pytest.mark.parametrize(
    ("result", "check", "state"),
    [
        ({}, False, "complete"),
        (FETCHED, False, "fetched"),
        ({**FETCHED, "repaired": ["a"]}, False, "repaired"),
        ({"changed": True}, False, "linked"),
        ({}, True, "complete"),
        (FETCHED, True, "to fetch"),
        ({**FETCHED, "repaired": ["a"]}, True, "damaged"),
        ({"changed": True}, True, "to link"),
    ],
)
def test_states(result, check, state):
    (row,) = rows({"h": [{**HELD, **result}]}, check)
    assert (row["state"], row["error"]) == (state, None)


def test_where_the_bytes_came_from():
    alone, together = rows({"a": [{**HELD, **FETCHED}], "b": [{**HELD, **SWARM}]})
    assert (alone["bytes_from_hub"], alone["bytes_from_peers"]) == (10**9, 0)
    assert (together["bytes_from_hub"], together["bytes_from_peers"]) == (250_000_000, 750_000_000)


def test_one_failed_host_does_not_hide_the_others():
    found = rows({"a": [HELD, FAILED], "b": [HELD], "c": None, "d": []}, d="The budget is too small.")
    assert [(row["host"], row["state"]) for row in found] == [
        ("a", "complete"), ("a", "failed"), ("b", "complete"), ("c", "failed"), ("d", "failed"),
    ]  # fmt: skip
    assert warm_report.failed_hosts(found) == ["a", "c", "d"]
    assert found[1]["error"] == {"reason": "gated_repo", "message": "It is gated. Ask.", "remedy": ""}
    assert (found[1]["repo_id"], found[1]["revision"]) == ("o/x", "main")
    assert found[3]["error"]["reason"] == "lost"
    assert found[4]["error"]["message"] == "The budget is too small."


def test_the_table():
    found = rows({"gpu1": [{**HELD, **SWARM}], "gpu10": [FAILED], "gpu2": None})
    assert warm_report.table(found) == [
        "host   model                  state                from Hub  from peers  seconds  MB/s  verified",
        "gpu1   o/m@main cccccccccccc  fetched                0.2 GB      0.8 GB     20.0  50.0  size",
        "gpu10  o/x@main               failed (gated_repo)",
        "gpu2   -                      failed (lost)",
    ]


def test_the_table_of_check_mode_has_no_rates():
    (line,) = warm_report.table(rows({"h": [{**HELD, **FETCHED}]}, check=True))[1:]
    assert line.split() == ["h", "o/m@main", "cccccccccccc", "to", "fetch", "1.0", "GB", "size"]


def test_a_commit_is_said_once():
    (row,) = rows({"h": [{**HELD, "revision": "c" * 40}]})
    assert warm_report.table([row])[1].count("c" * 12) == 3


def test_repaired_files_are_named():
    names = [f"f{number}" for number in range(5)]
    assert "repaired f0, f1, f2 ..." in warm_report.table(rows({"h": [{**HELD, **FETCHED, "repaired": names}]}))[1]


def test_the_document():
    found = warm_report.document(rows({"a": [{**HELD, **SWARM}], "b": [{**HELD, **FETCHED}], "c": None}), "swarm", 5.0)
    assert (found["schema_version"], found["way"], found["end"]) == (1, "swarm", 5.0)
    assert (found["bytes_from_hub"], found["bytes_from_peers"]) == (1_250_000_000, 750_000_000)
    assert found["failed_hosts"] == ["c"]
    assert json.loads(json.dumps(found)) == found
