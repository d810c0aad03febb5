"""A client that is not of the fleet: takes a torrent and addresses, tries for some seconds, prints the bytes it got."""

import sys
import tempfile
import time

import libtorrent

torrent, address, *peers = sys.argv[1:]
session = libtorrent.session({"listen_interfaces": f"{address}:0", "outgoing_interfaces": address})
params = libtorrent.load_torrent_file(torrent)
params.save_path = tempfile.mkdtemp()
handle = session.add_torrent(params)
for peer in peers:
    host, port = peer.rsplit(":", 1)
    handle.connect_peer((host, int(port)))
time.sleep(4)
print(handle.status().total_payload_download)
