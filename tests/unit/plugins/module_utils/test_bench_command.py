from __future__ import annotations

import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from subprocess import run

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import bench_command

PARAMS = {
    "container_port": 30000,
    "backend": "sglang",
    "dataset": "random-ids",
    "shared_prefix": None,
    "input_tokens": 64,
    "output_tokens": 16,
    "range_ratio": 1.0,
    "num_prompts": 32,
    "concurrency": 8,
    "request_rate": None,
    "seed": 7,
    "warmup_requests": 1,
    "flush_cache": True,
    "timeout_seconds": 600,
    "extra_args": [],
    "bench_module": "sglang.bench_serving",
}


def command(**params):
    return bench_command.benchmark_command(PARAMS | params, "/snapshot", "/tmp/x.jsonl")


def test_the_whole_command():
    assert " ".join(command()) == (
        "timeout --kill-after=10 600 python3 -m sglang.bench_serving --backend sglang "
        "--base-url http://127.0.0.1:30000 --model /snapshot --tokenizer /snapshot --dataset-name random-ids "
        "--num-prompts 32 --random-input-len 64 --random-output-len 16 --random-range-ratio 1.0 --max-concurrency 8 "
        "--seed 7 --warmup-requests 1 --flush-cache --disable-tqdm --output-details --output-file /tmp/x.jsonl"
    )


@pytest.mark.parametrize(
    ("params", "present", "absent"),
    [
        ({"concurrency": None, "request_rate": 2.5}, ["--request-rate", "2.5"], "--max-concurrency"),
        ({"flush_cache": False}, ["--disable-tqdm"], "--flush-cache"),
        ({"container_port": 8000}, ["http://127.0.0.1:8000"], "http://127.0.0.1:30000"),
        ({"bench_module": "sglang.benchmark.serving"}, ["-m", "sglang.benchmark.serving"], "sglang.bench_serving"),
        ({"extra_args": ["--header", "a b=c d"]}, ["--header", "a b=c d"], "a"),
        ({"extra_args": None}, ["--output-details"], "None"),
        ({"range_ratio": 0.5}, ["--random-range-ratio", "0.5"], "1.0"),
        (
            {"dataset": "sharegpt", "input_tokens": None, "output_tokens": None},
            ["--dataset-name", "sharegpt", "--num-prompts", "32", "--max-concurrency"],
            "--random-input-len",
        ),
        (
            {"dataset": "custom", "input_tokens": None},
            ["--num-prompts", "32", "--sharegpt-output-len", "16"],
            "--random-output-len",
        ),
        (
            {"shared_prefix": {"tokens": 48, "groups": 5}},
            [
                "--dataset-name",
                "generated-shared-prefix",
                "--gsp-num-groups",
                "5",
                "--gsp-prompts-per-group",
                "7",
                "--gsp-system-prompt-len",
                "48",
                "--gsp-question-len",
                "16",
                "--gsp-output-len",
                "16",
            ],
            "--num-prompts",
        ),
    ],
)
def test_variants(params, present, absent):
    argv = command(**params)
    assert all(isinstance(argument, str) for argument in argv)
    at = argv.index(present[0])
    assert argv[at : at + len(present)] == present
    assert absent not in argv


def test_the_command_that_imports_once_has_the_same_arguments():
    warm = bench_command.with_imports_done(command())
    assert warm[:5] == ["timeout", "--kill-after=10", "600", "python3", "-c"]
    assert "def client(module, arguments" in warm[5]
    assert warm[6:] == command()[5:]


def test_a_dataset_file():
    argv = bench_command.benchmark_command(PARAMS | {"dataset": "random"}, "/snapshot", "/tmp/x.jsonl", "/tmp/data")
    assert argv[argv.index("--dataset-path") + 1] == "/tmp/data"


class _Server(BaseHTTPRequestHandler):
    """Answers each request with the next of C(replies): (status, body)."""

    replies: list
    seen: list

    def _reply(self):
        self.seen.append(f"{self.command} {self.path}")
        status, body = self.replies.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    do_GET = do_POST = _reply

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (_Server,), {"replies": [], "seen": []})
    with HTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        handler.port = httpd.server_port
        yield handler
        httpd.shutdown()


def execute(argv):
    # A proxy in the container's environment must not be asked for the server that listens beside it.
    return run(argv, capture_output=True, text=True, check=False, env={"http_proxy": "http://127.0.0.1:9"})


@pytest.mark.parametrize(
    ("replies", "result"),
    [
        ([(200, b"Cache flushed.\n")], {"succeeded": True, "status": 200, "attempts": 1, "message": "Cache flushed."}),
        ([(400, b"busy"), (200, b"ok")], {"succeeded": True, "status": 200, "attempts": 2, "message": "ok"}),
        ([(404, b"no such path")], {"succeeded": False, "status": 404, "attempts": 1, "message": "no such path"}),
    ],
)
def test_flush(server, replies, result):
    server.replies[:] = replies
    done = execute(bench_command.flush_command(server.port))
    assert json.load(io.StringIO(done.stdout)) == result
    assert set(server.seen) == {"POST /flush_cache"}


def test_flush_without_a_server():
    done = execute(bench_command.flush_command(9))
    assert done.returncode != 0
    assert "refused" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("replies", "path"),
    [
        ([(200, {"tokenizer_path": "/", "model_path": "/no"})], "/"),
        ([(200, {"tokenizer_path": None, "model_path": "/tmp"})], "/tmp"),
        ([(404, b""), (200, {"model_path": "/tmp"})], "/tmp"),
    ],
)
def test_the_server_leads_to_its_tokenizer(server, replies, path):
    server.replies[:] = replies
    assert execute(bench_command.tokenizer_command(server.port)).stdout == path + "\n"


def test_a_tokenizer_named_by_hub_id_is_found_in_the_cache(server, tmp_path):
    commit = "c" * 40
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    server.replies[:] = [(200, {"tokenizer_path": "org/name", "revision": commit})]
    argv = bench_command.tokenizer_command(server.port)
    environment = {"HF_HUB_CACHE": str(tmp_path), **bench_command.ENVIRONMENT}
    done = run([sys.executable, *argv[1:]], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == f"{snapshot}\n", done.stderr
