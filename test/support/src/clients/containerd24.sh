#!/bin/sh
# Builds containerd 2.4 (daemon, shim, ctr) from the Go module proxy, once per user: Debian 12 has 1.6, which knows no
# layer_content_caches. Prints the folder. Takes minutes.   containerd24.sh [--check]: only says whether it is there.
set -eu
VERSION=v2.4.2
home=${SEPIA_CONTAINERD24:-${XDG_CACHE_HOME:-$HOME/.cache}/sepia/containerd-$VERSION}
if [ ! -x "$home/containerd" ]; then
  [ "${1:-}" = --check ] && exit 1
  command -v go >/dev/null || { echo "containerd24.sh: needs go" >&2; exit 1; }
  module=github.com/containerd/containerd/v2/cmd
  GOBIN=$home.new CGO_ENABLED=0 go install -tags 'no_btrfs no_zfs no_devmapper netgo osusergo' \
    "$module/containerd@$VERSION" "$module/containerd-shim-runc-v2@$VERSION" "$module/ctr@$VERSION" >&2
  mv "$home.new" "$home"
fi
echo "$home"
