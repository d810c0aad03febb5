"""The swarm on hosts in network namespaces: complete, right, private, and whole again when hosts die."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import warm_fleet  # noqa: E402 after the path
import warm_swarm  # noqa: E402

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("tc"), reason="network namespaces need root and iproute2"
)
REPO, SHARDS, SHARD_BYTES = "org/model", 8, 3 << 20
MODEL_BYTES = SHARDS * SHARD_BYTES


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swarm")
    warm_fleet.make_model(folder / "models", REPO, SHARDS, SHARD_BYTES)
    # So slow that every step can be interrupted, so fast that nobody has to wait long.
    with warm_fleet.Fleet(folder, hosts=4, hub_mbit=40, lan_mbit=80, python=warm_fleet.host_python()) as fleet:
        yield fleet


@pytest.fixture
def fleet(network):
    network.start()
    yield network
    for host in network.hosts:
        host.kill_processes()


@pytest.fixture
def mixed(network):
    """A fleet of which two hosts lack libtorrent."""
    for host in network.hosts[2:]:
        host.has_libtorrent = False
    network.start()
    yield network
    for host in network.hosts:
        host.kill_processes()
        host.has_libtorrent = True


def hub_share(fleet) -> float:
    """Bytes that the hosts read of the Hub, in models."""
    return fleet.hub_bytes(REPO) / MODEL_BYTES


def explain(outcome) -> str:
    errors = [f"{host}: {error} {getattr(error, 'details', '')}" for host, error in outcome.errors.items()]
    return "\n".join([*errors, *(f"{at:.1f} {host}: {text}" for at, host, text in outcome.lines)])


def blobs(host) -> list[Path]:
    return [path for path in host.cache.glob("models--*/blobs/*") if not path.name.endswith(".incomplete")]


def wait_until(condition, timeout_seconds: float = 30) -> None:
    end = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_the_hub_is_read_once_and_every_host_is_complete(fleet):
    outcome = warm_swarm.SwarmRun(fleet, REPO).start().wait(60)
    assert not outcome.errors, explain(outcome)
    assert warm_swarm.wrong_blobs(fleet, REPO) == 0
    assert 1.0 <= hub_share(fleet) < 1.05
    reports = outcome.reports.values()
    assert sorted(report["source"] for report in reports) == ["hub", "swarm", "swarm", "swarm"]
    assert all(report["verified"] == "hash" and report["changed"] for report in reports)
    assert not list(fleet.folder.glob("host*/hub/models--*/blobs/*.incomplete"))

    fleet.hub("reset", {})
    again = warm_swarm.SwarmRun(fleet, REPO).start().wait(60)
    assert [report["changed"] for report in again.reports.values()] == [False] * 4, explain(again)
    assert fleet.hub_bytes(REPO) == 0

    # huggingface_hub sees an ordinary cache, without network.
    load = "import huggingface_hub as h, sys; print(h.snapshot_download(sys.argv[1], cache_dir=sys.argv[2]))"
    command = [warm_fleet.host_python(), "-c", load, REPO, str(fleet.hosts[2].cache)]
    done = subprocess.run(
        command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert "/snapshots/" in done.stdout, done.stderr


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_when_the_seed_dies_another_one_fetches_only_what_is_missing(fleet, share):
    run = warm_swarm.SwarmRun(fleet, REPO).start()
    wait_until(lambda: run.progress() >= share)
    seed = next(host for host in fleet.hosts if host.name == run.seed())
    seed.kill()
    survivors = [host for host in fleet.hosts if host is not seed]
    landed = {blob.name: blob.stat().st_size for host in survivors for blob in blobs(host)}
    read = fleet.hub("stats")["clients"][seed.address]["repos"][REPO]
    outcome = run.wait(90)
    assert set(outcome.errors) == {seed.name}, explain(outcome)
    assert warm_swarm.wrong_blobs(fleet, REPO, survivors) == 0
    # What the dead seed alone held is at most what it had read and no survivor had landed.
    assert fleet.hub_bytes(REPO) <= MODEL_BYTES * 1.05 + max(0, read - sum(landed.values())), explain(outcome)


def test_hosts_without_libtorrent_need_none(fleet):
    """All of them, and the seed dies."""
    run = warm_swarm.SwarmRun(fleet, REPO, transport="https").start()
    wait_until(lambda: run.progress() >= 0.5)
    seed = next(host for host in fleet.hosts if host.name == run.seed())
    seed.kill()
    outcome = run.wait(90)
    survivors = [host for host in fleet.hosts if host is not seed]
    assert set(outcome.errors) == {seed.name}, explain(outcome)
    assert warm_swarm.wrong_blobs(fleet, REPO, survivors) == 0
    assert hub_share(fleet) < 2  # what the dead seed alone held is read again, and no more
    assert not [host.name for host in survivors if list(host.cache.glob("models--*/blobs/*.incomplete"))]


def test_hosts_with_and_without_libtorrent_warm_each_other(mixed):
    outcome = warm_swarm.SwarmRun(mixed, REPO).start().wait(60)
    assert not outcome.errors, explain(outcome)
    assert warm_swarm.wrong_blobs(mixed, REPO) == 0
    assert hub_share(mixed) < 1.05
    assert sorted({host for _at, host, text in outcome.lines if "no libtorrent" in text}) == ["host3", "host4"]
    # What only a host without libtorrent holds comes from it.
    mixed.hub("reset", {})
    for host in (*mixed.hosts[:2], mixed.hosts[3]):
        shutil.rmtree(host.cache)
    outcome = warm_swarm.SwarmRun(mixed, REPO).start().wait(60)
    assert not outcome.errors, explain(outcome)
    assert warm_swarm.wrong_blobs(mixed, REPO) == 0
    assert hub_share(mixed) < 0.05  # a piece may be asked for before the host that has it has said so


def test_a_dead_host_without_libtorrent_harms_nobody(mixed):
    run = warm_swarm.SwarmRun(mixed, REPO).start()
    wait_until(lambda: run.progress() >= 0.4)
    victim = mixed.hosts[3]
    victim.kill()
    outcome = run.wait(60)
    assert set(outcome.errors) == {victim.name}, explain(outcome)
    assert warm_swarm.wrong_blobs(mixed, REPO, mixed.hosts[:3]) == 0
    assert hub_share(mixed) < 1.05


def test_a_dead_leecher_harms_nobody(fleet):
    run = warm_swarm.SwarmRun(fleet, REPO).start()
    wait_until(lambda: run.progress() >= 0.3)
    victim = next(host for host in fleet.hosts if host.name != run.seed())
    victim.kill()
    outcome = run.wait(60)
    assert set(outcome.errors) == {victim.name}, explain(outcome)
    assert warm_swarm.wrong_blobs(fleet, REPO, [host for host in fleet.hosts if host is not victim]) == 0
    assert hub_share(fleet) < 1.05


def test_an_agent_that_dies_is_started_again_and_keeps_what_it_had(fleet):
    run = warm_swarm.SwarmRun(fleet, REPO).start()
    wait_until(lambda: run.progress() >= 0.5)
    victim = next(host for host in fleet.hosts if host.name != run.seed())
    (agent,) = [pid for pid in victim.pids() if pid != victim.process.pid]  # `ip netns exec` becomes its command
    os.kill(agent, 9)
    outcome = run.wait(60)
    assert not outcome.errors, explain(outcome)
    assert warm_swarm.wrong_blobs(fleet, REPO) == 0
    assert hub_share(fleet) < 1.05


def test_what_hosts_hold_is_not_read_from_the_hub(fleet):
    first = warm_swarm.SwarmRun(fleet, REPO).start().wait(60)
    assert not first.errors, explain(first)
    fleet.hub("reset", {})
    # Two hosts hold different halves, the others nothing.
    names = sorted({blob.name for blob in blobs(fleet.hosts[0])})
    for number, host in enumerate(fleet.hosts):
        for blob in blobs(host):
            if number > 1 or names.index(blob.name) % 2 == number:
                blob.unlink()
    outcome = warm_swarm.SwarmRun(fleet, REPO).start().wait(60)
    assert not outcome.errors, explain(outcome)
    assert warm_swarm.wrong_blobs(fleet, REPO) == 0
    assert fleet.hub_bytes(REPO) == 0


@pytest.mark.parametrize(
    ("moment", "transport"), [("before", "auto"), ("while it is shared", "auto"), ("while it is shared", "https")]
)
def test_wrong_bytes_of_a_peer_never_land(fleet, moment, transport):
    first = warm_swarm.SwarmRun(fleet, REPO).start().wait(60)
    assert not first.errors, explain(first)
    holder, *others = fleet.hosts
    for host in others:
        shutil.rmtree(host.cache)
    big = max(blobs(holder), key=lambda blob: (blob.stat().st_size, blob.name))
    if moment == "before":
        spoil(big)
    run = warm_swarm.SwarmRun(fleet, REPO, stall_seconds=5, transport=transport).start()
    if moment != "before":
        wait_until(lambda: big.name in run.members().get(holder.name, {}).get("serves", ()))
        spoil(big)
    outcome = run.wait(90)
    assert not [host for host in outcome.errors if host != holder.name], explain(outcome)
    assert warm_swarm.wrong_blobs(fleet, REPO, others) == 0, explain(outcome)


def spoil(path: Path) -> None:
    with path.open("r+b") as stream:
        size = path.stat().st_size
        for offset in range(0, size, 4096):
            stream.seek(offset)
            stream.write(b"wrong")


def test_a_stranger_gets_nothing(fleet):
    """Even one that has the torrent, which only hosts of the swarm are given, and the address."""
    stranger = fleet.hosts[3]
    members = fleet.hosts[:3]
    run = warm_swarm.SwarmRun(fleet, REPO, hosts=members).start()
    wait_until(lambda: any((Path(run.folder) / "torrents").iterdir()))
    torrent = next((Path(run.folder) / "torrents").iterdir())
    peers = [f"{facts['address']}:{facts['port']}" for facts in run.members().values()]
    script = Path(__file__).with_name("swarm_stranger.py")
    command = [warm_fleet.host_python(), str(script), str(torrent), stranger.address, *peers]
    with stranger.popen(command) as process:
        said = process.communicate(timeout=60)[0].split()
    outcome = run.wait(60)
    assert not outcome.errors, explain(outcome)
    assert said == ["0"], "bytes that the stranger got"


def test_an_agent_ends_when_nobody_asks_it_any_more(fleet):
    host = fleet.hosts[0]
    run = warm_swarm.SwarmRun(fleet, REPO)
    request = {**run.request(host), "manifest": run.manifest, "alone": False, "lease_seconds": 1}
    host.call({**request, "action": "start", "said": {}})
    assert len(host.pids()) == 2
    wait_until(lambda: len(host.pids()) == 1, 10)
