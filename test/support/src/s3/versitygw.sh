#!/bin/sh
# Builds versitygw, an S3 server on a folder, from the Go module proxy, once per user. Prints the program's path. Takes
# about a minute.   versitygw.sh [--check]: only says whether it is there.
set -eu
VERSION=v1.8.0
home=${SEPIA_VERSITYGW:-${XDG_CACHE_HOME:-$HOME/.cache}/sepia/versitygw-$VERSION}
if [ ! -x "$home/versitygw" ]; then
  [ "${1:-}" = --check ] && exit 1
  command -v go >/dev/null || { echo "versitygw.sh: needs go" >&2; exit 1; }
  GOBIN=$home.new CGO_ENABLED=0 go install "github.com/versity/versitygw/cmd/versitygw@$VERSION" >&2
  mv "$home.new" "$home"
fi
echo "$home/versitygw"
