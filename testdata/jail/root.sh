#!/bin/sh
# Usage: root.sh WORLD FOLDER COMMAND…
# Starts a command in a throw-away copy of this machine: processes of its own, every file to read and none to spoil but
# those of WORLD, a /dev of copies. FOLDER holds the program under test. Says "LEFT: …" of processes that outlive the
# command. To be started as root, by `unshare --mount --pid --fork --propagation private`.
set -eu
world=$1 folder=$2
shift 2
jail=$world/jail
mkdir -p "$jail"
mount -t tmpfs jail "$jail"
mkdir "$jail/upper" "$jail/work" "$jail/root"
mount -t overlay -o "lowerdir=/,upperdir=$jail/upper,workdir=$jail/work" overlay "$jail/root"
root=$jail/root
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
for kept in "$world" "$folder"; do
    mkdir -p "$root$kept"
    mount --bind "$kept" "$root$kept"
done
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mknod -m 666 "$root/dev/tty" c 5 0
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
cd "$root"
pivot_root . .
umount -l .
cd "$world/out"
status=0
"$@" || status=$?
for process in /proc/[0-9]*; do
    name=$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) || continue
    case ${process#/proc/}:$name in
    1:* | *:) ;;
    *) echo "LEFT: $name" >&2 ;;
    esac
done
exit $status
