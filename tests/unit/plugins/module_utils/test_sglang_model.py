from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(tmp_path):
    repo = tmp_path / "models--org--name"
    directory = repo / "snapshots" / COMMIT
    for folder in (directory, repo / "blobs", repo / "refs" / "feature"):
        folder.mkdir(parents=True)
    for name in ("config.json", "model-1.safetensors", "model-2.safetensors", "pytorch_model.bin"):
        (repo / "blobs" / name).write_text(name)
        (directory / name).symlink_to(f"../../blobs/{name}")
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "refs" / "feature" / "x").write_text(COMMIT + "\n")
    return directory


@pytest.mark.parametrize("revision", ["main", "feature/x", COMMIT])
def test_resolve_commit(tmp_path, snapshot, revision):
    assert sglang_model.resolve_commit(str(tmp_path), "org/name", revision) == COMMIT


@pytest.mark.parametrize(("repo_id", "revision"), [("org/name", "v2"), ("org/other", "main"), ("org/name", "feature")])
def test_unknown_revision(tmp_path, snapshot, repo_id, revision):
    with pytest.raises(sglang_model.ModelMissing, match=revision) as caught:
        sglang_model.resolve_commit(str(tmp_path), repo_id, revision)
    assert repo_id in str(caught.value)


def test_complete(snapshot):
    sglang_model.check_complete(str(snapshot))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda snapshot: (snapshot / "config.json").unlink(), "no config.json"),
        (lambda snapshot: (snapshot / "model-2.safetensors").resolve().unlink(), "model-2.safetensors"),
        (lambda snapshot: [file.unlink() for file in snapshot.iterdir() if file.name != "config.json"], "no weights"),
    ],
)
def test_incomplete(snapshot, break_it, says):
    break_it(snapshot)
    with pytest.raises(sglang_model.ModelMissing, match=says):
        sglang_model.check_complete(str(snapshot))


def test_no_such_snapshot(tmp_path):
    with pytest.raises(sglang_model.ModelMissing):
        sglang_model.check_complete(str(tmp_path / "nowhere"))


def test_weight_files_are_blobs_and_safetensors_come_first(snapshot):
    def names():
        return [path.rpartition("/blobs/")[2] for path in sglang_model.weight_files(str(snapshot))]

    (snapshot / "again.safetensors").symlink_to("../../blobs/model-1.safetensors")
    assert names() == ["model-1.safetensors", "model-2.safetensors"]
    for file in snapshot.glob("*.safetensors"):
        file.unlink()
    assert names() == ["pytorch_model.bin"]


def test_from_cache(tmp_path):
    model = sglang_model.from_cache(str(tmp_path), "/inside", "org/name", COMMIT)
    assert model.mount == (str(tmp_path), "/inside")
    assert model.directory == f"{tmp_path}/models--org--name/snapshots/{COMMIT}"
    assert model.container_path == f"/inside/models--org--name/snapshots/{COMMIT}"
    assert model.arguments == ["--model-path", "org/name", "--revision", COMMIT]
