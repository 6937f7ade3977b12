#!/bin/sh
# Builds a stargz-snapshotter (main.go here, over its own packages) and prints the program. Takes minutes.
# stargz.sh [--check]: only says whether it is there. SEPIA_STARGZ: another program in its place.
[ -x "${SEPIA_STARGZ:-}" ] && { echo "$SEPIA_STARGZ"; exit 0; }
here=$(dirname "$(readlink -f "$0")")
exec "$here/../go-program.sh" "$here" github.com/containerd/stargz-snapshotter v0.19.1 "$@"
