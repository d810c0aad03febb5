# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that measure a server from inside its own container."""

from __future__ import annotations

import inspect

from ansible_collections.preheat.fleet.plugins.module_utils import bench_warm

# Datasets whose prompts and answers are as long as they are in the file.
NATURAL_LENGTHS = ("sharegpt", "custom")
# The measuring process gets this long to end by itself before it is killed.
KILL_AFTER_SECONDS = 10
# What coreutils' timeout exits with when it had to end (124) or to kill (137) its command; the latter has other causes.
TIMEOUT_EXIT_CODES = (124, 137)

# A flush is refused (400) while a request is still under way, so it is asked for again for a while.
_FLUSH = """
import json, sys, time, urllib.error, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for attempt in range(1, 11):
    try:
        reply = opener.open(urllib.request.Request(sys.argv[1], method="POST"), timeout=60)
    except urllib.error.HTTPError as error:
        reply = error
    status, body = reply.getcode(), reply.read(2000).decode("utf-8", "replace")
    if status != 400:
        break
    time.sleep(1)
print(json.dumps({"succeeded": status == 200, "status": status, "attempts": attempt, "message": body.strip()}))
"""

# The server knows its tokenizer, by path or by Hub id; the id's snapshot is in the cache that the server was given.
_TOKENIZER = """
import json, os, sys, urllib.error, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    reply = opener.open(sys.argv[1] + "/server_info", timeout=60)
except urllib.error.HTTPError:
    reply = opener.open(sys.argv[1] + "/get_server_info", timeout=60)
server = json.load(reply)
path = server.get("tokenizer_path") or server["model_path"]
if not os.path.exists(path):
    # Not snapshot_download: it refuses a snapshot from which files were left out on purpose, such as pickles.
    from huggingface_hub import hf_hub_download
    config = hf_hub_download(path, "config.json", revision=server.get("revision"), local_files_only=True)
    path = os.path.dirname(config)
print(path)
"""

ENVIRONMENT = {
    # The tokenizer is in the container; nothing is looked up on the Hub.
    "HF_HUB_OFFLINE": "1",
    # What was printed before a kill is kept for the error.
    "PYTHONUNBUFFERED": "1",
    # A proxy from the container's environment must not stand between the client and its own server.
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


def server_url(port):
    return f"http://127.0.0.1:{port}"


def benchmark_command(params, tokenizer_path, output_file, dataset_path=None):
    """The argv of one run of bench_serving, for the module's parameters; C(dataset_path) is in the container."""
    argv = ["timeout", f"--kill-after={KILL_AFTER_SECONDS}", str(params["timeout_seconds"])]
    argv += ["python3", "-m", params["bench_module"]]
    argv += ["--backend", params["backend"], "--base-url", server_url(params["container_port"])]
    argv += ["--model", tokenizer_path, "--tokenizer", tokenizer_path]
    argv += _prompts(params) + (["--dataset-path", dataset_path] if dataset_path else [])
    if params["concurrency"] is not None:
        argv += ["--max-concurrency", str(params["concurrency"])]
    if params["request_rate"] is not None:
        argv += ["--request-rate", str(params["request_rate"])]
    argv += ["--seed", str(params["seed"]), "--warmup-requests", str(params["warmup_requests"])]
    if params["flush_cache"]:
        # The warm-up sends the first measured prompt: without this flush it would be in the cache already.
        argv += ["--flush-cache"]
    argv += ["--disable-tqdm", "--output-details", "--output-file", output_file]
    return argv + [str(argument) for argument in params["extra_args"] or []]


def _prompts(params):
    """Where the prompts come from, how many there are, and how long they and their answers."""
    count, length, answer = (params[name] for name in ("num_prompts", "input_tokens", "output_tokens"))
    if params["shared_prefix"]:
        groups, shared = params["shared_prefix"]["groups"], params["shared_prefix"]["tokens"]
        argv = ["--dataset-name", "generated-shared-prefix", "--gsp-num-groups", groups]
        argv += ["--gsp-prompts-per-group", -(-count // groups), "--gsp-system-prompt-len", shared]
        argv += ["--gsp-question-len", length - shared, "--gsp-output-len", answer]
    elif params["dataset"] in NATURAL_LENGTHS:
        argv = ["--dataset-name", params["dataset"], "--num-prompts", count]
        argv += ["--sharegpt-output-len", answer] if answer else []
    else:
        argv = ["--dataset-name", params["dataset"], "--num-prompts", count, "--random-input-len", length]
        argv += ["--random-output-len", answer, "--random-range-ratio", params["range_ratio"]]
    return [str(argument) for argument in argv]


def with_imports_done(command):
    """A command of C(benchmark_command) that costs the imports only in the first run in a container; see bench_warm."""
    at = command.index("-m")
    return [*command[:at], "-c", inspect.getsource(bench_warm), *command[at + 1 :]]


def flush_command(port):
    """The argv that flushes the server's radix cache and prints the outcome as JSON."""
    return ["python3", "-c", _FLUSH, server_url(port) + "/flush_cache"]


def tokenizer_command(port):
    """The argv that prints the path of the server's tokenizer inside the container."""
    return ["python3", "-c", _TOKENIZER, server_url(port)]
