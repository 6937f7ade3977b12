#!/bin/sh
# Holds the FUSE mount of a node: it outlives the daemon, so that readers wait for the next one instead of failing.
#   holder.sh MOUNTPOINT PIDFILE COMMAND...     COMMAND serves /dev/fuse, which it gets as file descriptor 3
# SIGTERM ends it, its daemon, and with them the mount. Where it is killed, a second shell that has the descriptor too
# takes its place within a second or two, and waits for the daemon that it left (SEPIA_ORPHAN; 0: it left none).
# That shell also ends a daemon that somebody stopped (SIGSTOP).
# Beside PIDFILE: PIDFILE.second, the process of that shell, and PIDFILE.daemon. PIDFILE.command, where it is there, says which
# script and command are started next (`script=…; set -- …`): those of another version, or with another config.
script=$0 mount_point=$1 pid_file=$2
shift 2
orphan=${SEPIA_ORPHAN:-}
unset SEPIA_ORPHAN
# What the daemon frees of 64 KiB and more goes back to the system (glibc would raise that to 32 MiB).
export MALLOC_MMAP_THRESHOLD_=65536
if [ -z "$orphan" ]; then
  exec 3<>/dev/fuse || exit 1
  # The kernel compares the modes that the daemon tells: a layer is root's alone.
  options=ro,nosuid,nodev,fd=3,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576
  mount -i -t fuse -o "$options" sepia "$mount_point" || exit 1
fi
daemon=${orphan#0} second=
end() {
  kill -9 "$second"
  rm -f "$pid_file" "$pid_file.second" "$pid_file.daemon" "$pid_file.command"
  exit 0
}
# One that is stopped (SIGSTOP) hears of it when it goes on.
end_daemon() {
  kill "$daemon"
  kill -CONT "$daemon"
}
trap 'trap "" TERM; kill -9 "$second"; [ -n "$daemon" ] && end_daemon; wait; umount -l "$mount_point"; end' TERM
# On record once it heeds SIGTERM: who is told its process may end it at once.
echo $$ >"$pid_file.new" && mv "$pid_file.new" "$pid_file"
# A stopped daemon (SIGSTOP) does not end, and answers nobody: found so at two looks it is killed, and the next one goes on.
end_stopped() {
  pid=$(cat "$pid_file.daemon")
  case $(readlink "/proc/$pid/fd/3")$(cat "/proc/$pid/stat") in
    /dev/fuse*") T "*) if [ "$pid" = "$stopped" ]; then kill -9 "$pid"; else stopped=$pid; fi ;;
    *) stopped= ;;
  esac
} 2>/dev/null
stand_by() {
  trap - TERM
  stopped=
  # In a subshell $$ is the holder.
  while [ -e "/proc/$$/fd/3" ]; do
    sleep 1
    end_stopped
  done
  left=$(cat "$pid_file.daemon")
  [ -e "$pid_file.command" ] && eval "$(cat "$pid_file.command")"
  SEPIA_ORPHAN=${left:-0} exec /bin/sh "$script" "$mount_point" "$pid_file" "$@"
}
while :; do
  if [ -z "$second" ] || [ ! -e "/proc/$second/fd/3" ]; then
    (stand_by "$@") &
    second=$!
    echo "$second" >"$pid_file.second.new" && mv "$pid_file.second.new" "$pid_file.second"
  fi
  if [ -n "$orphan" ]; then
    while [ "$(readlink "/proc/$orphan/fd/3")" = /dev/fuse ]; do sleep 0.3; done
    orphan=
  else
    [ -e "$pid_file.command" ] && eval "$(cat "$pid_file.command")"
    # On record before it runs: the one that takes our place must not start another beside it.
    SEPIA_FUSE_FD=3 /bin/sh -c 'echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@"' "$pid_file.daemon" "$@" &
    daemon=$!
    wait "$daemon"
    # 77: the mount is gone, there is nothing left to hold.
    [ $? = 77 ] && end
  fi
  # Not longer than readers can bear, not so short that a daemon that cannot start eats the machine.
  sleep 0.3
done
