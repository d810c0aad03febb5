#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sglang_benchmark
short_description: Measure a running SGLang server with its own bench_serving
description:
  - Runs SGLang's C(bench_serving) inside the container of a running server, against that server, and returns request
    counts and metrics in seconds and tokens per second.
  - The first run in a container imports the benchmark once for all runs; each is a fork of that process and begins
    within a fraction of a second. The process ends after two minutes without a run. Where it cannot be, each run is a
    process of its own.
  - The radix cache is flushed before the run and again after the warm-up, so that a repeated seed is measured cold.
  - Requests that failed are counted, never dropped. An answer that broke off counts as failed although
    C(bench_serving) calls it completed.
  - Metrics that this version of C(bench_serving) neither reports nor lets be computed are left out, never zero.
    Percentiles are interpolated linearly between the two nearest requests (numpy's default).
    Where a version reports no p90 or p95, they are computed from all requests; for C(e2e) and C(tpot) from the times of
    the tokens, which leaves out the closing message of the stream.
version_added: "0.1.0"
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.docker
attributes:
  check_mode:
    support: full
    description: Returns the command and runs nothing.
  diff_mode:
    support: none
    description: Nothing is changed.
  idempotent:
    support: none
    description: Every run measures anew; nothing is changed on the host.
options:
  container:
    description: Name or id of the server's container, such as M(preheat.fleet.sglang_server) returns it.
    type: str
    required: true
  container_port:
    description: Port on which the server listens inside the container.
    type: int
    default: 30000
  tokenizer_path:
    description:
      - Path of the model's snapshot (or of its tokenizer) inside the container.
      - Without it the server is asked, and its snapshot found in the cache. Nothing is looked up on the Hub.
    type: str
  backend:
    description:
      - Interface of the server that is measured.
      - V(sglang) is the native one. It needs no chat template and counts the tokens that really arrived.
    type: str
    choices: [sglang, sglang-oai, sglang-oai-chat]
    default: sglang
  dataset:
    description:
      - Dataset of C(bench_serving), such as V(random-ids), V(random), V(sharegpt) or V(custom).
      - V(random-ids) makes its prompts up; the others need O(dataset_file).
      - V(sharegpt) and V(custom) take the lengths of prompts and answers from the file.
    type: str
    default: random-ids
  dataset_file:
    description:
      - File of the dataset on the host. It is copied into the container once.
      - ShareGPT's JSON for V(random) and V(sharegpt); a conversation a line for V(custom).
    type: path
  shared_prefix:
    description: Prompts that begin alike, as with a system prompt (C(generated-shared-prefix) of C(bench_serving)).
    type: dict
    suboptions:
      tokens:
        description: How many of the O(input_tokens) are shared.
        type: int
        required: true
      groups:
        description: How many different prefixes there are. O(num_prompts) is rounded up to a multiple of it.
        type: int
        default: 1
  input_tokens:
    description: Input tokens of a request. Required unless the dataset has lengths of its own.
    type: int
  output_tokens:
    description:
      - Output tokens of a request. Required unless the dataset has lengths of its own.
      - With such a dataset, all answers get this length.
    type: int
  range_ratio:
    description:
      - Lengths are drawn between this fraction of the tokens asked for and all of them.
      - With V(1.0) each request has exactly the length asked for.
    type: float
    default: 1.0
  num_prompts:
    description: Number of requests.
    type: int
    required: true
  concurrency:
    description: Requests under way at a time. Give this or O(request_rate).
    type: int
  request_rate:
    description: Requests per second, arriving as a Poisson process. Give this or O(concurrency).
    type: float
  seed:
    description: Seed of the prompts, their lengths and their arrival.
    type: int
    default: 1
  warmup_requests:
    description: Requests sent before the measurement, which they are no part of.
    type: int
    default: 1
  flush_cache:
    description:
      - Flush the server's radix cache first. The benchmark fails if the server refuses.
    type: bool
    default: true
  timeout_seconds:
    description: Limit for the measurement. The measuring process is ended inside the container when it is reached.
    type: int
    default: 1800
  extra_args:
    description:
      - Further arguments of C(bench_serving), appended as they are.
      - They are part of the returned RV(command), so no secret belongs here.
    type: list
    elements: str
    default: []
  bench_module:
    description:
      - Python module of the benchmark in the image. Releases that no longer have the default name it
        C(sglang.benchmark.serving).
    type: str
    default: sglang.bench_serving
notes:
  - The container needs coreutils (C(timeout), C(cat), C(rm)) and C(python3), which SGLang's images have.
seealso:
  - module: preheat.fleet.sglang_server
"""

EXAMPLES = r"""
- name: Measure a chat workload at eight requests at a time
  preheat.fleet.sglang_benchmark:
    container: sglang-qwen3-8b
    input_tokens: 1024
    output_tokens: 256
    concurrency: 8
    num_prompts: 64
  vars:
    ansible_python_interpreter: "{{ gpu_host_venv }}/bin/python"
  register: chat

- name: Measure the OpenAI interface at two requests per second
  preheat.fleet.sglang_benchmark:
    container: sglang-qwen3-8b
    tokenizer_path: /models/qwen3-8b
    backend: sglang-oai-chat
    input_tokens: 1024
    output_tokens: 256
    request_rate: 2
    num_prompts: 120
    timeout_seconds: 600
"""

RETURN = r"""
requests:
  description: How many requests were sent, answered in full, and not.
  returned: success
  type: dict
  sample: {total: 64, completed: 64, failed: 0}
request_errors:
  description: Why requests failed, most frequent first.
  returned: success
  type: list
  elements: dict
  sample: [{message: "answered without a token", count: 2}]
metrics:
  description:
    - C(requests_per_second), C({input,output,total}_tokens_per_second), C(concurrency_mean), C(duration_seconds) and
      C({ttft,tpot,itl,e2e}_{mean,median,std,p90,p95,p99}_seconds).
    - What was not measured is left out. Empty if no request was completed.
  returned: success
  type: dict
  sample: {output_tokens_per_second: 1403.5, ttft_mean_seconds: 0.087, ttft_p99_seconds: 0.21}
raw:
  description:
    - What C(bench_serving) wrote, one JSON string a run, without the generated texts and the single inter-token times
      (C(itl_sums) has their sum for each request; C(exact_output_tokens) is the length that every answer must have).
      Infinities are null and keys and passwords among the server's arguments are redacted.
  returned: success
  type: list
  elements: str
  sample: ['{"backend": "sglang", "completed": 64}']
command:
  description: The command that ran (in check mode, would run) in the container.
  returned: always
  type: list
  elements: str
  sample: [timeout, --kill-after=10, "1800", python3, -m, sglang.bench_serving, --backend, sglang]
start:
  description: When the run began, in seconds since the epoch on the host.
  returned: success
  type: float
  sample: 1760000000.5
seconds:
  description: How long it took, with the flush, the start of the measuring process and the warm-up.
  returned: success
  type: float
  sample: 21.4
flush_cache:
  description: Whether the radix cache was to be flushed, and the server's answer.
  returned: success
  type: dict
  sample: {requested: true, succeeded: true, status: 200, attempts: 1, message: Cache flushed.}
seed:
  description: The seed.
  returned: success
  type: int
  sample: 1
error:
  description:
    - C({class, message, remedy, exit_code, log_tail}). C(class) is one of C(container_missing), C(crashed), C(timeout),
      C(flush_cache_failed), C(bad_flag), C(benchmark_failed), C(unreadable_result), C(engine_unreachable).
  returned: failure
  type: dict
  sample: {class: timeout, message: the benchmark did not end within timeout_seconds=600, exit_code: 124}
"""

import os
import traceback

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import (
    bench_command,
    bench_run,
    docker_failure,
    docker_module,
)

ARGUMENTS = {
    "container": {"type": "str", "required": True},
    "container_port": {"type": "int", "default": 30000},
    **docker_module.ENGINE_ARGUMENTS,
    # The path of a tokenizer is no secret, whatever its name looks like.
    "tokenizer_path": {"type": "str", "no_log": False},
    "backend": {"type": "str", "choices": ["sglang", "sglang-oai", "sglang-oai-chat"], "default": "sglang"},
    "dataset": {"type": "str", "default": "random-ids"},
    "dataset_file": {"type": "path"},
    "shared_prefix": {
        "type": "dict",
        "options": {
            "tokens": {"type": "int", "required": True, "no_log": False},
            "groups": {"type": "int", "default": 1},
        },
    },
    "input_tokens": {"type": "int", "no_log": False},
    "output_tokens": {"type": "int", "no_log": False},
    "range_ratio": {"type": "float", "default": 1.0},
    "num_prompts": {"type": "int", "required": True},
    "concurrency": {"type": "int"},
    "request_rate": {"type": "float"},
    "seed": {"type": "int", "default": 1},
    "warmup_requests": {"type": "int", "default": 1},
    "flush_cache": {"type": "bool", "default": True},
    "timeout_seconds": {"type": "int", "default": 1800},
    "extra_args": {"type": "list", "elements": "str", "default": []},
    "bench_module": {"type": "str", "default": "sglang.bench_serving"},
}


def measure(module):
    path = bench_run.output_file()
    tokenizer_path = module.params["tokenizer_path"] or "(the server's tokenizer_path)"
    command = bench_command.benchmark_command(module.params, tokenizer_path, path)
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, command=command)

    def work(client):
        container = bench_run.ServerContainer(client, module.params["container"])
        return bench_run.run(container, module.params, path)

    try:
        result = docker_module.through_engine(module, work)
    except docker_failure.LaunchError as failure:
        fail(module, unreachable(failure), command)
    except bench_run.BenchmarkError as failure:
        fail(module, failure.error, command)
    module.exit_json(changed=False, **result)


def unreachable(failure):
    return bench_run.BenchmarkError(failure.error_class, failure.message, failure.remedy).error


def fail(module, error, command):
    module.fail_json(msg=f"{error['message']}. {error['remedy']}", error=error, command=command)


def invalid(params):
    """What is wrong with the arguments beyond their types; None if nothing is."""
    for name in ("input_tokens", "output_tokens", "num_prompts", "concurrency", "request_rate", "timeout_seconds"):
        if params[name] is not None and params[name] <= 0:
            return f"{name} is {params[name]}; give a number above 0."
        natural = params["dataset"] in bench_command.NATURAL_LENGTHS and not params["shared_prefix"]
        if params[name] is None and name in ("input_tokens", "output_tokens") and not natural:
            return f"{name} is missing; only the datasets {', '.join(bench_command.NATURAL_LENGTHS)} have lengths."
    prefix, file = params["shared_prefix"], params["dataset_file"]
    if prefix and not (prefix["groups"] > 0 and 0 < prefix["tokens"] < params["input_tokens"]):
        return f"shared_prefix is {prefix}; give groups above 0 and tokens below input_tokens={params['input_tokens']}."
    if file and not os.path.isfile(file):
        return f"dataset_file is {file}, which is no file on this host; copy it there first."
    return None


def main():
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        mutually_exclusive=[("concurrency", "request_rate")],
        required_one_of=[("concurrency", "request_rate")],
        supports_check_mode=True,
    )
    if wrong := invalid(module.params):
        module.fail_json(msg=wrong)
    try:
        measure(module)
    except Exception as error:  # the one place where what nobody expected becomes a message
        module.fail_json(msg=f"unexpected error: {error}", exception=traceback.format_exc())


if __name__ == "__main__":
    main()
