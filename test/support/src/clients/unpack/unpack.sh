#!/bin/sh
# Builds what unpacks layers as containerd does (main.go here, over its own package) from the Go module proxy, once per user.
# Prints the program. Takes a minute.   unpack.sh [--check]: only says whether it is there.
set -eu
VERSION=v2.4.2
here=$(dirname "$(readlink -f "$0")")
source=$(sha256sum "$here/main.go" | cut -c1-12)
home=${XDG_CACHE_HOME:-$HOME/.cache}/sepia/unpack-$VERSION-$source
if [ ! -x "$home/unpack" ]; then
  [ "${1:-}" = --check ] && exit 1
  command -v go >/dev/null || { echo "unpack.sh: needs go" >&2; exit 1; }
  rm -rf "$home.new"
  mkdir -p "$home.new"
  cp "$here/main.go" "$home.new/"
  cd "$home.new"
  go mod init sepia.test/unpack >&2
  go mod edit -require "github.com/containerd/containerd/v2@$VERSION"
  CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o unpack . >&2
  rm -rf "$home"
  mv "$home.new" "$home"
fi
echo "$home/unpack"
