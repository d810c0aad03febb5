"""The Hub for tests keeps the protocol, and its faults, limit and counters do what they say."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request

import pytest
from lab_hub import serving
from lab_hub.serving import FILES, REPO

hub = pytest.fixture(serving.serve)
SHARD = "model-00001-of-00002.safetensors"


def ask(url, method="GET", body=None, **headers):
    """(status, headers, body), redirects followed."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_a_commit_is_the_content(hub):
    first = hub.publish(FILES)
    assert hub.publish({**FILES, "config.json": b"other"}) != first
    assert hub.publish(FILES) == first


def test_branches_beside_main(hub):
    tag = hub.publish({"config.json": b"v1"}, ref="v1")
    assert json.loads(ask(f"{hub.endpoint}/api/models/{REPO}/revision/v1")[2])["sha"] == tag
    assert ask(f"{hub.endpoint}/{REPO}/resolve/{tag}/config.json")[2] == b"v1"
    assert ".revisions" not in str(hub.repos.tree(REPO, "main").files)


def test_lfs_files_come_from_another_origin_at_the_name_the_client_used(hub):
    port = hub.api.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("HEAD", f"/{REPO}/resolve/main/{SHARD}", headers={"Host": f"hub.example:{port}"})
    answer = connection.getresponse()
    connection.close()
    assert answer.status == 302
    assert answer.headers["Location"].startswith(f"http://hub.example:{hub.api.cdn_port}/cdn/{REPO}/")
    assert answer.headers["X-Linked-Size"] == str(len(FILES[SHARD]))
    assert len(answer.headers["X-Linked-Etag"].strip('"')) == 64
    assert answer.headers["X-Repo-Commit"] == hub.repos.tree(REPO, "main").commit


def test_the_cdn_wants_a_signature(hub):
    commit = hub.repos.tree(REPO, "main").commit
    url = f"http://127.0.0.1:{hub.api.cdn_port}/cdn/{REPO}/{commit}/{SHARD}"
    assert ask(url)[0] == 403
    assert ask(f"{hub.endpoint}/{REPO}/resolve/main/{SHARD}")[2] == FILES[SHARD]


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=99999999-", 416, None),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges(hub, asked, status, span):
    got, headers, body = ask(f"{hub.endpoint}/{REPO}/resolve/main/{SHARD}", Range=asked)
    assert got == status
    if span:
        assert body == FILES[SHARD][span]
        assert int(headers["Content-Length"]) == len(body)


def test_a_listing_comes_in_pages(hub):
    hub.page_size = 2
    url, paths = f"{hub.endpoint}/api/models/{REPO}/tree/main?recursive=true&expand=false", []
    while url:
        _status, headers, body = ask(url)
        paths += [entry["path"] for entry in json.loads(body) if entry["type"] == "file"]
        url = (headers["Link"] or "").partition(">")[0].strip("<")
    assert sorted(paths) == sorted(FILES)


@pytest.mark.parametrize(
    ("path", "token", "status", "code"),
    [
        ("/api/models/acme/nothing/revision/main", "", 401, "RepoNotFound"),
        (f"/api/models/{REPO}/revision/v9", "", 404, "RevisionNotFound"),
        (f"/{REPO}/resolve/main/nothing.json", "", 404, "EntryNotFound"),
        ("/api/models/acme/gated/revision/main", "", 200, None),
        ("/acme/gated/resolve/main/config.json", "", 401, "GatedRepo"),
        ("/acme/gated/resolve/main/config.json", "stranger", 403, "GatedRepo"),
        ("/acme/gated/resolve/main/config.json", "friend", 200, None),
        ("/acme/gated/resolve/main/config.json", "made-up", 401, None),
        ("/api/models/acme/private/revision/main", "", 401, "RepoNotFound"),
        ("/api/models/acme/private/revision/main", "stranger", 404, "RepoNotFound"),
        ("/api/models/acme/private/revision/main", "friend", 200, None),
    ],
)
def test_refusals(hub, path, token, status, code):
    for kind in ("gated", "private"):
        hub.publish({"config.json": b"{}"}, repo=f"acme/{kind}")
        hub.control.restrict(f"acme/{kind}", kind, tokens=["friend"], other_tokens=["stranger"])
    got, headers, _body = ask(hub.endpoint + path, **({"Authorization": f"Bearer {token}"} if token else {}))
    assert (got, headers["X-Error-Code"]) == (status, code)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ({"kind": "status", "status": 503}, lambda got: got[0] == 503),
        ({"kind": "429", "retry_after": 7}, lambda got: (got[0], got[1]["Retry-After"]) == (429, "7")),
        ({"kind": "auth"}, lambda got: (got[0], got[1]["X-Error-Code"]) == (401, "GatedRepo")),
        ({"kind": "wrong_bytes", "after_bytes": 10}, lambda got: got[2][:12] == b"secondseco" + bytes([0x91, 0x9B])),
        ({"kind": "truncate", "after_bytes": 10}, lambda got: got[0] == 200 and len(got[2]) == 10),
    ],
)
def test_a_fault_hits_as_often_as_asked(hub, fault, check):
    url = f"{hub.endpoint}/{REPO}/resolve/main/model-00002-of-00002.safetensors"
    hub.control.add_fault(**fault, match="^/cdn/.*00002", count=1)
    got = ask(url)
    assert check(got), got[:2]
    assert ask(url)[2] == FILES["model-00002-of-00002.safetensors"]


def test_a_dropped_connection(hub):
    hub.control.add_fault(kind="drop", match="^/cdn/", after_bytes=1000)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(f"{hub.endpoint}/{REPO}/resolve/main/{SHARD}")
    assert len(caught.value.partial) == 1000


@pytest.mark.parametrize("fault", [{"kind": "explode"}, {"kind": "drop", "colour": "red"}, {}])
def test_an_unknown_fault_is_refused(hub, fault):
    status, _headers, body = ask(f"{hub.endpoint}/__lab__/faults", "POST", fault)
    assert status == 400
    assert b"known" in body


def test_the_limit_holds_for_all_together(hub):
    ask(f"{hub.endpoint}/__lab__/limit", "POST", {"mb_per_second": 4})
    begin = time.monotonic()
    ask(f"{hub.endpoint}/{REPO}/resolve/main/{SHARD}")
    assert time.monotonic() - begin >= len(FILES[SHARD]) / 4e6 * 0.9


def test_counters(hub):
    ask(f"{hub.endpoint}/{REPO}/resolve/main/{SHARD}")
    ask(f"{hub.endpoint}/{REPO}/resolve/main/config.json")
    stats = json.loads(ask(f"{hub.endpoint}/__lab__/stats")[2])
    assert stats["sides"]["cdn"] == {"requests": 1, "bytes": len(FILES[SHARD])}
    assert stats["sides"]["api"]["requests"] == 2
    assert stats["files"][f"{REPO}/{SHARD}"] == {
        "requests": 2,
        "bytes": len(FILES[SHARD]) + 2,
    }  # 2: the redirect's body
    assert stats["clients"]["127.0.0.1"]["repos"][REPO] == stats["repos"][REPO]["bytes"]
    assert ask(f"{hub.endpoint}/__lab__/reset", "POST", {})[0] == 200
    assert json.loads(ask(f"{hub.endpoint}/__lab__/stats")[2])["requests"] == 0


def test_hashes_outlive_the_process_and_follow_the_content(hub, tmp_path):
    before = hub.repos.tree(REPO, "main").files[SHARD].sha256
    known = json.loads((tmp_path / "hub" / "state" / "hashes.json").read_text())
    assert before in str(known)
    hub.publish({**FILES, SHARD: b"new"})
    assert hub.repos.tree(REPO, "main").files[SHARD].sha256 != before
