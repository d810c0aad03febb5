from __future__ import annotations

import io
import json
import tarfile

import pytest

pytest.importorskip("docker")

from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import PullError
from ansible_collections.preheat.fleet.plugins.module_utils.engine_image import (
    EngineImage,
    check_archive,
    has_digest,
    only_digest,
)
from ansible_collections.preheat.fleet.plugins.module_utils.image_pull import Progress

ONE, TWO, ID = ("sha256:" + number * 32 for number in ("11", "22", "ee"))
NAME = "lmsysorg/sglang:v1"


class Client:
    """An engine with these images, which a pull or load adds to."""

    def __init__(self, **images):
        self.images = images
        self.calls = []

    def image(self, name):
        digest = name.partition("@")[2]
        for known, image in self.images.items():
            if known == name or image["Id"] == name or (digest and has_digest(image, digest)):
                return image
        return None

    def pull(self, name, login=None):
        self.calls.append(("pull", name, login))
        self.images[name] = {"Id": ID, "Size": 5, "RepoDigests": [f"lmsysorg/sglang@{ONE}"], "RepoTags": [NAME]}
        return Progress()

    def load(self, path):
        self.calls.append(("load", path))
        self.images[NAME] = {"Id": ID, "Size": 5, "RepoDigests": [], "RepoTags": [NAME]}

    def tag(self, image_id, name):
        self.calls.append(("tag", name))
        self.images[name] = self.image(image_id)

    def remove_image(self, name):
        self.calls.append(("remove", name))


def here(digest=ONE, image_id=ID, tags=(NAME,), repository="lmsysorg/sglang"):
    return {"Id": image_id, "Size": 5, "RepoDigests": [f"{repository}@{digest}"], "RepoTags": list(tags)}


def engine_image(client, check_mode=False, **params):
    defaults = {
        "image": NAME, "digest": None, "pull": "missing", "layout": None, "archive": None, "registry_username": None,
        "registry_password": None, "docker_host": "unix:///x",
    }  # fmt: skip
    return EngineImage(client, {**defaults, **params}, check_mode)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"pull": "never"},
        {"digest": ONE},
        {"digest": ONE, "pull": "always"},
        {"image": f"{NAME}@{ONE}"},
        {"image": f"lmsysorg/sglang@{ONE}"},
        {"digest": ID},
    ],
)
def test_what_is_there_is_left_alone(params):
    client = Client(**{NAME: here()})
    result = engine_image(client, **params).ensure()
    assert (result["changed"], result["source"], client.calls) == (False, "cache", [])
    assert (result["id"], result["digest"]) == (ID, params.get("digest") or ONE)


@pytest.mark.parametrize(
    ("image", "digest", "calls"),
    [
        (NAME, None, [("pull", NAME, None)]),
        (NAME, ONE, [("pull", f"lmsysorg/sglang@{ONE}", None), ("tag", NAME)]),
        (f"{NAME}@{ONE}", None, [("pull", f"lmsysorg/sglang@{ONE}", None), ("tag", NAME)]),
        (f"lmsysorg/sglang@{ONE}", None, [("pull", f"lmsysorg/sglang@{ONE}", None)]),
        (f"h:5000/x@{ONE}", None, [("pull", f"h:5000/x@{ONE}", None)]),
    ],
)
def test_what_is_not_there_is_pulled_by_digest_where_one_is_known(image, digest, calls):
    client = Client()
    result = engine_image(client, image=image, digest=digest).ensure()
    assert client.calls == calls
    assert (result["changed"], result["source"], result["digest"]) == (True, "registry", ONE)
    assert result["diff"] == {"before": {"id": None}, "after": {"id": ID}}


def test_check_mode_asks_nothing_and_changes_nothing():
    client = Client()
    result = engine_image(client, check_mode=True).ensure()
    assert (result["changed"], result["id"], client.calls) == (True, None, [])


def test_another_digest_under_the_name_is_replaced():
    client = Client(**{NAME: here(TWO, "sha256:old")})
    result = engine_image(client, digest=ONE).ensure()
    assert result["changed"]
    assert result["diff"]["before"] == {"id": "sha256:old"}
    assert client.images[NAME]["Id"] == ID


def test_a_registry_that_gives_another_image_than_the_digest_names():
    with pytest.raises(PullError) as caught:
        engine_image(Client(), digest=TWO).ensure()
    assert caught.value.reason == "wrong_digest"


def test_what_another_name_has_costs_nothing():
    client = Client(**{"mirror:5000/x": here(repository="mirror:5000/x", tags=[])})
    result = engine_image(client, digest=ONE).ensure()
    assert (result["changed"], result["source"], client.calls) == (True, "cache", [("tag", NAME)])


def test_a_tag_that_did_not_move_is_no_change():
    client = Client(**{NAME: here()})
    result = engine_image(client, pull="always").ensure()
    assert client.calls == [("pull", NAME, None)]
    assert not result["changed"]


def test_the_login_is_for_the_registry():
    client = Client()
    engine_image(client, registry_username="me", registry_password="pass").ensure()
    assert client.calls == [("pull", NAME, ("me", "pass"))]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"pull": "never"}, "not_found"),
        ({"image": "NO NAME"}, "bad_name"),
        ({"digest": "sha256:12"}, "bad_name"),
        ({"image": f"a@{ONE}", "digest": TWO}, "bad_name"),
        ({"layout": "/x", "docker_host": "tcp://other:2375"}, "engine_elsewhere"),
        ({"layout": "/not/there"}, "bad_layout"),
        ({"archive": "/not/there"}, "bad_archive"),
    ],
)
def test_what_cannot_be(params, reason):
    client = Client()
    with pytest.raises(PullError) as caught:
        engine_image(client, **params).ensure()
    assert (caught.value.reason, client.calls) == (reason, [])


@pytest.mark.parametrize(
    ("image", "tags", "expected"),
    [
        (NAME, [NAME], [NAME, f"lmsysorg/sglang@{ONE}"]),
        (NAME, [NAME, "other:1"], [NAME]),
        (f"lmsysorg/sglang@{ONE}", [], [f"lmsysorg/sglang@{ONE}"]),
    ],
)
def test_absent(image, tags, expected):
    client = Client(**{image: here(tags=tags)})
    assert engine_image(client, image=image).remove() == {"changed": True, "removed": expected}
    assert client.calls == [("remove", name) for name in expected]


def test_absent_again_and_in_check_mode():
    assert engine_image(Client()).remove() == {"changed": False, "removed": []}
    client = Client(**{NAME: here()})
    assert engine_image(client, check_mode=True).remove()["changed"]
    assert client.calls == []


# archives and layouts


def archive(tmp_path, entries, mode="w"):
    path = tmp_path / "image.tar"
    data = json.dumps(entries).encode()
    with tarfile.open(path, mode) as target:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(data)
        target.addfile(entry, io.BytesIO(data))
    return str(path)


SAVED = [{"Config": f"{'ee' * 32}.json", "RepoTags": ["lmsysorg/sglang:v1"]}, {"Config": "x.json", "RepoTags": None}]
SAVED_OCI = [{"Config": f"blobs/sha256/{'ee' * 32}", "RepoTags": ["lmsysorg/sglang:v1"]}]


@pytest.mark.parametrize("entries", [SAVED, SAVED_OCI])
@pytest.mark.parametrize("digest", ["", ID])
def test_an_archive_is_loaded(tmp_path, entries, digest):
    client, path = Client(), archive(tmp_path, entries)
    result = engine_image(client, archive=path, digest=digest).ensure()
    assert client.calls == [("load", path)]
    assert (result["source"], result["digest"]) == ("archive", ID)


@pytest.mark.parametrize(
    ("name", "digest", "reason", "says"),
    [
        ("lmsysorg/sglang:v2", "", "not_found", "it has lmsysorg/sglang:v1"),
        ("lmsysorg/sglang:v1", ONE, "wrong_digest", f"has the id {ID}"),
    ],
)
def test_an_archive_of_something_else_is_not_loaded(tmp_path, name, digest, reason, says):
    with pytest.raises(PullError, match=says) as caught:
        check_archive(archive(tmp_path, SAVED), name, digest)
    assert caught.value.reason == reason


def test_a_compressed_archive_is_looked_at_by_the_engine_alone(tmp_path):
    check_archive(archive(tmp_path, [], "w:gz"), NAME)


@pytest.mark.parametrize("digests", [[ONE], [ONE, TWO]])
def test_only_digest(tmp_path, digests):
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{"digest": digest} for digest in digests]}))
    if len(digests) == 1:
        assert only_digest(str(tmp_path)) == ONE
    else:
        with pytest.raises(PullError, match="has 2 images"):
            only_digest(str(tmp_path))
