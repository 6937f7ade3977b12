#!/bin/sh
# Builds what unpacks layers as containerd does (main.go here, over its own package) and prints the program. Takes a minute.
# unpack.sh [--check]: only says whether it is there.
here=$(dirname "$(readlink -f "$0")")
exec "$here/../go-program.sh" "$here" github.com/containerd/containerd/v2 v2.4.2 "$@"
