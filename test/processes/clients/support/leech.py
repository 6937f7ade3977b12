"""Downloads one torrent by libtorrent: TORRENT FOLDER PORT SECONDS. Nothing but trackers, peers and web seeds."""
import sys
import time

import libtorrent

torrent, folder, port, seconds = sys.argv[1:]
session = libtorrent.session({
    'listen_interfaces': f'127.0.0.1:{port}',
    'enable_dht': False,
    'enable_lsd': False,
    'enable_upnp': False,
    'enable_natpmp': False,
    'enable_outgoing_utp': False,
    'enable_incoming_utp': False,
    'allow_multiple_connections_per_ip': True,
    'alert_mask': libtorrent.alert.category_t.error_notification | libtorrent.alert.category_t.tracker_notification,
})
params = libtorrent.add_torrent_params()
params.ti = libtorrent.torrent_info(torrent)
params.save_path = folder
handle = session.add_torrent(params)
end = time.monotonic() + float(seconds)
while not handle.status().is_seeding:
    if time.monotonic() > end:
        print(handle.status().progress, *session.pop_alerts(), sep='\n', file=sys.stderr)
        sys.exit(1)
    time.sleep(0.2)
