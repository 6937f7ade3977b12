#!/bin/sh
# Builds main.go here and prints the program.
here=$(dirname "$(readlink -f "$0")")
exec "$here/../../../../test/support/src/clients/go-program.sh" "$here" github.com/containerd/stargz-snapshotter/estargz v0.19.1 "$@"
