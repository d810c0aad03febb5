"""Whole files between hosts, for those that show the run's certificate and come from an address of the play."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import swarm_https
from ansible_collections.preheat.fleet.plugins.plugin_utils import swarm_identity

DATA = bytes(range(256)) * 4000
ETAG = "a" * 64


@pytest.fixture(scope="module")
def identity():
    return swarm_identity.make()


@pytest.fixture
def contexts(identity, tmp_path):
    made = swarm_https.contexts(identity, tmp_path)
    assert not list(tmp_path.iterdir()), "the key stays on the disk"
    return made


@pytest.fixture
def server(contexts, tmp_path):
    (tmp_path / "blob").write_bytes(DATA)
    server = swarm_https.Server("127.0.0.1", 0, contexts[0], {ETAG: tmp_path / "blob"}.get, swarm_https.Limit(0))
    server.allow(["127.0.0.1"])
    yield server
    server.shutdown()
    server.server_close()


def fetch(server, context, etag=ETAG, start=0, source="127.0.0.1"):
    parts, how = [], {"source": source, "context": context, "limit": swarm_https.Limit(0)}
    swarm_https.read(("127.0.0.1", server.port), etag, start, write=parts.append, **how)
    return b"".join(parts)


@pytest.mark.parametrize("start", [0, 1, len(DATA) - 1])
def test_a_peer_gets_the_rest_of_a_file(server, contexts, start):
    assert fetch(server, contexts[1], start=start) == DATA[start:]
    assert server.bytes_sent == len(DATA) - start


def test_what_is_not_shared_is_not_given(server, contexts):
    with pytest.raises(ConnectionError, match="404"):
        fetch(server, contexts[1], etag="../../etc/passwd")


def test_who_shows_no_certificate_gets_nothing(server, identity):
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname = False
    stranger.load_verify_locations(cadata=identity)
    with pytest.raises(OSError):
        fetch(server, stranger)
    assert server.bytes_sent == 0


def test_who_shows_that_of_another_run_gets_nothing_and_is_not_believed(server, contexts, tmp_path):
    _server, other = swarm_https.contexts(swarm_identity.make(), tmp_path)
    with pytest.raises(ssl.SSLError):
        fetch(server, other)
    other.verify_mode = ssl.CERT_NONE  # believes everybody, and is still not believed
    with pytest.raises(OSError):
        fetch(server, other)
    assert server.bytes_sent == 0


def test_an_address_that_is_no_peer_s_is_not_answered(server, contexts):
    server.allow(["127.0.0.2"])
    with pytest.raises(OSError):
        fetch(server, contexts[1])
    assert fetch(server, contexts[1], source="127.0.0.2") == DATA


def test_who_says_nothing_keeps_nobody_waiting(server, contexts):
    with socket.create_connection(("127.0.0.1", server.port)):
        assert fetch(server, contexts[1]) == DATA


def test_more_peers_than_slots_are_told_to_come_again(server, contexts):
    taken = [server.slots.acquire() for _ in range(swarm_https.UPLOADS)]
    with pytest.raises(swarm_https.Busy):
        fetch(server, contexts[1])
    for _ in taken:
        server.slots.release()
    assert fetch(server, contexts[1]) == DATA


def test_a_limit_is_shared_by_all_threads():
    now, waited = [0.0], []

    def sleep(seconds):
        waited.append(seconds)

    limit = swarm_https.Limit(1000, clock=lambda: now[0], sleep=sleep)
    threads = [threading.Thread(target=limit.wait_for, args=(500,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waited) == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_no_limit_never_waits():
    swarm_https.Limit(0, sleep=lambda _seconds: pytest.fail("waited")).wait_for(1 << 40)
