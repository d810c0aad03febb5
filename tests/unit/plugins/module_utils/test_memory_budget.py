from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.memory_budget import file_budget_bytes

GIB = 1 << 30
MEMINFO = "MemTotal:       104857600 kB\nMemFree:  1 kB\nMemAvailable:   83886080 kB\n"  # 100 and 80 GiB


def host(root, cgroup, files):
    for path, text in {"proc/meminfo": MEMINFO, "proc/self/cgroup": cgroup, **files}.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return str(root)


V1 = "sys/fs/cgroup/memory/docker/a"


@pytest.mark.parametrize(
    ("cgroup", "files", "budget"),
    [
        ("0::/\n", {}, 70 * GIB),
        ("", {}, 70 * GIB),
        # No limit of its own, but one on the slice: 8 GiB of 20 in use, of which 3 are files.
        (
            "0::/user.slice/session-1.scope\n",
            {
                "sys/fs/cgroup/user.slice/memory.max": f"{20 * GIB}\n",
                "sys/fs/cgroup/user.slice/memory.current": f"{8 * GIB}\n",
                "sys/fs/cgroup/user.slice/memory.stat": f"anon 1\ninactive_file {GIB}\nactive_file {2 * GIB}\n",
                "sys/fs/cgroup/user.slice/session-1.scope/memory.max": "max\n",
                "sys/fs/cgroup/user.slice/session-1.scope/memory.current": "5\n",
            },
            15 * GIB,
        ),
        (
            "9:name=systemd:/docker/a\n4:cpu,memory:/docker/a\n0::/docker/a\n",
            {
                f"{V1}/memory.limit_in_bytes": f"{10 * GIB}\n",
                f"{V1}/memory.usage_in_bytes": f"{4 * GIB}\n",
                f"{V1}/memory.stat": f"total_inactive_file {GIB}\ntotal_active_file 0\n",
            },
            7 * GIB,
        ),
        # In a container: the host's path, but only the container's own part is mounted.
        (
            "0::/system.slice/docker-a.scope\n",
            {
                "sys/fs/cgroup/memory.max": f"{5 * GIB}\n",
                "sys/fs/cgroup/memory.current": f"{GIB}\n",
                "sys/fs/cgroup/memory.stat": "\n",
            },
            4 * GIB,
        ),
        (
            "4:memory:/\n",
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "7\n",
            },
            70 * GIB,
        ),
    ],
)
def test_budget(tmp_path, cgroup, files, budget):
    assert file_budget_bytes(host(tmp_path, cgroup, files)) == budget


def test_never_less_than_nothing(tmp_path):
    root = host(tmp_path, "", {"proc/meminfo": "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n"})
    assert file_budget_bytes(root) == 0


def test_this_machine():
    assert file_budget_bytes() >= 0
