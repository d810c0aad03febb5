#!/usr/bin/python
# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin hf_swarm; it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_swarm
short_description: Hold a snapshot of a Hugging Face Hub repo on many hosts, read from the Hub once
version_added: "0.1.0"
description:
  - Makes sure that one revision of a repo is in the Hugging Face cache of all hosts of the play, complete and verified,
    as M(preheat.fleet.hf_model) does for each host alone. The Hub is read once for all of them.
  - The controller asks the Hub for the commit and its files; sizes and hashes of that listing are what every host
    checks its files against, wherever the bytes came from. If the Hub cannot be reached, the listing is taken that
    hosts of the play have recorded for O(revision), unless they contradict each other.
  - One host, the seed, reads the Hub file by file. Each file that is complete and right is shared at once with all
    hosts, and by them among each other, while the next one is on its way. What some host holds is not read from the
    Hub.
  - When the seed is lost, another host goes on with what no living host has. A host that is lost or slow harms nobody.
  - Hosts share over BitTorrent connections that are encrypted and open to hosts of this play only; there is no tracker,
    no DHT and no discovery. Torrents travel over Ansible's own connections. The token is given to the seed alone.
  - A host without libtorrent takes whole files from the others, and gives what it has, over HTTPS with a certificate
    made for this run, which both sides must show.
  - All hosts work on the task at the same time, so there must be as many forks as hosts.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.huggingface
options:
  repo_id:
    description: The repo, C(ORG/NAME).
    type: str
    required: true
  revision:
    description: Branch, tag or commit (40 digits).
    type: str
    default: main
  token:
    description: Token for private and gated repos.
    type: str
  endpoint:
    description: The Hub, for the controller and the seed.
    type: str
  fallback_endpoints:
    description:
      - Other endpoints of the Hub, such as mirrors, for what O(endpoint) does not give. They get O(token) too.
    type: list
    elements: str
  verify:
    description:
      - How files that are already there are checked. V(size) looks at their sizes, V(full) reads all their bytes.
      - A file that is given to other hosts is read and checked in any case.
    type: str
    choices: [size, full]
    default: size
  connections:
    description: Connections to the Hub at the same time.
    type: int
    default: 8
  retries:
    description: How often a request is repeated that failed in a way that may pass.
    type: int
    default: 5
  min_free_bytes:
    description: What must stay free on the disk of the cache; checked before anything is fetched.
    type: int
    default: 1073741824
  address:
    description:
      - The host's own address, at which the others reach it.
      - Without it, the one at which Ansible reaches it.
    type: str
  port:
    description:
      - Port of the host for its peers, and the next one for HTTPS, where a host has no libtorrent.
      - V(0) takes any that are free.
    type: int
    default: 0
  upload_mb_per_second:
    description:
      - Limit of what the host sends to its peers, in megabytes (10^6 bytes) per second. V(0) is no limit.
      - Where hosts with and without libtorrent meet, it holds for each of the two ways.
    type: float
    default: 0
  download_mb_per_second:
    description: Limit of what it takes from them.
    type: float
    default: 0
  stall_seconds:
    description:
      - A host that has got no byte from its peers for so long asks the Hub for what it lacks; if that gives none
        either, it fails.
      - A transfer from the Hub that brings none for so long is cut and tried anew, at the next endpoint if there are
        several.
    type: int
    default: 120
  transport:
    description:
      - V(auto) shares pieces over BitTorrent between hosts that have libtorrent, whole files over HTTPS with others.
      - V(https) does without libtorrent on all hosts, for instance where a network forbids BitTorrent. It takes longer.
    type: str
    choices: [auto, https]
    default: auto
attributes:
  check_mode:
    support: full
    description: Returns the files and bytes that the host lacks.
  diff_mode:
    support: full
    description: Shows the files that come, and the refs that move.
  idempotent:
    support: full
    description: By commit it is; a branch may have moved on the Hub.
  action:
    support: full
    description: Runs on the controller, and M(preheat.fleet.hf_swarm_peer) on the hosts.
seealso:
  - module: preheat.fleet.hf_model
"""

EXAMPLES = r"""
- name: Hold a model on all hosts
  preheat.fleet.hf_swarm:
    repo_id: Qwen/Qwen3-8B
  vars:
    ansible_python_interpreter: "{{ gpu_host_venv }}/bin/python"

- name: Leave room on the network for others
  preheat.fleet.hf_swarm:
    repo_id: Qwen/Qwen3-8B
    address: "{{ storage_network_address }}"
    upload_mb_per_second: 200
"""

RETURN = r"""
listing_from:
  description:
    - What the files were checked against. V(hub), the listing that the controller asked for; V(hosts), one that hosts
      of the play had recorded earlier, because the Hub could not be reached, which a warning says, too.
  returned: success
  type: str
  sample: hub
bytes_from_hub:
  description: What this host read from the Hub.
  returned: success, not in check mode
  type: int
  sample: 0
bytes_from_peers:
  description: What it got from other hosts; some blocks may come twice.
  returned: success, not in check mode
  type: int
  sample: 16397461110
bytes_sent:
  description: What it sent to other hosts.
  returned: success, not in check mode
  type: int
  sample: 15032385536
seconds:
  description: Time until all hosts were complete.
  returned: success, not in check mode
  type: float
  sample: 190.2
source:
  description:
    - Where the missing bytes came from, one of C(hub), C(swarm), C(hub+swarm) and C(cache) (nothing was missing).
  returned: success
  type: str
  sample: swarm
commit:
  description: The commit. This and all else is as M(preheat.fleet.hf_model) returns it.
  returned: success
  type: str
  sample: b968826d9c46dd6066d109eabc6255188de91218
reason:
  description:
    - What failed, for programs. One of those of M(preheat.fleet.hf_model), or of C(too_few_forks), C(no_address),
      C(stalled), C(incomplete) and C(agent).
  returned: failure
  type: str
  sample: stalled
remedy:
  description: What to do about it; also part of C(msg).
  returned: failure
  type: str
  sample: Run with --forks 100, or set forks in ansible.cfg.
"""
