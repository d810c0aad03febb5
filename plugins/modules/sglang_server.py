#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sglang_server
short_description: An SGLang server in a container, started from the host's model cache and ready to serve
version_added: "0.1.0"
description:
  - Runs one SGLang server in one container of the host's Docker engine, and waits until it is really ready, which is
    when C(/health) answers 200.
  - The host's Hub cache is mounted read-only, the server runs offline and gets no token. The model has to be there
    before, see M(preheat.fleet.hf_model).
  - A server whose configuration is unchanged and that is healthy is left alone; one that still starts is waited for. It
    is recreated when its configuration changed, and when it stopped, crashed or does not answer any more.
  - A server that ends while it starts is noticed at once, and the cause told apart by its exit code and its log.
  - Returns what the start took, phase by phase, from the timestamps that Docker gives each line of the log.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.docker
attributes:
  check_mode:
    support: full
    description: >-
      Predicts whether the server would be created, recreated or removed. A model or image that is not there yet counts
      as if it had been fetched. With O(pull=always) a newer image in the registry is not foreseen.
  diff_mode:
    support: full
    description: Shows what of the configuration differs. Values of O(environment) are shown as hashes.
  idempotent:
    support: full
    description: A healthy server with this configuration is left alone.
options:
  state:
    description:
      - V(started) brings the server up, V(absent) stops it (SIGTERM, then SIGKILL) and removes its container.
    type: str
    choices: [started, absent]
    default: started
  name:
    description:
      - Name of the container. Needed for V(started); for V(absent) give this or O(match_labels).
      - A container of this name that preheat did not create is never touched.
    type: str
  match_labels:
    description:
      - With O(state=absent), remove every container that preheat manages and that carries these labels. An empty
        dictionary matches all that preheat manages.
    type: dict
  image:
    description: Image with SGLang in it. Needed for V(started).
    type: str
  pull:
    description: When to pull the image. A pull counts as part of the launch, phase C(image_pull).
    type: str
    choices: [missing, never, always]
    default: missing
  repo_id:
    description: Hub repository of the model, as in the host's cache. Give this or O(model_path).
    type: str
  revision:
    description:
      - Commit, branch or tag of O(repo_id). A branch or tag is looked up in the cache, never on the Hub.
    type: str
    default: main
  model_path:
    description: Directory of a model on the host, outside the Hub cache. It is mounted read-only at the same path.
    type: path
  cache_dir:
    description:
      - The host's Hub cache. It is mounted read-only at the container's own (C(/root/.cache/huggingface/hub), named by
        E(HF_HUB_CACHE)).
      - By default as huggingface_hub finds it from E(HF_HUB_CACHE), E(HF_HOME) and the home directory.
    type: path
  jit_cache_dir:
    description:
      - Directory on the host for compiled kernels (Triton, Inductor, FlashInfer, DeepGEMM, TVM-FFI, TileLang, CUDA,
        SGLang's own), so that the next launch need not compile again. It is created if it is not there.
      - Each image and kind of GPU has a folder of its own in it, C(0123456789ab-nvidia-h100-80gb-hbm3-sm90), which is
        mounted read-write. Servers that run at the same time may share it; each cache has its own locks.
    type: path
  weight_cache:
    description:
      - Name of a container with SGLang's weight-cache daemon, from which the server takes its weights. It is started,
        with this server's image, model and GPUs, or replaced where what it holds does not fit. So the next server with
        the same weights finds them in GPU memory.
      - Servers share weights where all of O(parameters) are equal but those that only schedule, size pools or log.
      - Without GPUs, with SGLang before 0.5.19 or with parameters that do not go together with it the server loads its
        weights itself, with a warning; a daemon of this name is removed then, for it holds memory.
      - The server shares the daemon's namespaces of processes and IPC, and ends when the daemon ends. Remove the
        daemon as a server, with O(state=absent) and its O(name).
    type: str
  parameters:
    description:
      - SGLang's own flags, with underscores. V(true) is a bare flag; V(false), null or an empty list leave the flag
        out; a list repeats values after one flag; a dictionary becomes JSON. No shell is involved.
      - Names that other engines use, such as C(tensor_parallel_size), C(max_model_len) or C(max_num_seqs), stand for
        SGLang's. C(preset), one of V(throughput), V(latency), V(long_context), V(fp8) or a list of them, gives flags
        over which the others win; null takes one away.
    type: dict
    default: {}
  command:
    description: What the container runs, before the model and the flags.
    type: list
    elements: str
    default: [python3, -m, sglang.launch_server]
  environment:
    description:
      - Environment of the container, beside what the module sets. Only the names are returned.
      - It is visible in C(docker inspect) to whoever may use the engine. Tokens of the Hub are refused.
    type: dict
    default: {}
  gpus:
    description: Indexes or UUIDs of the GPUs that the server gets. An empty list means none.
    type: list
    elements: str
    default: []
  gpu_access:
    description:
      - How the container gets its GPUs. V(auto) takes a device request where the engine knows an NVIDIA runtime, else
        CDI where the engine knows CDI devices.
      - V(none) gives it none, whatever O(gpus) says.
    type: str
    choices: [auto, device_request, cdi, none]
    default: auto
  shm_size:
    description: Size of the container's C(/dev/shm), through which ranks talk. A limit, not a reservation.
    type: str
    default: 32g
  ipc_mode:
    description: IPC mode of the container, for example V(host); the engine's default if not given.
    type: str
  network_mode:
    description:
      - Network of the container. With V(host) the server itself listens at O(publish_host) and O(port).
    type: str
    default: bridge
  publish_host:
    description: Address of the host on which the server is offered.
    type: str
    default: 127.0.0.1
  port:
    description: Port of the host on which the server is offered; V(0) means a free one.
    type: int
    default: 0
  container_port:
    description: Port on which the server listens inside the container.
    type: int
    default: 30000
  labels:
    description: Labels of the container, beside preheat's own. A change recreates the container.
    type: dict
    default: {}
  restart_policy:
    description: Docker's restart policy. It takes effect once the server is ready, so that a failing start ends.
    type: str
    choices: ["no", always, unless-stopped, on-failure]
    default: "no"
  init:
    description: Run an init process in the container, which forwards signals and reaps children.
    type: bool
    default: true
  ready_timeout_seconds:
    description: How long the server may take until it is ready.
    type: int
    default: 1800
  wait_seconds:
    description:
      - How long this call waits for the server to be ready; then it returns with RV(ready) false and the phases so far,
        and a further call with the same configuration goes on waiting. V(0) waits as long as it takes.
    type: int
    default: 0
  stall_timeout_seconds:
    description:
      - How long a server that is not ready may write nothing to its log before it counts as hanging.
      - Loading large weights, compiling kernels and capturing graphs can be silent for many minutes.
    type: int
    default: 900
  stop_timeout_seconds:
    description: How long a server may take to end after SIGTERM before it is killed.
    type: int
    default: 30
  keep_failed:
    description: Keep the container of a launch that failed, to look at. The next launch replaces it.
    type: bool
    default: false
  log_tail_lines:
    description: How many of the log's last lines to return in RV(log_tail).
    type: int
    default: 60
  return_log:
    description:
      - Return the complete log, up to 4 MiB; of a longer one the middle is left out. Tokens and passwords are masked.
      - The log of a launch that failed is always returned.
    type: bool
    default: false
  facts_file:
    description:
      - File of local facts (M(preheat.fleet.host_facts)) in which a launch is noted, the last five are kept.
      - Without it, or where it cannot be written, launches are not noted.
    type: path
seealso:
  - module: preheat.fleet.hf_model
  - module: preheat.fleet.sglang_benchmark
"""

EXAMPLES = r"""
- name: A server on two GPUs, at a free port of 127.0.0.1
  preheat.fleet.sglang_server:
    name: qwen3-8b
    image: lmsysorg/sglang:v0.5.23
    repo_id: Qwen/Qwen3-8B
    gpus: [0, 1]
    jit_cache_dir: ~/.cache/preheat/jit
    parameters:
      tp_size: 2
      mem_fraction_static: 0.85
      trust_remote_code: false
      cuda_graph_bs: [1, 2, 4, 8]
  vars:
    ansible_python_interpreter: "{{ gpu_host_venv }}/bin/python"
  register: server

- name: Say where it is and what its start took
  ansible.builtin.debug:
    msg: "{{ server.url }}: {{ server.phases | items2dict(key_name='name', value_name='seconds') }}"

- name: A server that comes back after a reboot, offered to the network
  preheat.fleet.sglang_server:
    name: chat
    image: lmsysorg/sglang:v0.5.23
    repo_id: Qwen/Qwen3-8B
    revision: b968826d9c46dd6066d109eabc6255188de91218
    gpus: [0]
    publish_host: 0.0.0.0
    port: 30000
    restart_policy: unless-stopped

- name: Stop and remove a server, and keep its log
  preheat.fleet.sglang_server:
    state: absent
    name: qwen3-8b
    return_log: true

- name: Remove whatever a sweep left on this host
  preheat.fleet.sglang_server:
    state: absent
    match_labels:
      preheat.sweep: demo
"""

RETURN = r"""
container:
  description:
    - The container (C(id), C(name), C(image), C(image_digest), C(created)), the C(port) inside it and the names in its
      C(environment). After a failure only what is known.
    - An image that came from no registry has its id as digest.
  returned: state is started, not in check mode
  type: dict
  sample:
    id: 4f1c0a9e
    name: qwen3-8b
    image: lmsysorg/sglang:v0.5.23
    image_digest: "sha256:0a1b"
    created: "2026-11-23T08:28:12.1Z"
    port: 30000
    environment: [HF_HUB_CACHE, HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE]
model:
  description: The model, where it lies on the host (C(path)) and in the container (C(container_path)).
  returned: state is started
  type: dict
  sample:
    repo_id: Qwen/Qwen3-8B
    commit: b968826d9c46dd6066d109eabc6255188de91218
    path: /root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/b968826d9c46dd6066d109eabc6255188de91218
    container_path: /root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/b968826d9c46dd
ready:
  description: Whether the server is ready; false after O(wait_seconds), and in check mode where it would be started.
  returned: state is started
  type: bool
  sample: true
url:
  description: Where the host itself reaches the server.
  returned: state is started, not in check mode
  type: str
  sample: http://127.0.0.1:30000
host:
  description: Address of the host on which the server is offered.
  returned: state is started and the server is ready
  type: str
  sample: 127.0.0.1
port:
  description: Port of the host on which the server is offered.
  returned: state is started and the server is ready
  type: int
  sample: 30000
command:
  description: A docker command that would start the same container. Of O(environment) it has the names.
  returned: state is started
  type: list
  elements: str
  sample: [docker, run, --detach, --name, qwen3-8b]
engine_version:
  description: Version of SGLang, as the server says; null where it does not.
  returned: state is started and the server is ready
  type: str
  sample: 0.5.23
docker_version:
  description: Version of the Docker engine.
  returned: state is started
  type: str
  sample: 28.2.2
phases:
  description:
    - What the launch took, in order and without gaps. C(image_pull), C(weights_preload) (a daemon of O(weight_cache)
      that had to load them), C(container_create), C(engine_start),
      C(weights_load), C(kv_cache), C(graph_capture), C(server_warmup), C(ready); those that did not happen are left
      out. C(start) is in epoch seconds of the host, C(image_pull) has C(bytes).
    - A server with a draft model loads, allocates and captures twice, and so has these phases twice.
    - After a failure the phases so far; empty when nothing was launched.
  returned: state is started
  type: list
  elements: dict
  sample:
    - {name: container_create, start: 1795422492.1, seconds: 0.4}
    - {name: engine_start, start: 1795422492.5, seconds: 20.9}
cache:
  description:
    - What the launch found warm. C(resident_fraction_before) is the fraction of the weights' bytes that was in the
      page cache (null where the kernel does not tell this user); C(weights_rung) is C(page_cache) from 0.95 on, else
      C(disk).
    - With O(weight_cache), C(weight_cache.used), and C(weight_cache.reason) where it is not; C(weights_rung) is C(gpu)
      where the server says that it took its weights from the daemon.
    - Once the server is ready, what the launch took. C(resident_fraction_after) as before; C(disk_read_bytes), what the
      container read from disks, the files of its image included (null where nothing can tell); C(jit), what it found
      and added in the folder of compiled kernels.
    - C(jit.state) is C(cold) where nothing was there before, C(warm) where next to nothing was added (up to 1 MiB and
      1 %), else C(partial). C(jit.added_in) names the caches that grew. What another server compiles meanwhile, with
      the same image and kind of GPU, counts as well.
    - Empty when nothing was launched.
  returned: state is started
  type: dict
  sample:
    resident_fraction_before: 1.0
    weights_rung: page_cache
    resident_fraction_after: 1.0
    disk_read_bytes: 12288
    jit:
      state: partial
      files_before: 412
      bytes_before: 61341696
      files_added: 9
      bytes_added: 9437184
      added_in: [flashinfer]
log_tail:
  description: The last lines of the server's log, without tokens and passwords.
  returned: state is started
  type: str
  sample: "[2026-11-23 08:28:45] The server is fired up and ready to roll!"
log:
  description: The log, without tokens and passwords. Of several containers one after the other, each under its name.
  returned: when O(return_log) is set, or the launch failed
  type: str
  sample: "[2026-11-23 08:28:45] The server is fired up and ready to roll!"
error:
  description:
    - Why there is no server. C(class) is one of C(out_of_memory), C(bad_flag), C(model_missing), C(port_in_use),
      C(image_missing), C(engine_unreachable), C(crashed), C(timeout) and C(invalid) (the arguments themselves).
    - Beside it C(message), C(remedy), the C(phase) it happened in, C(exit_code) (null without one) and C(log_tail).
  returned: failure
  type: dict
  sample:
    class: bad_flag
    message: "the server ended with exit code 2 before it was ready: launch_server.py: error: unrecognized arguments"
    remedy: Correct or remove the parameter.
    phase: engine_start
    exit_code: 2
    log_tail: "launch_server.py: error: unrecognized arguments: --no-such-flag"
removed:
  description: Names of the containers that were removed.
  returned: state is absent
  type: list
  elements: str
  sample: [qwen3-8b]
exit_codes:
  description: Exit code of each removed container. SGLang ends itself with 137 (SIGKILL), so that says little.
  returned: state is absent, and something was removed
  type: dict
  sample: {qwen3-8b: 0}
seconds:
  description: How long stopping and removing took.
  returned: state is absent, and something was removed
  type: float
  sample: 3.2
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import docker_module, local_facts
from ansible_collections.preheat.fleet.plugins.module_utils.docker_client import parse_size
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError
from ansible_collections.preheat.fleet.plugins.module_utils.hf_cache import default_cache_dir
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_intent import expand
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_log import secret_values
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_removal import remove_servers
from ansible_collections.preheat.fleet.plugins.module_utils.sglang_server import Server


def argument_spec():
    return {
        "state": {"type": "str", "choices": ["started", "absent"], "default": "started"},
        "name": {"type": "str"},
        "match_labels": {"type": "dict"},
        "image": {"type": "str"},
        "pull": {"type": "str", "choices": ["missing", "never", "always"], "default": "missing"},
        "repo_id": {"type": "str"},
        "revision": {"type": "str", "default": "main"},
        "model_path": {"type": "path"},
        "cache_dir": {"type": "path"},
        "jit_cache_dir": {"type": "path"},
        "weight_cache": {"type": "str"},
        "parameters": {"type": "dict", "default": {}},
        "command": {"type": "list", "elements": "str", "default": ["python3", "-m", "sglang.launch_server"]},
        # Not logged, because a value may be secret; see mask_only_secrets.
        "environment": {"type": "dict", "default": {}, "no_log": True},
        "gpus": {"type": "list", "elements": "str", "default": []},
        "gpu_access": {"type": "str", "choices": ["auto", "device_request", "cdi", "none"], "default": "auto"},
        "shm_size": {"type": "str", "default": "32g"},
        "ipc_mode": {"type": "str"},
        "network_mode": {"type": "str", "default": "bridge"},
        "publish_host": {"type": "str", "default": "127.0.0.1"},
        "port": {"type": "int", "default": 0},
        "container_port": {"type": "int", "default": 30000},
        "labels": {"type": "dict", "default": {}},
        "restart_policy": {
            "type": "str",
            "choices": ["no", "always", "unless-stopped", "on-failure"],
            "default": "no",
        },
        "init": {"type": "bool", "default": True},
        "ready_timeout_seconds": {"type": "int", "default": 1800},
        "wait_seconds": {"type": "int", "default": 0},
        "stall_timeout_seconds": {"type": "int", "default": 900},
        "stop_timeout_seconds": {"type": "int", "default": 30},
        "keep_failed": {"type": "bool", "default": False},
        "log_tail_lines": {"type": "int", "default": 60},
        "return_log": {"type": "bool", "default": False},
        "facts_file": {"type": "path"},
        **docker_module.ENGINE_ARGUMENTS,
    }


def mask_only_secrets(module):
    """Ansible would mask each value of the environment wherever it occurs in the result, a mere "1" as well.

    The values never get into the result; only those that are secret by their name are still masked in texts.
    """
    environment = module.params["environment"]
    everything = {str(value) for value in environment.values()}
    module.no_log_values -= everything - set(secret_values(environment))
    return {"module_args": dict(module.params, environment=sorted(environment))}


def prepared(params):
    """The arguments with their defaults found and their sizes in bytes."""
    if not (params["cache_dir"] or params["model_path"]):
        params["cache_dir"] = default_cache_dir()
    for name in ("cache_dir", "jit_cache_dir", "model_path"):
        if params[name]:
            params[name] = os.path.abspath(params[name])
    params["shm_size_bytes"] = parse_size("shm_size", params["shm_size"])
    try:
        params["parameters"] = expand(params["parameters"])
    except ValueError as error:
        raise LaunchError("invalid", str(error), "Change this argument.") from error
    return params


def run(module, launch_start):
    """The result of the module; a failure is a result with an error."""
    server = None

    def work(client):
        nonlocal server
        params = dict(module.params)
        if params["state"] == "absent":
            return remove_servers(client, params, module.check_mode)
        server = Server(client, prepared(params), launch_start, module.check_mode, module.warn)
        server.ensure()
        return server.report

    try:
        return docker_module.through_engine(module, work)
    except LaunchError as error:
        failure = error
    report = server.report if server else {}
    phase = failure.phase or ("container_create" if module.params["state"] == "started" else "teardown")
    report["error"] = {
        "class": failure.error_class,
        "message": failure.message,
        "remedy": failure.remedy,
        "phase": phase,
        "exit_code": failure.exit_code,
        "log_tail": report.get("log_tail", ""),
    }
    return report


def note_launch(module, result, launch_start):
    """A launch is a fact about the host; that it cannot be written is no reason to fail."""
    path = module.params["facts_file"]
    if not path or not result.get("phases"):
        return
    try:
        local_facts.note(path, lambda facts: local_facts.with_launch(facts, result, launch_start))
    except OSError as error:
        module.warn(f"The launch was not noted in facts_file {path}: {error}")


def main():
    launch_start = time.time()
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[
            ("state", "started", ("name", "image")),
            ("state", "started", ("repo_id", "model_path"), True),
            ("state", "absent", ("name", "match_labels"), True),
        ],
        mutually_exclusive=[("repo_id", "model_path"), ("name", "match_labels")],
        supports_check_mode=True,
    )
    invocation = mask_only_secrets(module)
    result = dict(run(module, launch_start), invocation=invocation)
    note_launch(module, result, launch_start)
    if "error" in result:
        error = result["error"]
        module.fail_json(msg=f"{error['message'].rstrip('.')}. {error['remedy']}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
