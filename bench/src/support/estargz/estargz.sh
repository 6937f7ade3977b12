#!/bin/sh
# Builds main.go here from the Go module proxy, once per user, and prints the program.
set -eu
VERSION=v0.19.1
here=$(dirname "$(readlink -f "$0")")
home=${XDG_CACHE_HOME:-$HOME/.cache}/sepia/estargz-$VERSION
if [ ! -x "$home/estargz" ]; then
  command -v go >/dev/null || { echo "estargz.sh: needs go" >&2; exit 1; }
  rm -rf "$home.new"
  mkdir -p "$home.new"
  cp "$here/main.go" "$home.new/"
  cd "$home.new"
  go mod init sepia.test/estargz >&2
  go mod edit -require "github.com/containerd/stargz-snapshotter/estargz@$VERSION"
  CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o estargz . >&2
  rm -rf "$home"
  mv "$home.new" "$home"
fi
echo "$home/estargz"
