#!/usr/bin/python

# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: What GPUs a host has, what runs on them and how they are linked
version_added: 0.1.0
description:
  - Asks C(nvidia-smi), C(amd-smi) or C(rocm-smi), whichever is there, and returns the same shape for all of them.
  - Needs nothing but Python on the host. No GPU is a valid answer, and so is a driver that does not work.
author:
  - The preheat maintainers (@preheat)
options:
  timeout_seconds:
    description:
      - How long one call of the vendor's tool may take before the driver is called hanging.
    type: float
    default: 30
extends_documentation_fragment:
  - preheat.fleet.info
"""

EXAMPLES = r"""
- name: Look at the GPUs
  preheat.fleet.gpu_info:
  register: gpu

- name: Refuse a host whose driver is broken
  ansible.builtin.assert:
    that: gpu.error is none
    fail_msg: "{{ gpu.error }}"

- name: Show the GPUs that have NVLink to GPU 0
  ansible.builtin.debug:
    msg: "{{ gpu.topology.links['0'] | dict2items | selectattr('value', 'match', 'NV') | map(attribute='key') }}"
"""

RETURN = r"""
vendor:
  description: Whose GPUs they are; V(none) without any sign of a GPU.
  returned: always
  type: str
  sample: nvidia
driver_version:
  description: Version of the vendor's driver.
  returned: always, may be null
  type: str
  sample: 580.159.04
cuda_version:
  description: Newest CUDA version that the driver supports.
  returned: always, null for other vendors than NVIDIA
  type: str
  sample: "13.0"
error:
  description: Why the tool gave no answer, or which GPUs are lost or ask for a reset.
  returned: always, null if all is well
  type: str
  sample: "nvidia-smi (exit code 9): NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
gpus:
  description: The GPUs, ordered by index. A value that the tool does not know is null.
  returned: always
  type: list
  elements: dict
  contains:
    index:
      description: Number of the GPU in the vendor's tools.
      type: int
    uuid:
      description: Identity of the GPU, the same after a reboot.
      type: str
    name:
      description: Product name.
      type: str
    pci_bus_id:
      description: PCI address.
      type: str
    memory_total_bytes:
      description: Size of the GPU's memory.
      type: int
    memory_free_bytes:
      description: Memory that nothing holds.
      type: int
    memory_used_bytes:
      description: Memory in use. With MIG the memory of the whole GPU.
      type: int
    utilization_percent:
      description: Share of time in which a kernel ran. Unknown with MIG.
      type: float
    processes:
      description:
        - Processes that hold memory of the GPU, each with C(pid), C(name), C(memory_used_bytes).
        - Inside a container the tool may see none. C(rocm-smi) does not tell them by GPU.
      type: list
      elements: dict
    mig:
      description:
        - MIG devices, each with C(index), C(uuid), C(profile), C(gpu_instance_id), C(compute_instance_id), memory.
        - Null if MIG is off.
      type: list
      elements: dict
    error:
      description: Why the GPU cannot be used, null if it can.
      type: str
  sample:
    - index: 0
      uuid: GPU-9641675a-3230-322b-dc6e-284b7574a256
      name: NVIDIA H100 80GB HBM3
      pci_bus_id: 00000000:00:06.0
      memory_total_bytes: 85520809984
      memory_free_bytes: 82317410304
      memory_used_bytes: 2700083200
      utilization_percent: 0.0
      processes: [{pid: 402, name: python3, memory_used_bytes: 2690646016}]
      mig: null
      error: null
topology:
  description:
    - C(links) between GPUs by their indexes (V(NV18), V(PIX), V(SYS), V(XGMI), ...), their C(numa) nodes and C(cpus).
    - Empty if the tool tells none.
  returned: always
  type: dict
  sample:
    links: {"0": {"1": NV18}, "1": {"0": NV18}}
    numa: {"0": 0, "1": 0}
    cpus: {"0": "0-55", "1": "0-55"}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.preheat.fleet.plugins.module_utils.gpu_inventory import inventory


def main():
    module = AnsibleModule(
        argument_spec={"timeout_seconds": {"type": "float", "default": 30}},
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **inventory(module.params["timeout_seconds"]))


if __name__ == "__main__":
    main()
