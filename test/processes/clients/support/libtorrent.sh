#!/bin/sh
# libtorrent with Python's bindings, installed once per user into an environment of its own.
#   libtorrent.sh --check                        exit 0 if it is there
#   libtorrent.sh                                installs it if it is missing
#   libtorrent.sh TORRENT FOLDER PORT SECONDS    downloads into FOLDER, exit 0 once all of it is there
set -eu
VERSION=2.1.1
home=${SEPIA_LIBTORRENT:-${XDG_CACHE_HOME:-$HOME/.cache}/sepia/libtorrent-$VERSION}
if [ ! -x "$home/bin/python" ]; then
  [ "${1:-}" = --check ] && exit 1
  rm -rf "$home"
  python3 -m venv "$home.new"
  "$home.new/bin/pip" install --quiet --disable-pip-version-check "libtorrent==$VERSION" >&2
  mv "$home.new" "$home"
fi
case ${1:-} in '' | --check) exit 0 ;; esac
exec "$home/bin/python" "$(dirname "$0")/leech.py" "$@"
