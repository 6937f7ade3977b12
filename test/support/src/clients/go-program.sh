#!/bin/sh
# Builds DIR/main.go over MODULE@VERSION from the Go module proxy, once per user and source, and prints the program, which is
# named as DIR.   go-program.sh DIR MODULE VERSION [--check]: only says whether it is there.
set -eu
dir=$(readlink -f "$1")
name=$(basename "$dir")
source=$(sha256sum "$dir/main.go" | cut -c1-12)
home=${XDG_CACHE_HOME:-$HOME/.cache}/sepia/$name-$3-$source
if [ ! -x "$home/$name" ]; then
  [ "${4:-}" = --check ] && exit 1
  command -v go >/dev/null || { echo "$name.sh: needs go" >&2; exit 1; }
  rm -rf "$home.new"
  mkdir -p "$home.new"
  cp "$dir/main.go" "$home.new/"
  cd "$home.new"
  go mod init "sepia.test/$name" >&2
  go mod edit -require "$2@$3"
  CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o "$name" . >&2
  rm -rf "$home"
  mv "$home.new" "$home"
fi
echo "$home/$name"
