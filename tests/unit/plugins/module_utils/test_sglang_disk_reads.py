from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.sglang_disk_reads import read_bytes

ID = "0123456789abcdef"


def entry(major, minor, op, value):
    return {"major": major, "minor": minor, "op": op, "value": value}


def test_what_lies_on_other_devices_is_counted_once(tmp_path):
    (tmp_path / "253:0/slaves/nvme0n1").mkdir(parents=True)
    (tmp_path / "259:0/slaves").mkdir(parents=True)
    account = [entry(253, 0, "read", 70), entry(259, 0, "Read", 70), entry(259, 0, "write", 5), entry(8, 0, "read", 1)]
    assert read_bytes(account, ID, devices=str(tmp_path)) == 71


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ({}, None),
        ({"7": ("0::/docker/other", "read_bytes: 9\n")}, None),
        (
            {
                "7": (f"0::/system.slice/docker-{ID}.scope", "rchar: 1\nread_bytes: 4096\nwrite_bytes: 2\n"),
                "8": (f"4:memory:/docker/{ID}", "read_bytes: 1\n"),
                "9": (f"0::/docker/{ID}", None),  # not ours to see
                "self": (f"0::/docker/{ID}", "read_bytes: 5\n"),
            },
            4097,
        ),
    ],
)
def test_without_an_account_the_processes_are_asked(tmp_path, processes, expected):
    for name, (cgroup, io) in processes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup").write_text(cgroup + "\n")
        if io is not None:
            (tmp_path / name / "io").write_text(io)
    assert read_bytes([], ID, processes=str(tmp_path)) == expected
