"""The disk of the results fills up in mid-sweep."""

from __future__ import annotations

import os
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB (mounting needs root)."""
    folder = tmp_path / "small"
    folder.mkdir()
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = ["mount", "-t", "tmpfs", "-o", f"size=4m,uid={os.geteuid()}", "preheat-faults", str(folder)]
    subprocess.run([*sudo, *mount], check=True)
    yield folder
    subprocess.run([*sudo, "umount", "--lazy", str(folder)], check=True)


def fill(folder) -> None:
    with open(folder / "ballast", "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            pass


def test_a_full_disk_and_space_again(fleet, sweep, small_disk):
    under_test = sweep(trials=12, benchmark_seconds=1.0, results=small_disk)
    run = under_test.start()
    run.wait_for(r"trial \d+ .*: complete")
    fill(small_disk)
    assert run.ended() != 0, run.output()
    assert "No space left on device" in run.output()
    kept = under_test.texts()
    assert 0 < len(kept) < 12, run.output()
    (small_disk / "ballast").unlink()
    last = under_test.run()
    assert set(last.begun()).isdisjoint(kept)
    under_test.check_whole(fleet, kept)
