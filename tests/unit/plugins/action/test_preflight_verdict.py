"""The verdict: all problems of all hosts in one message, or the plan with its points and slots."""

from __future__ import annotations

import json

import pytest

from ansible_collections.preheat.fleet.plugins.action import preflight_verdict
from ansible_collections.preheat.fleet.plugins.plugin_utils.problems import problem
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_plan import check_types, role_options

DISK = problem("model_cache_dir", "/cache", "has too little space.", "Free 1 GB.")


def gpus(count, name="H100"):
    return [{"index": index, "uuid": f"GPU-{index}", "name": name} for index in range(count)]


def report(*problems, found=()):
    return {"problems": list(problems), "facts": {"gpus": list(found)}}


def plan(most=1, search=None, **server):
    coerced, found = check_types(
        {"sweep_search": role_options("sweep")["sweep_search"]}, {"sweep_search": search or {"baseline": False}}
    )
    assert not found
    return {
        "name": "s",
        "image": "engine:1",
        "search": coerced["sweep_search"],
        "server": {"base": {}, "space": {"a": [1, 2]}, **server},
        "gpus_most": most,
        "sweep_dir": "/nonexistent/s",
        "model": {"repo_id": "a/b"},
        "workloads": [{"name": "chat", "input_tokens": 8, "output_tokens": 8}],
        "workload_points": [{"name": "chat"}],
    }


@pytest.fixture
def judge(make_action):
    """The verdict on what hosts reported (``{host: gpu_host_preflight_result or None}``)."""

    def run(reports, forks=50, flags=None, **args):
        hostvars = {host: {"gpu_host_preflight_result": said} if said else {} for host, said in reports.items()}
        for host, answer in (flags or {}).items():
            hostvars[host]["_sglang_server_flags"] = answer
        action = make_action(preflight_verdict.ActionModule, hosts=list(reports), **args)
        return action.run(task_vars={"hostvars": hostvars, "ansible_forks": forks})

    return run


def test_no_problems_without_a_sweep(judge):
    assert judge({"gpu1": report(), "gpu2": report()}) == {"changed": False, "plan": {}}


def test_points_and_slots(judge):
    verdict = judge({"gpu1": report(found=gpus(2)), "gpu2": report(found=gpus(1))}, plan=plan())["plan"]
    assert [slot["name"] for slot in verdict["slots"]] == ["gpu1/0", "gpu1/1", "gpu2/0"]
    assert [gpu["index"] for gpu in verdict["slots"][1]["members"][0]["gpus"]] == [1]
    assert (verdict["launches"], len(verdict["feasible"]), verdict["infeasible"]) == (2, 2, [])


def test_what_the_sweep_will_cost_is_said(judge, capsys):
    wanted = plan(where=["a < 2"])
    forecast = judge({"gpu1": report(found=gpus(1))}, plan=wanted)["forecast"]
    assert (forecast["launches"], forecast["infeasible"]) == (1, {"where: a < 2": 1})
    assert "sweep s: 2 points known, 1 launches" in capsys.readouterr().out


def test_a_broken_gpu_is_in_no_slot(judge):
    broken = {"index": 0, "uuid": "GPU-0", "name": "H100", "error": "is lost"}
    verdict = judge({"gpu1": report(found=[broken, gpus(2)[1]])}, plan=plan())["plan"]
    assert [slot["members"][0]["gpus"] for slot in verdict["slots"]] == [[gpus(2)[1]]]


def test_notices_are_said_and_stop_nothing(judge, capsys):
    busy = problem("sweep_server", 0, "GPU 0 is in use.", "Stop it.")
    said = {"problems": [], "notices": [busy], "facts": {"gpus": gpus(1)}}
    assert not judge({"gpu1": said, "gpu2": said}, plan=plan()).get("failed")
    assert "good to know: [gpu1, gpu2] sweep_server = 0: GPU 0 is in use. Stop it." in capsys.readouterr().out


@pytest.fixture(autouse=True)
def no_image_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


ACCEPTED = [
    {"names": ["model-path"], "least": 1, "most": 1, "choices": None},
    {"names": ["quantization"], "least": 1, "most": 1, "choices": ["awq", "fp8"]},
]


def test_parameters_that_the_image_does_not_accept_are_problems(judge):
    wanted = plan(base={"quantisation": "fp8"}, space={"quantization": [None, "fp9"]})
    answer = {"flags": ACCEPTED}
    said = judge({"gpu1": report(found=gpus(1)), "gpu2": report(found=gpus(1))}, plan=wanted,
                 flags={"gpu1": answer, "gpu2": answer})["msg"]  # fmt: skip
    assert "2 problems found; nothing was downloaded or launched." in said
    assert "[gpu1, gpu2] sweep_server.base.quantisation = 'fp8'" in said
    assert "Nearest: quantization" in said
    assert "sweep_server.space.quantization = 'fp9'" in said
    assert "Did you mean 'fp8'? Choices: awq, fp8." in said


def test_a_verdict_on_an_image_that_was_brought_does_not_say_that_nothing_was(judge):
    wanted = plan(base={"quantisation": "fp8"})
    said = judge({"gpu1": report(found=gpus(1))}, plan=wanted, flags={"gpu1": {"flags": ACCEPTED}}, image_brought=True)
    assert said["msg"].startswith("2 problems found; no model was downloaded, nothing was launched.")


def test_what_an_image_does_not_accept_of_a_preset_is_left_out_and_said(judge, capsys):
    presets = {"fp8": {"quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"}}
    wanted = plan(base={"preset": "fp8"}, space={}, presets=presets)
    verdict = judge({"gpu1": report(found=gpus(1))}, plan=wanted, flags={"gpu1": {"flags": ACCEPTED}})
    assert verdict["plan"]["feasible"][0]["server_parameters"] == {"quantization": "fp8"}
    assert verdict["plan"]["server"]["presets"] == {"fp8": {"quantization": "fp8"}}
    assert verdict["unasked"] == []
    said = capsys.readouterr().out
    assert "[gpu1] sweep_server.presets.fp8.kv_cache_dtype = 'fp8_e4m3'" in said
    assert "preset fp8: quantization = fp8" in said


def test_an_image_that_was_not_asked_or_cannot_say_stops_nothing(judge, capsys):
    reports = {host: report(found=gpus(1)) for host in ("gpu1", "gpu2")}
    verdict = judge(reports, plan=plan())
    assert verdict["unasked"] == ["gpu1", "gpu2"]
    assert (
        "[gpu1, gpu2] sweep_image = 'engine:1': The flags that it accepts are checked when" in capsys.readouterr().out
    )
    verdict = judge(reports, plan=plan(), flags={"gpu2": {"flags": [], "reason": "no help"}})
    assert verdict["unasked"] == []
    said = capsys.readouterr().out
    assert "[gpu1, gpu2] sweep_image = 'engine:1': The flags that it accepts are not known" in said
    assert "no help." in said


def test_flags_are_not_checked_where_that_is_not_wanted(judge, capsys):
    wanted = plan(base={"quantisation": "fp8"}) | {"check_flags": False}
    verdict = judge({"gpu1": report(found=gpus(1))}, plan=wanted, flags={"gpu1": {"flags": ACCEPTED}})
    assert (verdict["unasked"], len(verdict["plan"]["feasible"])) == ([], 2)
    assert "sweep_image" not in capsys.readouterr().out


def test_slots_of_near_gpus(judge):
    """GPUs 0 and 2 share an NVLink bridge, as do 1 and 3."""
    links = {str(a): {str(b): "NV12" if (a - b) % 2 == 0 else "SYS" for b in range(4) if a != b} for a in range(4)}
    said = report(found=gpus(4))
    said["facts"]["gpu_topology"] = {"links": links, "numa": {}, "cpus": {}}

    def held(**args):
        verdict = judge({"gpu1": said}, plan=plan(most=2, base={"tp_size": 2}), **args)["plan"]
        return [[gpu["index"] for gpu in slot["members"][0]["gpus"]] for slot in verdict["slots"]]

    assert held() == [[0, 2], [1, 3]]
    assert held(exclusive_host=True) == [[0, 2]]


def test_points_that_leave_gpus_of_their_slot_idle_are_good_to_know(judge, capsys):
    wanted = plan(most=2, space={"tp_size": [1, 2]})
    shared = judge({"gpu1": report(found=gpus(4))}, plan=wanted)["plan"]["slots"]
    assert [slot["set"] for slot in shared] == ["gpu1/0", "gpu1/0", "gpu1/1", "gpu1/1"]
    assert "idle" not in capsys.readouterr().out
    alone = judge({"gpu1": report(found=gpus(4))}, plan=wanted, exclusive_host=True)["plan"]["slots"]
    assert [slot["name"] for slot in alone] == ["gpu1/0"]
    assert "Points that need 1 GPU(s) leave 1 of the 2 of their slot idle." in capsys.readouterr().out


def test_unequal_gpus_only_when_allowed(judge, capsys):
    reports = {"gpu1": report(found=gpus(1)), "gpu2": report(found=gpus(1, "H200"))}
    refused = judge(reports, plan=plan())
    assert "have unequal GPUs (H100: gpu1; H200: gpu2)" in refused["msg"]
    assert "sweep_allow_unequal_gpus: true" in refused["msg"]
    allowed = judge(reports, plan=plan(), allow_unequal_gpus=True)["plan"]
    assert len(allowed["slots"]) == 2
    assert allowed["unequal_gpus"] == "have unequal GPUs (H100: gpu1; H200: gpu2)."
    assert "The hosts have unequal GPUs" in capsys.readouterr().out
    assert judge({"gpu1": reports["gpu1"]}, plan=plan(), allow_unequal_gpus=True)["plan"]["unequal_gpus"] is None


def test_slots_on_cpus(judge):
    wanted = plan(most=0, base={"device": "cpu"})
    verdict = judge({"gpu1": report(found=gpus(8))}, plan=wanted, cpu_slots_per_host=2)["plan"]
    assert [slot["members"][0] for slot in verdict["slots"]] == [{"host": "gpu1", "gpus": []}] * 2


def test_points_that_no_slot_holds_are_infeasible(judge):
    wanted = plan(most=4, space={"tp_size": [1, 4]})
    verdict = judge({"gpu1": report(found=gpus(2))}, plan=wanted)["plan"]
    assert [point["params"] for point in verdict["feasible"]] == [{"tp_size": 1}]
    assert [point["reason"] for point in verdict["infeasible"]] == ["needs 4 GPUs, a slot has 2"]
    assert (verdict["launches"], verdict["slot_gpus"]) == (1, 2)


def test_an_adaptive_sampler_has_only_the_points_that_it_is_given(judge):
    search = {"sampler": "tpe", "trials": 9, "enqueue": [{"a": 2}]}
    verdict = judge({"gpu1": report(found=gpus(1))}, plan=plan(search=search))["plan"]
    assert [(point["kind"], point["params"]) for point in verdict["feasible"]] == [
        ("baseline", {}),
        ("enqueued", {"a": 2}),
    ]
    assert (verdict["launches"], verdict["points"]) == (9, 0)


def test_a_random_search_is_drawn_beforehand(judge):
    search = {"sampler": "random", "trials": 6}
    wanted = plan(search=search, space={"a": {"low": 0.1, "high": 0.9}, "tp_size": [1, 2]})
    verdict = judge({"gpu1": report(found=gpus(1))}, plan=wanted)["plan"]
    assert verdict["launches"] == len(verdict["feasible"]) == 6
    assert verdict["infeasible"]
    assert verdict["points"] == 6 + len(verdict["infeasible"])
    assert judge({"gpu1": report(found=gpus(1))}, plan=wanted)["plan"]["feasible"] == verdict["feasible"]


def test_points_that_cannot_fit_are_infeasible_with_the_arithmetic(judge):
    shape = {"weight_scale": 1.0, "quantised": False, "kv_values_per_token": 0, "kv_heads": 1, "kv_bytes": 2}
    known = {
        "files": [{"path": "model.safetensors", "size": 141 * 10**9}],
        "model_shape": shape,
        "workloads": [{"name": "chat", "input_tokens": 1, "output_tokens": 1}],
    }
    found = [{**gpu, "memory_total_bytes": 80 * 10**9} for gpu in gpus(2)]
    verdict = judge({"gpu1": report(found=found)}, plan=plan(most=2, space={"tp_size": [1, 2]}) | known)["plan"]
    assert [point["params"] for point in verdict["feasible"]] == [{"tp_size": 2}]
    assert "weights 141.00 GB / (tp 1 x pp 1) = 141.00 GB" in verdict["infeasible"][0]["reason"]


def test_other_gpus_than_those_of_the_trials_that_are_there_are_refused(judge, tmp_path):
    slot = {"name": "gpu1/0", "members": [{"host": "gpu1", "gpus": gpus(1, "A100")}]}
    (tmp_path / "sweep.json").write_text(json.dumps({"slots": [slot]}))
    verdict = judge({"gpu1": report(found=gpus(1))}, plan=plan() | {"sweep_dir": str(tmp_path)})
    assert "A100: gpu1 of the earlier run; H100: gpu1" in verdict["msg"]


def test_equal_problems_of_hosts_are_said_once(judge):
    own = problem("gpu_host_venv", "/x", "is damaged.", "Remove it.")
    verdict = judge({"gpu1": report(DISK), "gpu2": report(DISK, own), "gpu3": report()})
    assert verdict["failed"]
    assert verdict["msg"].splitlines() == [
        "2 problems found; nothing was downloaded or launched.",
        "  [gpu1, gpu2] model_cache_dir = '/cache': has too little space. Free 1 GB.",
        "  [gpu2] gpu_host_venv = '/x': is damaged. Remove it.",
    ]


def test_problems_of_the_plan_stand_with_those_of_the_hosts(judge):
    planned = problem("sweep_name", "a/b", "cannot be a folder's name.", "Use letters.")
    message = judge({"gpu1": report(DISK)}, problems=[planned])["msg"]
    assert "[controller] sweep_name = 'a/b'" in message
    assert "[gpu1] model_cache_dir" in message


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"unreachable": True, "msg": "No route to host"}, ["[gpu1] ansible_host", "is unreachable: No route to host"]),
        ({"failed": True, "msg": "no python"}, ["[gpu1] ansible_host", "could not be inspected: no python", "-v"]),
        (None, ["[gpu1] ansible_host", "could not be inspected: no answer"]),
    ],
)
def test_a_host_that_could_not_be_asked_is_a_problem(judge, reported, expected):
    verdict = judge({"gpu1": reported, "gpu2": report(DISK)}, plan=plan())
    assert verdict["failed"]
    for text in [*expected, "[gpu2] model_cache_dir"]:
        assert text in verdict["msg"]


@pytest.mark.parametrize(
    ("found", "wanted", "args", "expected"),
    [
        (gpus(1), plan(where=["a > 2"]), {}, ["sweep_server", "leaves no point to launch: where: a > 2"]),
        (gpus(1), plan(most=2, base={"tp_size": 2}), {}, ["leaves no point", "needs 2 GPUs, a slot has 1"]),
        (gpus(2), plan(), {"slot_gpus": 4}, ["sweep_slot_gpus = 4", "Lower sweep_slot_gpus"]),
        ([*gpus(1), *gpus(1, "A100")], plan(), {}, ["have unequal GPUs (A100: gpu1; H100: gpu1)"]),
    ],
)
def test_a_plan_that_these_hosts_cannot_run(judge, found, wanted, args, expected):
    verdict = judge({"gpu1": report(found=found)}, plan=wanted, **args)
    assert verdict["failed"]
    for text in expected:
        assert text in verdict["msg"], verdict["msg"]


@pytest.mark.parametrize(("forks", "failed"), [(1, True), (2, False), (50, False)])
def test_every_slot_needs_a_fork(judge, forks, failed):
    verdict = judge({"gpu1": report(found=gpus(2))}, plan=plan(), forks=forks)
    assert verdict.get("failed", False) is failed
    if failed:
        assert "forks = 1: are too few for 2 slots. Run with --forks 2" in verdict["msg"]
