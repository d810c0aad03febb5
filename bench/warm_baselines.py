"""What the swarm is compared with: on the same fleet every host from the Hub, and a download followed by copying; on
one host `hf download` beside preheat's own module."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import ansible

DOWNLOAD = "import sys, huggingface_hub as h; h.snapshot_download(sys.argv[1], cache_dir=sys.argv[2])"


def environment(endpoint: str) -> list[str]:
    return ["env", f"HF_ENDPOINT={endpoint}", "HF_HUB_DISABLE_PROGRESS_BARS=1", "HF_HUB_DISABLE_XET=1"]


def every_host_from_the_hub(fleet, repo: str, python: str) -> float:
    """Seconds until the last host is complete."""
    begin = time.monotonic()
    command = [*environment(fleet.endpoint), python, "-c", DOWNLOAD, repo]
    running = [host.popen([*command, str(host.cache)], stdout=subprocess.DEVNULL) for host in fleet.hosts]
    if any(process.wait() for process in running):
        raise SystemExit("a host could not download")
    return time.monotonic() - begin


def download_then_rsync_chain(fleet, repo: str, python: str) -> float | None:
    """The first host downloads; then every host copies each file from the one before it as soon as that has it."""
    if not shutil.which("rsync"):
        return None
    begin = time.monotonic()
    first = fleet.hosts[0]
    command = [*environment(fleet.endpoint), python, "-c", DOWNLOAD, repo, str(first.cache)]
    if first.popen(command, stdout=subprocess.DEVNULL).wait():
        raise SystemExit("the first host could not download")
    folder = "models--" + repo.replace("/", "--")
    files = sorted(path.name for path in (first.cache / folder / "blobs").iterdir())
    held = {host.name: {name: threading.Event() for name in files} for host in fleet.hosts}
    for event in held[first.name].values():
        event.set()
    for host in fleet.hosts:
        _serve(host)
    time.sleep(0.5)

    def follow(host, previous) -> None:
        (host.cache / folder / "blobs").mkdir(parents=True)
        for name in files:
            held[previous.name][name].wait()
            source = f"rsync://{previous.address}/hub/{folder}/blobs/{name}"
            host.popen(["rsync", "-W", source, f"{host.cache}/{folder}/blobs/"]).wait()
            held[host.name][name].set()
        host.popen(["rsync", "-a", f"rsync://{first.address}/hub/{folder}/", f"{host.cache}/{folder}/"]).wait()

    threads = [threading.Thread(target=follow, args=pair) for pair in zip(fleet.hosts[1:], fleet.hosts, strict=False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - begin


def _serve(host) -> None:
    settings = host.cache.parent / "rsyncd.conf"
    lines = ["uid = root", "gid = root", "use chroot = no", f"pid file = {settings}.pid"]
    settings.write_text("\n".join([*lines, "[hub]", f"path = {host.cache}", "read only = yes"]) + "\n")
    host.cache.mkdir(parents=True, exist_ok=True)
    host.popen(["rsync", "--daemon", "--no-detach", f"--config={settings}"], stdout=subprocess.DEVNULL)


def hf_download(endpoint: str, repo: str, python: str, cache: Path) -> float:
    """Seconds of the command that everybody uses, verified by nobody."""
    begin = time.monotonic()
    command = [str(Path(python).with_name("hf")), "download", repo, "--cache-dir", str(cache), "--quiet"]
    subprocess.run([*environment(endpoint), *command], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def hf_model(endpoint: str, repo: str, python: str, cache: Path) -> float:
    """Seconds of preheat's module, started as Ansible starts it; every byte is verified, and flushed."""
    begin = time.monotonic()
    arguments = {"repo_id": repo, "cache_dir": str(cache), "endpoint": endpoint, "min_free_bytes": 0}
    module = "ansible_collections.preheat.fleet.plugins.modules.hf_model"
    command = [python, "-m", module, json.dumps({"ANSIBLE_MODULE_ARGS": arguments})]
    # Ansible sends these along with the module.
    packages = [str(Path(__file__).parents[1] / ".collections"), str(Path(ansible.__file__).parents[1])]
    subprocess.run(["env", f"PYTHONPATH={':'.join(packages)}", *command], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin
