from __future__ import annotations

import pytest
import yaml

from ansible_collections.preheat.fleet.plugins.modules import page_cache

PARAMS = {"path": "", "budget_bytes": 1 << 30, "readers": 2}


def test_documentation_and_arguments_agree():
    documented = yaml.safe_load(page_cache.DOCUMENTATION)["options"]
    assert set(documented) == set(page_cache.argument_spec())
    for name, option in page_cache.argument_spec().items():
        assert documented[name].get("default") == option.get("default"), name


@pytest.mark.parametrize(
    ("changes", "names"), [({}, None), ({"readers": 0}, "readers is 0"), ({"budget_bytes": -1}, "budget_bytes is -1")]
)
def test_arguments(changes, names):
    problem = page_cache.check({**PARAMS, **changes})
    assert problem is None if names is None else names in problem


def test_a_model_is_read_once(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(5000))
    warnings = []
    result = page_cache.preload({**PARAMS, "path": str(tmp_path)}, False, warnings.append)
    assert (result["files"], result["bytes_total"], result["bytes_left"]) == (1, 5000, 0)
    assert result["resident_fraction_after"] == 1.0
    again = page_cache.preload({**PARAMS, "path": str(tmp_path)}, False, warnings.append)
    assert (again["changed"], again["bytes_read"], again["seconds"]) == (False, 0, 0.0)
    assert not warnings


def test_what_the_budget_leaves_is_said(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(5000))
    warnings = []
    page_cache.preload({**PARAMS, "path": str(tmp_path), "budget_bytes": 1}, True, warnings.append)
    # Just written, so it is resident already: nothing is left out.
    assert not warnings


@pytest.mark.parametrize(("make", "says"), [(False, "is no directory"), (True, "holds no weights")])
def test_nothing_to_read(tmp_path, make, says):
    path = tmp_path / "model"
    if make:
        path.mkdir()
    with pytest.raises(ValueError, match=says):
        page_cache.preload({**PARAMS, "path": str(path)}, False, print)
    assert page_cache.preload({**PARAMS, "path": str(path)}, True, print)["changed"]
