"""Looks for secrets: in every process while something runs, and afterwards in all that it may have written."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from pathlib import Path

# Where a host could keep something; containers' configurations and logs are in the last.
FOLDERS = "/root /home /opt /etc /run /tmp /var/tmp /var/log /dev/shm /var/lib/docker/containers"


def forms(secret: str) -> list[str]:
    """A secret as it stands, and what it is in base64 wherever it begins in the text around it."""
    raw, found = secret.encode(), [secret]
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw).decode()
        # Without the characters that also depend on what stands before and behind it.
        whole = coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        found += [whole, whole.replace("+", "-").replace("/", "_")]
    return sorted(set(found))


class Watch:
    """with Watch(secrets) as watch: ...; watch.seen then has the processes with a secret in arguments or environment.

    The lab's hosts are containers of this machine: root sees their processes here, and those of their containers.
    """

    def __init__(self, secrets: list[str]):
        self._patterns = [form.encode() for secret in secrets for form in forms(secret)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: set[str] = set()
        self.looked_at: set[str] = set()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            for process in (name for name in os.listdir("/proc") if name.isdigit()):
                for part in ("cmdline", "environ"):
                    try:
                        content = Path("/proc", process, part).read_bytes()
                    except OSError:  # it has ended, or is another user's
                        continue
                    words = content.replace(b"\0", b" ")[:100].decode(errors="replace")
                    if part == "cmdline":
                        self.looked_at.add(words)
                    if any(pattern in content for pattern in self._patterns):
                        self.seen.add(f"{part} of {process}: {words}")
            self._ended.wait(0.1)


def left_on(fleet, host: str, secrets: list[str]) -> list[str]:
    """Files of a host that have a secret in them, and 'docker inspect' if it shows one of a container."""
    patterns = "\n".join(form for secret in secrets for form in forms(secret)).encode()  # in no argument of grep

    def lines(command: str) -> list[str]:
        return fleet.read(host, f"{{ {command} || true; }} 3<&0", patterns).decode().splitlines()

    found = lines(f"grep -rlaF --devices=skip -f /dev/fd/3 {FOLDERS} 2>/dev/null")
    shown = lines("docker ps -aq </dev/null | xargs -r docker inspect | grep -aF -f /dev/fd/3")
    return found + ["docker inspect"] * bool(shown)


def left_here(secrets: list[str], *folders: Path) -> list[Path]:
    """Files below these folders, and of Ansible's own on the controller, that have a secret in them."""
    patterns = [form.encode() for secret in secrets for form in forms(secret)]
    found = []
    for folder in (*folders, Path("~/.ansible").expanduser()):
        for parent, _folders, names in os.walk(folder):  # takes it well that other runs remove theirs meanwhile
            for path in (Path(parent, name) for name in names):
                with contextlib.suppress(OSError):
                    if path.is_file() and any(pattern in path.read_bytes() for pattern in patterns):
                        found.append(path)
    return found
