"""Whatever is wrong is listed at once, before any download or launch."""

from __future__ import annotations

import pytest
import yaml
from lab_fleet import HOSTS, ROOT

LAB_SWEEP = yaml.safe_load((ROOT / "tests/lab/sweep.yml").read_text())


@pytest.fixture
def run(fleet, hub, tmp_path):
    def go(inventory_vars=None, more_hosts=None, **changed):
        sweep = tmp_path / "sweep.yml"
        sweep.write_text(yaml.safe_dump({**LAB_SWEEP, "sweep_results_dir": str(tmp_path), **changed}))
        extra = tmp_path / "extra.yml"
        hosts = dict.fromkeys(HOSTS) | (more_hosts or {})
        hosts = {name: {**(given or {}), **(inventory_vars or {}).get(name, {})} for name, given in hosts.items()}
        extra.write_text(yaml.safe_dump({"gpu_hosts": {"hosts": hosts}}))
        hub.post("reset")
        before = {host: fleet.run(host, "docker ps -aq --no-trunc") for host in HOSTS}
        output = fleet.playbook("tune.yml", "-i", str(extra), "-e", f"@{sweep}", expect=2)
        assert {host: fleet.run(host, "docker ps -aq --no-trunc") for host in HOSTS} == before
        assert hub.stats()["sides"]["cdn"]["bytes"] == 0
        return output

    return go


def test_everything_wrong_is_in_one_message(run):
    output = run(
        sweep_server={"base": {"tp-size": 2}, "space": {"a": []}},
        sweep_objective={"metric": "otuput_tokens_per_second"},
        sweep_modle={"repo_id": "typo"},
        sweep_image="preheat-lab/no-such-image:1",
        inventory_vars={"gpu2": {"gpu_host_docker_host": "unix:///run/no-engine.sock"}},
        more_hosts={"gpu9": {"ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_user": "root"}},
    )
    message = output[output.index("problems found; nothing was downloaded or launched") :]
    for text in (
        "sweep_server.base.tp-size", "sweep_server.space.a", "sweep_objective.metric",
        "Did you mean 'output_tokens_per_second'?", "sweep_modle", "Did you mean 'sweep_model'?",
        "[gpu2] gpu_host_docker_host", "[gpu9] ansible_host", "is unreachable",
    ):  # fmt: skip
        assert text in message, text


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"sweep_image": "preheat-lab/no-such-image:1"}, ["[gpu1, gpu2] sweep_image", "no-such-image"]),
        ({"sweep_model": {"repo_id": "preheat-lab/no-such-model"}}, ["sweep_model", "no-such-model"]),
        ({"sweep_model": {"repo_id": "preheat-lab/tiny-llama", "revision": "nope"}}, ["sweep_model", "nope"]),
        ({"sweep_server": {"base": {"tp_size": 2}}}, ["GPU"]),
        (
            {"gpu_host_preflight_disk_margin_bytes": 10**18, "model_cache_dir": "/root/no-model-yet/hub"},
            ["gpu1", "gpu2", "model_cache_dir", "are free where", "larger disk"],
        ),
    ],
)
def test_each_kind_of_problem(run, changed, expected):
    output = run(**changed)
    for text in ["nothing was downloaded or launched", *expected]:
        assert text in output


def test_parameters_are_checked_against_the_help_of_the_image(run, tmp_path, monkeypatch):
    """Also on hosts that are new: they get preheat's Python first, and the verdict is given again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # the controller has never seen the image
    output = run(
        sweep_image="preheat-lab/light-engine:latest",
        sweep_server={
            "base": {"device": "cpu", "max_num_seqs": 4, "chunked_prefil_size": 512, "preset": "throughput"},
            "space": {"attention_backend": ["torch_native", "triton"], "schedule_policy": ["fcfs", "lmp"]},
        },
    )
    for text in (
        "2 problems found",
        "[gpu1, gpu2] sweep_server.base.chunked_prefil_size = 512: --chunked-prefil-size is no flag",
        "Nearest: chunked_prefill_size",
        "[gpu1, gpu2] sweep_server.space.schedule_policy = 'lmp'",
        "Did you mean 'lpm'? Choices:",
    ):
        assert text in output
    assert len(list((tmp_path / "cache/preheat/flags").iterdir())) == 1


def test_tune_without_a_sweep_says_what_to_give(fleet):
    output = fleet.playbook("tune.yml", expect=2)
    assert "sweep_name = None: is missing. Give a sweep file" in output
