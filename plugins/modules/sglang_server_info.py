#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sglang_server_info
short_description: What is known of the SGLang servers that preheat runs on a host
version_added: "0.1.0"
description:
  - Tells of each server of M(preheat.fleet.sglang_server) its container, image, model, GPUs, parameters and address,
    whether it is ready, and what its launch took and found warm.
  - Asks the server itself for its version, its settings and, where it has them, its metrics. SGLang 0.4.10 and newer is
    understood. An endpoint that does not answer is named in the notes of the server, and nothing fails for it.
  - C(/health), by which a server is called ready, has it generate one token if it has nothing else to do.
  - Passwords, tokens and keys are masked. Of the environment only the names are returned.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.info
  - preheat.fleet.docker
options:
  name:
    description:
      - Only the server with this container. None is found where it does not exist; a container that preheat did not
        create is refused.
    type: str
  port:
    description: Only the server that is offered at this port of the host.
    type: int
  match_labels:
    description: Only servers whose containers carry these labels, C(preheat.sweep) for instance.
    type: dict
    default: {}
  facts_file:
    description:
      - File of local facts (M(preheat.fleet.host_facts)) in which launches were noted. By default where Ansible finds
        it.
    type: path
    default: /etc/ansible/facts.d/preheat.fact
  timeout_seconds:
    description: How long one endpoint of a server may take to answer.
    type: float
    default: 30
seealso:
  - module: preheat.fleet.sglang_server
  - module: preheat.fleet.host_facts
"""

EXAMPLES = r"""
- name: Look at the servers of this host
  preheat.fleet.sglang_server_info:
  register: found
  vars:
    ansible_python_interpreter: "{{ gpu_host_venv }}/bin/python"

- name: Say where each is and what it serves
  ansible.builtin.debug:
    msg: "{{ item.url }} {{ item.model.repo_id }} {{ 'ready' if item.ready else item.state }} {{ item.engine_version }}"
  loop: "{{ found.servers }}"
  loop_control:
    label: "{{ item.name }}"

- name: Insist on a server that is ready
  ansible.builtin.assert:
    that: found.servers | selectattr('name', 'eq', 'qwen3-8b') | selectattr('ready') | length == 1
    fail_msg: "{{ found.servers | selectattr('name', 'eq', 'qwen3-8b') | map(attribute='notes') | flatten }}"
"""

RETURN = r"""
servers:
  description: The servers, by name; stopped ones too. Empty if there are none.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container.
      type: str
      sample: qwen3-8b
    id:
      description: Its id.
      type: str
      sample: 4f1c0a9e
    state:
      description: What Docker says of the container, C(running) or C(exited) for instance.
      type: str
      sample: running
    exit_code:
      description: Exit code of a container that does not run, else null.
      type: int
      sample: null
    created:
      description: When the container was made.
      type: str
      sample: "2026-11-23T08:28:12.1Z"
    image:
      description: Name of the image as its launch was asked for it, else one of the names that the image has.
      type: str
      sample: lmsysorg/sglang:v0.5.23
    image_digest:
      description: Its digest; the id of an image that came from no registry.
      type: str
      sample: "sha256:0a1b"
    model:
      description:
        - C(repo_id) and C(commit) (null for a directory of its own), and where it lies on the host (C(path)) and in the
          container (C(container_path)).
      type: dict
      sample:
        repo_id: Qwen/Qwen3-8B
        commit: b968826d9c46dd6066d109eabc6255188de91218
        path: /data/hub/models--Qwen--Qwen3-8B/snapshots/b968826d9c46dd6066d109eabc6255188de91218
        container_path: /root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/b968826d9c46dd
    host:
      description: Address of the host on which the server is offered.
      type: str
      sample: 127.0.0.1
    port:
      description: Port of the host on which it is offered.
      type: int
      sample: 30000
    url:
      description: Where the host itself reaches it.
      type: str
      sample: http://127.0.0.1:30000
    gpus:
      description: Indexes or UUIDs of its GPUs. Empty for a server without any.
      type: list
      elements: str
      sample: ["0", "1"]
    gpu_access:
      description: How the container got them, see M(preheat.fleet.sglang_server).
      type: str
      sample: device_request
    parameters:
      description: SGLang's flags as it was started with them, as M(preheat.fleet.sglang_server) takes them.
      type: dict
      sample: {tp_size: 2, mem_fraction_static: 0.85}
    environment:
      description: Names of the variables that it was given.
      type: list
      elements: str
      sample: [HF_HUB_CACHE, HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE]
    labels:
      description: Labels of the container beside preheat's own.
      type: dict
      sample: {preheat.sweep: demo}
    health:
      description: What C(/health) answers; null where nothing answers, or the container does not run.
      type: int
      sample: 200
    ready:
      description: Whether that is 200.
      type: bool
      sample: true
    engine_version:
      description: Version of SGLang, as the server says; null where it does not.
      type: str
      sample: 0.5.23
    model_info:
      description: What C(/model_info) says, C(/get_model_info) of older versions; null without an answer.
      type: dict
      sample: {model_path: Qwen/Qwen3-8B, is_generation: true}
    server_info:
      description:
        - What C(/server_info) says, C(/get_server_info) of older versions, the effective value of every setting; null
          without an answer. C(internal_states) has of each scheduler what the settings do not say already.
      type: dict
      sample: {tp_size: 2, max_total_num_tokens: 437812, internal_states: [{last_gen_throughput: 812.4}]}
    metrics:
      description:
        - SGLang's samples of C(/metrics), without the buckets of histograms. Null for a server without
          C(enable_metrics).
      type: list
      elements: dict
      sample: [{name: "sglang:num_running_reqs", labels: {model_name: Qwen/Qwen3-8B}, value: 3.0}]
    launch:
      description:
        - What M(preheat.fleet.sglang_server) noted of the launch in O(facts_file), C(start) (epoch seconds),
          C(seconds), C(phases) (seconds by name), C(cache) with the rung of the weights, C(ready) and C(error_class).
        - Null where it is not noted there.
      type: dict
      sample:
        start: 1795422492.1
        seconds: 46.7
        phases: {container_create: 0.6, engine_start: 24.5, weights_load: 3.5}
        cache: {weights_rung: page_cache, resident_fraction_before: 1.0}
        ready: true
        error_class: null
    notes:
      description: What could not be found out, and why.
      type: list
      elements: str
      sample: ["server_info: /server_info answers 404, /get_server_info answers 401"]
error:
  description: Why the host could not be asked, C(class) C(engine_unreachable) or C(invalid), C(message) and C(remedy).
  returned: failure
  type: dict
  sample:
    class: engine_unreachable
    message: "the Docker engine at docker_host 'unix:///var/run/docker.sock' does not answer: connection refused"
    remedy: Start the Docker engine on this host.
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils import docker_module, local_facts, sglang_inspection
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError


def argument_spec():
    return {
        "name": {"type": "str"},
        "port": {"type": "int"},
        "match_labels": {"type": "dict", "default": {}},
        "facts_file": {"type": "path", "default": "/etc/ansible/facts.d/preheat.fact"},
        "timeout_seconds": {"type": "float", "default": 30},
        **docker_module.ENGINE_ARGUMENTS,
    }


def main():
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("name", "match_labels")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["timeout_seconds"] <= 0:
            raise LaunchError(
                "invalid", f"timeout_seconds is {params['timeout_seconds']:g}", "Give a number of seconds above 0."
            )
        launches = local_facts.read(params["facts_file"]).get("launches") or []
        found = docker_module.through_engine(module, lambda client: sglang_inspection.servers(client, params, launches))
    except LaunchError as error:
        module.fail_json(
            msg=f"{error.message.rstrip('.')}. {error.remedy}",
            error={"class": error.error_class, "message": error.message, "remedy": error.remedy},
        )
    module.exit_json(changed=False, servers=found)


if __name__ == "__main__":
    main()
