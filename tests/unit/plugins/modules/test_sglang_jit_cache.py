from __future__ import annotations

import pytest
import yaml

from ansible_collections.preheat.fleet.plugins.doc_fragments.docker import ModuleDocFragment
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_jit_archive import ArchiveError
from ansible_collections.preheat.fleet.plugins.modules import sglang_jit_cache as module

KEY = "0123456789ab-cpu"


def params(tmp_path, **changes):
    defaults = {name: option.get("default") for name, option in module.argument_spec().items()}
    return {**defaults, "path": str(tmp_path), "key": KEY, "archive": str(tmp_path / "archive"), **changes}


def kernel(root, key=KEY):
    path = root / key / "triton" / "kernel.cubin"
    path.parent.mkdir(parents=True)
    path.write_text("compiled")


def test_documentation_and_arguments_agree():
    documented = {
        **yaml.safe_load(module.DOCUMENTATION)["options"],
        **yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"],
    }
    assert set(documented) == set(module.argument_spec())
    for name, option in module.argument_spec().items():
        for key in ("type", "default", "choices"):
            assert documented[name].get(key) == option.get(key), name


def test_query(tmp_path, monkeypatch):
    kernel(tmp_path)
    kernel(tmp_path, "triton")  # the layout of old
    (tmp_path / "0123456789ab-empty").mkdir()
    monkeypatch.setattr(module.sglang_jit_cache, "kinds_of_host", lambda: ["cpu", "nvidia-l4-sm89"])
    found = module.query(params(tmp_path), ["sha256:0123456789abcdef"])
    assert found["folders"] == [{"key": KEY, "files": 1, "bytes": 8}]
    assert found["usable"] == [KEY, "0123456789ab-nvidia-l4-sm89"]
    assert module.query(params(tmp_path / "nowhere"), [])["folders"] == []


def test_pack_and_unpack(tmp_path):
    kernel(tmp_path)
    packed = module.move(params(tmp_path, state="packed", settle_seconds=0), False)
    assert (packed["changed"], packed["files"]) == (True, 1)
    args = params(tmp_path / "other", state="unpacked", archive=str(tmp_path / "archive"), sha256=packed["sha256"])
    assert module.move(args, True)["changed"]
    assert not (tmp_path / "other").exists()
    assert module.move(args, False)["changed"]
    assert not module.move(args, False)["changed"]


def test_check_mode_packs_nothing(tmp_path):
    kernel(tmp_path)
    assert module.move(params(tmp_path, state="packed"), True) == {"changed": True}
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("key", ["", "triton", "../0123456789ab-cpu", "0123456789ab-a/b"])
def test_a_key_that_is_none(tmp_path, key):
    with pytest.raises(ArchiveError, match="give the name of a folder"):
        module.move(params(tmp_path, state="packed", key=key), False)
