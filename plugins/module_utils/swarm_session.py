# Copyright: preheat contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A libtorrent session that is private: one address, known peers only, encrypted, and no discovery of any kind."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

CONNECTIONS_PER_FILE = 16  # enough to spread a piece to hundreds of hosts; all with all would be too many
ALL_ADDRESSES = (("0.0.0.0", "255.255.255.255"), ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
# Peers that a seed serves at once: with all of them it sends everything more than twice, and the next file waits.
SEED_UPLOADS = 2


@dataclass(frozen=True)
class Event:
    """Something that happened to a torrent: kind is 'finished', 'flushed', 'renamed' or 'error'."""

    kind: str
    etag: str
    message: str = ""


def settings(address: str, port: int, upload_bytes: int, download_bytes: int) -> dict:
    import libtorrent

    at = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    alerts = libtorrent.alert_category
    return {
        "listen_interfaces": at,
        "outgoing_interfaces": address,
        "alert_mask": int(alerts.error | alerts.status | alerts.storage),
        "user_agent": "preheat",
        # Nobody is told of this session, and nothing is asked about others.
        **dict.fromkeys(("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp"), False),
        **dict.fromkeys(("enable_outgoing_utp", "enable_incoming_utp", "listen_system_port_fallback"), False),
        # Encrypted or not at all.
        "out_enc_policy": int(libtorrent.enc_policy.forced),
        "in_enc_policy": int(libtorrent.enc_policy.forced),
        "allowed_enc_level": int(libtorrent.enc_level.rc4),
        "prefer_rc4": True,
        # Hosts of one fleet do not have to earn each other's bytes; a seed drops the slowest of those that it serves.
        "unchoke_slots_limit": -1,
        "unchoke_interval": 3,
        "seed_choking_algorithm": 1,
        "connections_limit": 4000,
        "active_limit": -1,
        "active_seeds": -1,
        "active_downloads": -1,
        # Rarest first from the first piece on, and found peers connected to at once, and again when they fail.
        "initial_picker_threshold": 0,
        "smooth_connects": False,
        "connection_speed": 500,
        "torrent_connect_boost": 100,
        "min_reconnect_time": 1,
        "max_failcount": 1000,
        # Few requests at a time, so that hosts ask a seed for different pieces.
        "max_out_request_queue": 16,
        "request_queue_time": 1,
        "tick_interval": 100,
        # A peer that fell silent must not hold back the pieces that were asked of it.
        "request_timeout": 5,
        "piece_timeout": 5,
        "peer_timeout": 20,
        # Plain reads and writes: mapped files cost more, and are not sound on network file systems.
        "mmap_file_size_cutoff": (1 << 31) - 1,
        "upload_rate_limit": upload_bytes,
        "download_rate_limit": download_bytes,
    }


class Swarm:
    """Torrents by the name of their blob."""

    def __init__(self, address: str, port: int = 0, upload_bytes: int = 0, download_bytes: int = 0):
        import libtorrent

        self._lt = libtorrent
        self._session = libtorrent.session(settings(address, port, upload_bytes, download_bytes))
        self._handles: dict = {}
        self._fetched: set[str] = set()  # of these, what this host takes from peers
        self._peers: list[tuple[str, int]] = []
        # Without this, limits would not count for addresses of private networks, which is what hosts have.
        everybody = libtorrent.ip_filter()
        for first, last in ALL_ADDRESSES:
            everybody.add_rule(first, last, 1 << int(self._session.global_peer_class_id))
        self._session.set_peer_class_filter(everybody)
        self.allow([])

    def port(self) -> int:
        return self._session.listen_port()

    def allow(self, peers: list[tuple[str, int]]) -> bool:
        """From now on only these addresses are spoken to. Says whether one is no longer among them."""
        rules = self._lt.ip_filter()
        for first, last in ALL_ADDRESSES:
            rules.add_rule(first, last, 1)
        for address, _port in peers:
            plain = str(ipaddress.ip_address(address))
            rules.add_rule(plain, plain, 0)
        self._session.set_ip_filter(rules)
        before, self._peers = set(self._peers), [(address, port) for address, port in peers if port]
        # Who came later, or came back at another port, is connected to for what is under way, too.
        for etag in self._fetched:
            for peer in set(self._near(etag)) - before:
                self._handles[etag].connect_peer(peer)
        return not before <= set(self._peers)

    def add(self, etag: str, torrent: bytes, path: str, seed: bool, only: range | None = None) -> None:
        """Share a file that is there and right (seed), or fetch it to path, keeping what is right of what is there.

        only: of this torrent, which then has a name of its own, just these pieces are shared or fetched.
        """
        self.remove(etag)
        flags = self._lt.torrent_flags
        params = self._lt.load_torrent_buffer(torrent)
        params.save_path = os.path.dirname(path)
        params.renamed_files = {0: path}
        # |= and never =: the default flags hold the one that applies the filter of addresses.
        params.flags |= flags.disable_dht | flags.disable_lsd | flags.disable_pex | flags.duplicate_is_error
        params.flags |= flags.paused
        params.flags &= ~flags.auto_managed
        if only is not None:
            count = params.ti.num_pieces()
            params.piece_priorities = [4 if piece in only else 0 for piece in range(count)]
            params.have_pieces = [seed and piece in only for piece in range(count)]
            params.flags |= flags.no_verify_files
        elif seed:
            params.flags |= flags.seed_mode
        handle = self._handles[etag] = self._session.add_torrent(params)
        if seed:
            handle.set_max_uploads(SEED_UPLOADS)
        else:
            self._fetched.add(etag)
            for peer in self._near(etag):
                handle.connect_peer(peer)
        handle.resume()  # connects at once; peers of a torrent that runs wait for the next second

    def _near(self, etag: str) -> list[tuple[str, int]]:
        """Some of the peers, for each file others."""
        start = int(etag[:6], 16) % len(self._peers) if self._peers else 0
        return (self._peers[start:] + self._peers[:start])[:CONNECTIONS_PER_FILE]

    def has(self, etag: str) -> bool:
        return etag in self._handles

    def flush(self, etag: str) -> None:
        """Its event 'flushed' says that the file can be read."""
        self._handles[etag].flush_cache()

    def rename(self, etag: str, path: str) -> None:
        self._handles[etag].rename_file(0, path)

    def remove(self, etag: str) -> None:
        handle = self._handles.pop(etag, None)
        self._fetched.discard(etag)
        if handle is not None:
            self._session.remove_torrent(handle)

    def events(self, wait_seconds: float) -> list[Event]:
        """What happened since the last call; waits for the first of it."""
        self._session.wait_for_alert(int(wait_seconds * 1000))
        found = (self._event(alert) for alert in self._session.pop_alerts())
        return [event for event in found if event]

    def _event(self, alert):
        lt = self._lt
        kinds = {
            lt.torrent_finished_alert: "finished",
            lt.cache_flushed_alert: "flushed",
            lt.file_renamed_alert: "renamed",
            lt.file_rename_failed_alert: "error",
            lt.file_error_alert: "error",
            lt.torrent_error_alert: "error",
        }
        kind = kinds.get(type(alert))
        if not kind:
            return None
        known = [etag for etag, handle in self._handles.items() if handle == alert.handle]
        return Event(kind, known[0], alert.message()) if known else None

    def progress(self, etag: str) -> dict:
        status = self._handles[etag].status()
        return {
            "done": status.total_wanted_done,
            "received": status.total_payload_download,
            "sent": status.total_payload_upload,
            "peers": status.num_peers,
        }

    # pieces, for a host that takes over from a seed that died

    def missing_pieces(self, etag: str) -> list[int]:
        """Those that neither this host has nor any peer that it is connected to."""
        handle = self._handles[etag]
        own = handle.status(self._lt.torrent_handle.query_pieces).pieces
        theirs = [peer.pieces for peer in handle.get_peer_info()]
        return [piece for piece, has in enumerate(own) if not has and not any(p and p[piece] for p in theirs)]

    def piece_range(self, etag: str, piece: int) -> tuple[int, int]:
        """(offset, length) of a piece in its file."""
        info = self._handles[etag].torrent_file()
        return piece * info.piece_length(), info.piece_size(piece)

    def give_piece(self, etag: str, piece: int, data: bytes) -> None:
        """Checked by libtorrent like one that came from a peer."""
        self._handles[etag].add_piece(piece, data, 0)
