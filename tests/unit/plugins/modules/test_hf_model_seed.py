"""hf_model with a seed: a folder or a tarball on the host, with and without a Hub."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import huggingface_hub
import pytest
from lab_hub import serving
from lab_hub.serving import FILES, REPO, SIZE, hf_model_params

from ansible_collections.preheat.fleet.plugins.module_utils import hf_errors
from ansible_collections.preheat.fleet.plugins.module_utils.hf_errors import HubError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_fetch import STALL_SECONDS
from ansible_collections.preheat.fleet.plugins.modules import hf_model

hub = pytest.fixture(serving.serve)
SHARD = "model-00001-of-00002.safetensors"
FOLDER = "models--acme--tiny"
DOWN = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(hf_errors, "DELAY_SECONDS", (0.0, 0.0))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def present(endpoint, cache, check_mode=False, **given) -> dict:
    params = hf_model_params(endpoint, cache, **{"stall_seconds": STALL_SECONDS, **given})
    return hf_model.present(params, check_mode)


def contents(result) -> dict[str, bytes]:
    root = Path(result["snapshot_path"])
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# kinds of seeds, each made of a complete cache


def hub_cache(hub, tmp_path) -> Path:
    folder = tmp_path / "other" / "hub"
    huggingface_hub.snapshot_download(REPO, cache_dir=folder, endpoint=hub.endpoint)
    if huggingface_hub.__version__.startswith("1."):  # the newest for Python 3.9 keeps no listing of a commit
        present(hub.endpoint, folder)
    return folder


def home(hub, tmp_path) -> Path:
    return hub_cache(hub, tmp_path).parent


def repo_folder(hub, tmp_path) -> Path:
    return hub_cache(hub, tmp_path) / FOLDER


def snapshot_folder(hub, tmp_path) -> Path:
    return next((repo_folder(hub, tmp_path) / "snapshots").iterdir())


def local_dir(hub, tmp_path) -> Path:
    huggingface_hub.snapshot_download(REPO, local_dir=tmp_path / "local", endpoint=hub.endpoint)
    return tmp_path / "local"


def plain(hub, tmp_path) -> Path:
    shutil.copytree(hub.root / REPO, tmp_path / "plain")
    return tmp_path / "plain"


def by_names(hub, tmp_path) -> Path:
    shutil.copytree(hub.root, tmp_path / "models")
    return tmp_path / "models"


def packed(path: Path, mode="w", inside=None) -> Path:
    target = path.with_name(path.name + ".tar")
    with tarfile.open(target, mode) as archive:
        archive.add(path, inside or path.name)
    return target


def tar_of_cache(hub, tmp_path) -> Path:
    return packed(hub_cache(hub, tmp_path))


def tar_of_repo(hub, tmp_path) -> Path:
    return packed(repo_folder(hub, tmp_path))


def tar_of_content(hub, tmp_path) -> Path:
    return packed(plain(hub, tmp_path), inside=".")


def tar_compressed(hub, tmp_path) -> Path:
    return packed(hub_cache(hub, tmp_path), "w:gz")


def tar_of_tar(hub, tmp_path) -> Path:
    """As tar itself packs: with an absolute path, and hard links for files that have two names."""
    folder = hub_cache(hub, tmp_path)
    for file in (folder / FOLDER / "blobs").iterdir():
        os.link(file, folder / FOLDER / "blobs" / ("a" + file.name))
    subprocess.run(["tar", "-cPf", tmp_path / "x.tar", folder], check=True)
    return tmp_path / "x.tar"


ALL = [hub_cache, home, repo_folder, snapshot_folder, local_dir, plain, by_names]
TARS = [tar_of_cache, tar_of_repo, tar_of_content, tar_compressed, tar_of_tar]
# What says of itself which commit it is, and what its hashes should be.
TELLING = [hub_cache, home, repo_folder, local_dir, tar_of_cache, tar_of_repo, tar_compressed, tar_of_tar]


@pytest.mark.parametrize("kind", [*ALL, *TARS])
def test_the_hub_is_not_read(hub, cache, tmp_path, kind):
    seed = kind(hub, tmp_path)
    hub.control.reset()
    predicted = present(hub.endpoint, cache, check_mode=True, seed=str(seed))
    assert not cache.exists()
    result = present(hub.endpoint, cache, seed=str(seed))
    assert contents(result) == FILES
    assert not [target for target in hub.targets() if "/resolve/" in target or "/cdn/" in target]
    assert (result["bytes_from_seed"], result["bytes_fetched"], result["source"]) == (SIZE, 0, "seed")
    assert (result["verified"], result["checked_against"]) == ("hash", "hub")
    assert (predicted["changed"], predicted["bytes_in_seed"], predicted["source"]) == (True, SIZE, "cache")
    assert not list(cache.rglob("*.incomplete"))
    assert not result["warnings"]
    # An ordinary cache from now on, which needs the seed no more.
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    assert not present(hub.endpoint, cache, seed=str(tmp_path / "gone"), verify="full")["changed"]
    assert huggingface_hub.snapshot_download(REPO, cache_dir=cache, local_files_only=True) == result["snapshot_path"]
    verified = subprocess.run(
        [Path(sys.executable).parent / "hf", "cache", "verify", REPO, "--cache-dir", cache],
        env={**os.environ, "HF_ENDPOINT": hub.endpoint}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified


@pytest.mark.parametrize("kind", TELLING)
def test_without_a_hub(hub, cache, tmp_path, kind):
    seed = kind(hub, tmp_path)
    commit = hub.repos.tree(REPO, "main").commit
    result = present(DOWN, cache, seed=str(seed))
    assert contents(result) == FILES
    assert (result["commit"], result["checked_against"], result["verified"]) == (commit, "seed", "hash")
    assert "brings along" in " ".join(result["warnings"])
    assert (cache / FOLDER / "refs" / "main").read_text() == commit
    again = present(DOWN, cache, seed=str(seed), revision=commit)
    assert (again["changed"], again["checked_against"], again["warnings"]) == (False, "seed", [])
    assert not present(DOWN, cache, seed=str(seed))["changed"]


def test_the_hub_has_the_last_word_when_it_can_be_asked(hub, cache, tmp_path):
    seed = str(hub_cache(hub, tmp_path))
    commit = present(DOWN, cache, seed=seed)["commit"]
    result = present(hub.endpoint, cache, revision=commit, verify="full")
    assert (result["changed"], result["checked_against"]) == (False, "hub")
    assert present(DOWN, cache, revision=commit)["checked_against"] == "hub"


@pytest.mark.parametrize("kind", [plain, by_names, tar_of_content, snapshot_folder])
def test_without_a_hub_a_folder_does_not_know_its_commit(hub, cache, tmp_path, kind):
    seed = str(kind(hub, tmp_path))
    with pytest.raises(HubError, match="Give the commit") as caught:
        present(DOWN, cache, seed=seed)
    assert caught.value.reason == "hub_unreachable"
    commit = hub.repos.tree(REPO, "main").commit
    result = present(DOWN, cache, seed=seed, revision=commit)
    assert contents(result) == FILES
    assert result["checked_against"] == "none"
    assert "taken for right" in result["warnings"][0]
    # The same files have the same names as the Hub gives them.
    assert not present(hub.endpoint, cache, revision=commit, verify="full")["changed"]


def test_a_seed_that_has_all_records_the_branch(hub, cache, tmp_path):
    result = present(DOWN, cache, seed=str(hub_cache(hub, tmp_path)), state="seeded")
    assert (cache / FOLDER / "refs" / "main").read_text() == result["commit"]


def test_a_cache_without_its_listing(hub, cache, tmp_path):
    """As huggingface_hub 1.x leaves it: the names of the blobs are hashes."""
    seed = hub_cache(hub, tmp_path)
    shutil.rmtree(seed / FOLDER / "trees")
    result = present(DOWN, cache, seed=str(seed))
    assert (contents(result), result["checked_against"]) == (FILES, "seed")
    listed = {file["path"]: file.get("sha256") or file["git_sha1"] for file in result["files"]}
    assert listed == {path: file.etag for path, file in hub.repos.tree(REPO, "main").files.items()}


def test_what_the_seed_lacks_comes_from_the_hub(hub, cache, tmp_path):
    seed = plain(hub, tmp_path)
    (seed / SHARD).unlink()
    result = present(hub.endpoint, cache, seed=str(seed))
    assert contents(result) == FILES
    assert (result["source"], result["bytes_fetched"]) == ("hub+seed", len(FILES[SHARD]))


@pytest.mark.parametrize("endpoint", ["hub", "down"])
def test_only_what_the_seed_has(hub, cache, tmp_path, endpoint):
    """The rest is brought by others, and the branch is recorded by who completes the snapshot."""
    seed = hub_cache(hub, tmp_path)
    (next((seed / FOLDER / "snapshots").iterdir()) / SHARD).resolve().unlink()
    at = hub.endpoint if endpoint == "hub" else DOWN
    hub.control.reset()
    for changed in (True, False):
        predicted = present(at, cache, check_mode=True, seed=str(seed), state="seeded")
        result = present(at, cache, seed=str(seed), state="seeded")
        assert predicted["changed"] == result["changed"] == changed
        assert set(contents(result)) == set(FILES) - {SHARD}
    assert not (cache / FOLDER / "refs").exists()
    assert not [target for target in hub.targets() if "/resolve/" in target]
    assert present(hub.endpoint, cache)["bytes_fetched"] == len(FILES[SHARD])


@pytest.mark.parametrize("kind", [plain, hub_cache, tar_of_cache, tar_compressed])
def test_damage_in_the_seed(hub, cache, tmp_path, kind):
    """The right size, and one wrong byte."""
    if kind is plain:
        seed = damaged = plain(hub, tmp_path)
        shard = seed / SHARD
    else:
        damaged = hub_cache(hub, tmp_path)
        shard = (next((damaged / FOLDER / "snapshots").iterdir()) / SHARD).resolve()
    with shard.open("r+b") as file:
        file.write(b"\xff")
    modes = {tar_of_cache: "w", tar_compressed: "w:gz"}
    seed = packed(damaged, modes[kind]) if kind in modes else damaged
    result = present(hub.endpoint, cache, seed=str(seed))
    assert contents(result) == FILES
    assert SHARD in result["warnings"][0]
    assert result["bytes_fetched"] == len(FILES[SHARD])
    if kind is not plain:  # a bare folder has nothing that could tell
        with pytest.raises(HubError) as caught:
            present(DOWN, tmp_path / "second", seed=str(seed), revision=result["commit"])
        assert caught.value.reason == "hub_unreachable"


def test_missing_shards_do_not_pass_for_a_snapshot(hub, cache, tmp_path):
    hub.publish(
        {
            **FILES,
            "model.safetensors.index.json": b'{"weight_map": {"a": "%s", "b": "model-00002-of-00002.safetensors"}}'
            % SHARD.encode(),
        }
    )
    seed = plain(hub, tmp_path)
    (seed / SHARD).unlink()
    with pytest.raises(HubError, match=SHARD) as caught:
        present(DOWN, cache, seed=str(seed), revision="0" * 40)
    assert caught.value.reason == "bad_seed"


@pytest.mark.parametrize("kind", [hub_cache, tar_of_repo, plain])
def test_a_seed_of_another_model(hub, cache, tmp_path, kind):
    hub.publish({"config.json": b"other", "model.safetensors": b"w" * 1000}, repo="acme/other")
    result = present(hub.endpoint, cache, seed=str(kind(hub, tmp_path)), repo_id="acme/other")
    assert result["source"] == "hub"
    assert contents(result)["config.json"] == b"other"


@pytest.mark.parametrize(
    "content", [None, b"no tarball", gzip.compress(b"no tarball", mtime=0)], ids=["absent", "text", "gzip"]
)
def test_no_seed_at_all(hub, cache, tmp_path, content):
    if content is not None:
        (tmp_path / "seed").write_bytes(content)
    with pytest.raises(HubError, match="model_cache_seed") as caught:
        present(hub.endpoint, cache, seed=str(tmp_path / "seed"))
    assert caught.value.reason == "bad_seed"
    assert not list(cache.rglob("refs/*"))


# how bytes get in


def test_large_files_are_linked_and_small_ones_copied(hub, cache, tmp_path):
    hub.publish({"config.json": b"{}", "model.safetensors": os.urandom(2 << 20)})
    seed = plain(hub, tmp_path)
    result = present(hub.endpoint, cache, seed=str(seed), min_free_bytes=0)
    root = Path(result["snapshot_path"])
    shares = {
        path: (root / path).stat().st_ino == (seed / path).stat().st_ino
        for path in ("config.json", "model.safetensors")
    }
    assert shares["config.json"] is False
    # Where blocks can be shared they are, which leaves two files.
    assert shares["model.safetensors"] or subprocess.run(
        ["stat", "-f", "-c", "%T", cache], capture_output=True, text=True, check=True
    ).stdout.strip() in ("btrfs", "xfs")
    (seed / "config.json").write_bytes(b"edited")
    assert contents(result)["config.json"] == b"{}"


def test_what_is_linked_needs_no_space(hub, cache, tmp_path, monkeypatch):
    from ansible_collections.preheat.fleet.plugins.module_utils import hf_snapshot

    hub.publish({"config.json": b"{}", "model.safetensors": os.urandom(2 << 20)})
    monkeypatch.setattr(hf_snapshot, "free_bytes", lambda path: 1000)
    assert present(hub.endpoint, cache, seed=str(plain(hub, tmp_path)))["changed"]
    with pytest.raises(HubError, match="must stay free"):
        present(hub.endpoint, tmp_path / "second", seed=str(packed(tmp_path / "plain")))


# who made the seed need not be trusted with more than its bytes


def test_links_lead_nowhere_else(hub, cache, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 100)
    seed = plain(hub, tmp_path)
    (seed / "README.md").unlink()
    (seed / "README.md").symlink_to(secret)
    result = present(DOWN, cache, seed=str(seed), revision="0" * 40)
    assert set(contents(result)) == set(FILES) - {"README.md"}


def member(name: str, data: bytes = b"", kind=tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, io.BytesIO(data)


def test_a_tarball_writes_nowhere_else(hub, cache, tmp_path):
    outside = tmp_path / "outside"
    members = [
        member("../outside", b"x"),
        member(str(outside), b"x"),
        member("./a/../../../outside", b"x"),
        member("config.json", b"{}"),
        member("model.safetensors", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member("up.safetensors", kind=tarfile.SYMTYPE, link="../../../../../../etc/passwd"),
        member("hard.safetensors", kind=tarfile.LNKTYPE, link="/etc/passwd"),
        member("loop.json", kind=tarfile.SYMTYPE, link="loop.json"),
        member("tty.json", kind=tarfile.CHRTYPE),
        member("pipe.json", kind=tarfile.FIFOTYPE),
        member("weights.safetensors", b"w" * 10),
    ]
    with tarfile.open(tmp_path / "seed.tar", "w") as archive:
        for info, data in members:
            archive.addfile(info, data)
    before = set(tmp_path.iterdir())
    result = present(DOWN, cache, seed=str(tmp_path / "seed.tar"), revision="0" * 40)
    assert contents(result) == {"config.json": b"{}", "weights.safetensors": b"w" * 10}
    assert set(tmp_path.iterdir()) - before == {cache}


@pytest.mark.parametrize("bad", ["../../outside", "/outside", "a/../../b"])
@pytest.mark.parametrize("what", ["path", "etag"])
def test_a_listing_leads_nowhere_else(hub, cache, tmp_path, bad, what):
    seed = hub_cache(hub, tmp_path)
    listing = next((seed / FOLDER / "trees").iterdir())
    digest = hashlib.sha256(FILES[SHARD]).hexdigest()
    listing.write_text(listing.read_text().replace(*(("config.json", bad) if what == "path" else (digest, bad))))
    with pytest.raises(HubError) as caught:
        present(DOWN, cache, seed=str(seed))
    assert caught.value.reason == "bad_seed"
