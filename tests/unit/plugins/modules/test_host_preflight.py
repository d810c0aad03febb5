from __future__ import annotations

import json

import pytest
from core_compat import patch_module_args

from ansible_collections.preheat.fleet.plugins.modules import host_preflight


def run(capsys, **arguments):
    with patch_module_args(arguments), pytest.raises(SystemExit) as left:
        host_preflight.main()
    return left.value.code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_bad_host_is_a_successful_answer(capsys, tmp_path, check_mode):
    code, result = run(
        capsys,
        docker_host=f"unix://{tmp_path}/docker.sock",
        cache_dir=str(tmp_path / "hub"),
        disk_needed_bytes=10**18,
        controller_time=1.0,
        variable_names={"cache_dir": "model_cache_dir", "docker_host": "gpu_host_docker_host"},
        _ansible_check_mode=check_mode,
    )
    assert code == 0
    assert result["changed"] is False
    assert [problem["variable"] for problem in result["problems"]] == [
        "clock",
        "gpu_host_docker_host",
        "model_cache_dir",
    ]
    assert result["facts"]["missing_bytes"] == 10**18
    assert not (tmp_path / "hub").exists()


def test_nothing_asked_for_nothing_found(capsys):
    code, result = run(capsys, docker_host="")
    assert code == 0
    assert result["problems"] == []
    assert result["facts"]["disks"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": [{"pull": "never"}]}, "name"),
        ({"images": [{"name": "a", "pull": "sometimes"}]}, "pull"),
        ({"blobs": [{"etag": "a"}]}, "size"),
        ({"gpu_access": "magic"}, "gpu_access"),
        ({"disk": 1}, "Unsupported parameters"),
    ],
)
def test_wrong_arguments_are_refused(capsys, arguments, message):
    code, result = run(capsys, docker_host="", **arguments)
    assert code == 1
    assert message in result["msg"]
