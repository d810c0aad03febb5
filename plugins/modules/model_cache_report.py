#!/usr/bin/python
# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin model_cache_report; it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_cache_report
short_description: One table of what all hosts of a play hold
version_added: "0.1.0"
description:
  - Prints a line for each host and model with its state, the bytes from the Hub and from peers, the time, the rate, and
    how it was verified; then what failed, with the C(--limit) that repeats it. Writes the same as JSON.
  - The role P(preheat.fleet.model_cache#role) runs it once for all hosts and leaves C(_model_cache_held) for it on
    each, with C(results), and C(failure) where there was one.
author:
  - The preheat maintainers (@preheat)
extends_documentation_fragment:
  - preheat.fleet.controller
options:
  way:
    description: Whether each host was alone with the Hub, or all were a swarm.
    type: str
    choices: [hub, swarm]
    required: true
  report_file:
    description: File on the controller that is written, not in check mode. Empty for none.
    type: path
attributes:
  check_mode:
    support: full
    description: Prints what would be done, writes no file.
"""

EXAMPLES = r"""
- name: Say what is held
  preheat.fleet.model_cache_report:
    way: hub
    report_file: results/warm.json
  run_once: true
"""

RETURN = r"""
rows:
  description:
    - One entry for each host and model. C(state) is one of C(complete) (nothing was to be done), C(fetched),
      C(repaired), C(linked) and C(failed); in check mode C(damaged), C(to fetch) or C(to link).
    - C(error) has the C(reason), C(message) and C(remedy) of a failure, else it is null.
  returned: success
  type: list
  elements: dict
  sample:
    - host: gpu1
      repo_id: Qwen/Qwen3-8B
      revision: main
      commit: b968826d9c46dd6066d109eabc6255188de91218
      state: fetched
      source: swarm
      bytes_total: 16397461110
      bytes_to_fetch: 16397461110
      bytes_from_hub: 0
      bytes_from_peers: 16397461110
      bytes_from_seed: 0
      seconds: 190.2
      mb_per_second: 86.2
      verified: hash
      repaired: []
      error: null
failed_hosts:
  description: The hosts to repeat.
  returned: success
  type: list
  elements: str
  sample: []
report_file:
  description: The file that was written.
  returned: success
  type: str
  sample: /home/ops/preheat/results/warm.json
"""
