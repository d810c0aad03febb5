from __future__ import annotations

import json

import pytest
from core_compat import patch_module_args

from ansible_collections.preheat.fleet.plugins.modules import gpu_info

NOTHING = {"vendor": "none", "driver_version": None, "cuda_version": None, "gpus": [], "topology": {}, "error": None}


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(("arguments", "limit"), [({}, 30.0), ({"timeout_seconds": 2}, 2.0)])
def test_the_inventory_is_the_result_and_nothing_changes(monkeypatch, capsys, arguments, limit, check_mode):
    limits = []
    monkeypatch.setattr(gpu_info, "inventory", lambda seconds: limits.append(seconds) or NOTHING)
    with patch_module_args({**arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit) as left:
        gpu_info.main()
    assert left.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert {key: result[key] for key in NOTHING} == NOTHING
    assert result["changed"] is False
    assert limits == [limit]
