#!/bin/sh
# Holds the FUSE mount of a node: it outlives the daemon, so that readers wait for the next one instead of failing.
#   holder.sh MOUNTPOINT PIDFILE COMMAND...     COMMAND serves /dev/fuse, which it gets as file descriptor 3
# SIGTERM ends it, its daemon, and with them the mount.
mount_point=$1 pid_file=$2
shift 2
exec 3<>/dev/fuse || exit 1
mount -i -t fuse -o ro,nosuid,nodev,fd=3,rootmode=40000,user_id=0,group_id=0,allow_other,max_read=1048576 \
  sepia "$mount_point" || exit 1
echo $$ >"$pid_file.new" && mv "$pid_file.new" "$pid_file"
daemon=
trap 'trap - TERM; [ -n "$daemon" ] && kill "$daemon"; wait; umount -l "$mount_point"; rm -f "$pid_file"; exit 0' TERM
while :; do
  SEPIA_FUSE_FD=3 "$@" &
  daemon=$!
  wait "$daemon"
  # 77: the mount is gone, there is nothing left to hold.
  [ $? = 77 ] && { rm -f "$pid_file"; exit 0; }
  # Not longer than readers can bear, not so short that a daemon that cannot start eats the machine.
  sleep 0.3
done
