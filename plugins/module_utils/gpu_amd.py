# Copyright (c) 2026, The preheat maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What amd-smi says, or the older rocm-smi where there is no amd-smi."""

from __future__ import annotations

import json
import re

from ansible_collections.preheat.fleet.plugins.module_utils.gpu_tools import (
    ToolError,
    failure,
    known,
    quantity_bytes,
    quantity_int,
    quantity_percent,
)

ROCM_SMI_ARGUMENTS = (
    "--showproductname",
    "--showbus",
    "--showuniqueid",
    "--showmeminfo",
    "vram",
    "--showuse",
    "--showdriverversion",
    "--showtopo",
    "--json",
)
_LINK = re.compile(r"^\(Topology\) Link type between DRM devices (\d+) and (\d+)$")


def collect_amd_smi(run):
    """Ask amd-smi through run(*arguments) -> (exit code, stdout, stderr); the result is gpu_info's."""
    answers = {}
    for topic in ("list", "static", "metric", "process", "topology"):
        code, stdout, stderr = run(topic, "--json")
        answers[topic] = _records(stdout) if code == 0 else None
        if answers[topic] is None and topic in ("static", "metric"):
            raise ToolError(failure(f"amd-smi {topic} --json", code, stdout, stderr))
    return parse_amd_smi(**{topic: records or [] for topic, records in answers.items()})


def collect_rocm_smi(run):
    """Ask rocm-smi likewise."""
    code, stdout, stderr = run(*ROCM_SMI_ARGUMENTS)
    document = _json(stdout)
    if code or not isinstance(document, dict):
        raise ToolError(failure("rocm-smi", code, stdout, stderr))
    return parse_rocm_smi(document)


def _json(text):
    """The JSON document in a tool's output, which may stand behind warnings."""
    start = re.search(r"^[\[{]", text, re.MULTILINE)
    try:
        return json.loads(text[start.start() :]) if start else None
    except ValueError:
        return None


def _records(text):
    """The records of the GPUs; since ROCm 6.4 some commands wrap them in {"gpu_data": [...]}."""
    document = _json(text)
    if isinstance(document, dict):
        document = document.get("gpu_data")
    return [entry for entry in document if "gpu" in entry] if isinstance(document, list) else None


def parse_amd_smi(static, metric, **others):
    """Join the records of `amd-smi list|static|metric|process|topology --json` by GPU number."""
    by_topic = {
        topic: {entry["gpu"]: entry for entry in records}
        for topic, records in dict(others, static=static, metric=metric).items()
    }
    gpus, links, numa = [], {}, {}
    for index in sorted(by_topic["static"]):
        facts = by_topic["static"][index]
        listed = by_topic.get("list", {}).get(index, {})
        gpus.append(
            {
                "index": index,
                "uuid": known(listed.get("uuid")),
                "name": known(_dig(facts, "asic", "market_name")),
                "pci_bus_id": known(listed.get("bdf")) or known(_dig(facts, "bus", "bdf")),
                "processes": _processes(by_topic.get("process", {}).get(index, {})),
                "mig": None,
                "error": None,
                **_usage(facts, by_topic["metric"].get(index, {})),
            }
        )
        numa[str(index)] = quantity_int(_dig(facts, "numa", "node"))
        links[str(index)] = {
            str(link["gpu"]): link["link_type"]
            for link in by_topic.get("topology", {}).get(index, {}).get("links", [])
            if link.get("gpu") != index and known(link.get("link_type"))
        }
    driver = next((_dig(entry, "driver", "version") for entry in by_topic["static"].values()), None)
    return _info(gpus, known(driver), links, numa)


def _usage(facts, metric):
    memory = metric.get("mem_usage")
    memory = memory if isinstance(memory, dict) else {}
    return {
        "memory_total_bytes": quantity_bytes(memory.get("total_vram") or _dig(facts, "vram", "size")),
        "memory_free_bytes": quantity_bytes(memory.get("free_vram")),
        "memory_used_bytes": quantity_bytes(memory.get("used_vram")),
        "utilization_percent": quantity_percent(_dig(metric, "usage", "gfx_activity")),
    }


def _processes(record):
    """Processes of a GPU; an idle one has the text 'No running processes detected' in their place."""
    entries = [entry.get("process_info") for entry in record.get("process_list", [])]
    return [
        {
            "pid": quantity_int(entry.get("pid")),
            "name": known(entry.get("name")),
            "memory_used_bytes": quantity_bytes(_dig(entry, "memory_usage", "vram_mem") or entry.get("mem_usage")),
        }
        for entry in entries
        if isinstance(entry, dict)
    ]


def parse_rocm_smi(document):
    """Read the document of rocm-smi, whose keys changed their case between versions."""
    cards = {int(key[4:]): _lower(card) for key, card in document.items() if re.match(r"^card\d+$", key)}
    system = document.get("system", {})
    gpus, links, numa = [], {}, {}
    for index, card in sorted(cards.items()):
        total = quantity_bytes(card.get("vram total memory (b)"))
        used = quantity_bytes(card.get("vram total used memory (b)"))
        gpus.append(
            {
                "index": index,
                "uuid": known(card.get("unique id")),
                "name": known(card.get("card series")) or known(card.get("card model")),
                "pci_bus_id": known(card.get("pci bus")),
                "memory_total_bytes": total,
                "memory_free_bytes": None if total is None or used is None else total - used,
                "memory_used_bytes": used,
                "utilization_percent": quantity_percent(card.get("gpu use (%)")),
                "processes": [],
                "mig": None,
                "error": None,
            }
        )
        numa[str(index)] = quantity_int(card.get("(topology) numa node"))
        links[str(index)] = {}
    for key, link_type in system.items():
        match = _LINK.match(key)
        if match and {int(match.group(1)), int(match.group(2))} <= set(cards):
            links[match.group(1)][match.group(2)] = links[match.group(2)][match.group(1)] = link_type
    return _info(gpus, known(_lower(system).get("driver version")), links, numa)


def _info(gpus, driver_version, links, numa):
    topology = {"links": links, "numa": numa, "cpus": {}} if gpus else {}
    return {"driver_version": driver_version, "cuda_version": None, "gpus": gpus, "topology": topology, "error": None}


def _lower(mapping):
    return {key.lower(): value for key, value in mapping.items()}


def _dig(record, *keys):
    """A nested value; amd-smi writes the text N/A where a whole section is missing."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record
