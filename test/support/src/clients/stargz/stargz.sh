#!/bin/sh
# Builds a stargz-snapshotter (main.go here, over its own packages) from the Go module proxy, once per user. Prints the
# program. Takes minutes.   stargz.sh [--check]: only says whether it is there.
set -eu
VERSION=v0.19.1
here=$(dirname "$(readlink -f "$0")")
source=$(sha256sum "$here/main.go" | cut -c1-12)
home=${XDG_CACHE_HOME:-$HOME/.cache}/sepia/stargz-$VERSION-$source
program=${SEPIA_STARGZ:-$home/stargz}
if [ ! -x "$program" ]; then
  [ "${1:-}" = --check ] && exit 1
  command -v go >/dev/null || { echo "stargz.sh: needs go" >&2; exit 1; }
  rm -rf "$home.new"
  mkdir -p "$home.new"
  cp "$here/main.go" "$home.new/"
  cd "$home.new"
  go mod init sepia.test/stargz >&2
  go mod edit -require "github.com/containerd/stargz-snapshotter@$VERSION"
  CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o stargz . >&2
  rm -rf "$home"
  mv "$home.new" "$home"
fi
echo "$program"
