"""The parts of the light engine that a test of preheat relies on: its figures, its files, its flags."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LIGHT_ENGINE = ROOT / "tests" / "lab" / "light_engine"
sys.path.insert(0, str(LIGHT_ENGINE))

from sglang import bench_serving, flags, performance, weights  # noqa: E402  # after the path is set

WORKLOAD = {"requests": 32, "input_tokens": 256, "output_tokens": 32, "request_rate": float("inf"), "seed": 1}


def measure(concurrency=8, **server):
    requests = performance.simulate(performance.Engine.from_flags(server), concurrency=concurrency, **WORKLOAD)
    return bench_serving.measure(requests, WORKLOAD["input_tokens"], WORKLOAD["output_tokens"])


def test_same_input_same_output():
    assert measure(chunked_prefill_size=2048) == measure(chunked_prefill_size=2048)


@pytest.mark.parametrize(
    ("better", "worse", "metric", "higher_is_better"),
    [
        ({"tp_size": 2}, {"tp_size": 1}, "output_throughput", True),
        ({"attention_backend": "fa3"}, {"attention_backend": "torch_native"}, "mean_tpot_ms", False),
        ({"chunked_prefill_size": 8192}, {"chunked_prefill_size": 512}, "mean_ttft_ms", False),
        ({"chunked_prefill_size": 512}, {"chunked_prefill_size": 8192}, "mean_tpot_ms", False),
        ({}, {"disable_overlap_schedule": True}, "output_throughput", True),
        ({"concurrency": 8}, {"concurrency": 1}, "output_throughput", True),
        ({"concurrency": 1}, {"concurrency": 8}, "mean_tpot_ms", False),
        ({}, {"max_running_requests": 2}, "mean_ttft_ms", False),
        ({}, {"max_total_tokens": 600}, "output_throughput", True),
    ],
)
def test_flags_move_the_figures_as_expected(better, worse, metric, higher_is_better):
    good, bad = measure(**better)[metric], measure(**worse)[metric]
    assert good > bad if higher_is_better else good < bad


def test_concurrency_is_kept():
    assert measure(concurrency=4)["concurrency"] == pytest.approx(4, rel=0.1)


def test_request_rate_spaces_the_requests():
    workload = {**WORKLOAD, "request_rate": 10.0}
    requests = performance.simulate(performance.Engine.from_flags({}), concurrency=None, **workload)
    assert [request.start for request in requests][:3] == [0.0, 0.1, 0.2]


def test_result_has_the_keys_of_the_genuine_one():
    genuine = json.loads((ROOT / "tests/unit/data/bench-serving/0.5.15.jsonl").read_text(encoding="utf-8"))
    asked = {"tag", "backend", "dataset_name", "request_rate", "max_concurrency", "sharegpt_output_len"}
    asked |= {"random_input_len", "random_output_len", "random_range_ratio", "server_info"}
    assert list(measure()) == [key for key in genuine if key not in asked]


def test_no_successful_request_is_a_result_of_zero():
    assert bench_serving.measure([], 8, 8)["completed"] == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model-path", "a/b", "--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        (["--model-path", "a/b", "--tp-size", "two"], "invalid int value: 'two'"),
        (["--model-path", "a/b", "--schedule-policy", "none-such"], "invalid choice: 'none-such'"),
        ([], "required: --model-path"),
    ],
)
def test_bad_flags_end_as_argparse_ends(argv, message, capsys):
    with pytest.raises(SystemExit) as ended:
        flags.build_parser("launch_server").parse_args(argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_known_flags_are_taken():
    parsed = flags.build_parser("launch_server").parse_args(
        ["--model-path", "a/b", "--tp", "2", "--mem-fraction-static", "0.8", "--disable-radix-cache"]
    )
    assert (parsed.tp_size, parsed.mem_fraction_static, parsed.disable_radix_cache) == (2, 0.8, True)


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """A complete snapshot of two shards in a Hub cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--a--b"
    folder = repo / "snapshots" / "c0ffee"
    folder.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("c0ffee")
    (folder / "config.json").write_text("{}")
    index = {"weight_map": {"x": "1.safetensors", "y": "2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "1.safetensors").write_bytes(b"x" * 10)
    (folder / "2.safetensors").write_bytes(b"y" * 5)
    return folder


@pytest.mark.parametrize("revision", [None, "main", "c0ffee"])
def test_snapshot_is_found_and_read(snapshot, revision):
    assert weights.find_snapshot("a/b", revision) == snapshot
    assert weights.read_weights(snapshot) == 15


def test_missing_model_and_missing_shard_are_errors(snapshot):
    with pytest.raises(weights.ModelMissing, match="couldn't find them in the cached files"):
        weights.find_snapshot("a/other")
    (snapshot / "2.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        weights.read_weights(snapshot)


def test_launch_without_the_model_ends_with_an_error(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "sglang.launch_server", "--model-path", "a/b"],
        env={"PYTHONPATH": str(LIGHT_ENGINE), "HF_HUB_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "couldn't find them in the cached files" in ended.stderr
