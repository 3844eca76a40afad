#!/bin/bash
# The program as the systemd unit runs it: with no more capabilities than the unit leaves, no new privileges and its umask. It mounts,
# says READY=1, serves, lets the next daemon take over, survives a kill, and ends; and makes no system call that the unit's filter
# refuses. Without systemd running: what the unit says is read from it.
set -u
export LC_ALL=C

work=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/coppice-unit.XXXXXX")") || exit 1
unit=$(dirname "${BASH_SOURCE[0]}")/../packaging/coppice.service.in
mnt=$work/mnt
export COPPICE_STORE=$work/store
faults=0

cleanup() {
    "$COPPICE" umount "$mnt" >/dev/null 2>&1 || umount -l "$mnt" 2>/dev/null
    kill "$listener" 2>/dev/null
    wait
    rm -rf --one-file-system "$work"
}
listener=
trap cleanup EXIT
trap 'exit 1' INT TERM

# shellcheck source=tests/coppice_calls.bash
source "$(dirname "${BASH_SOURCE[0]}")/coppice_calls.bash"

says() { # NAME: the unit's lines of it
    sed -n "s/^$1=//p" "$unit"
}

# The names in a filter, groups opened up.
calls_of() { # WORD…
    local word
    for word in "$@"; do
        if [[ $word == @* ]]; then
            # shellcheck disable=SC2046
            calls_of $(systemd-analyze syscall-filter "$word" | sed 1d | grep -v '#')
        else
            echo "$word"
        fi
    done
}

as_the_unit() { # COMMAND…
    local set=-all capability
    for capability in $(says CapabilityBoundingSet); do
        capability=${capability#CAP_}
        set+=,+${capability,,}
    done
    (umask "$(says UMask)" && exec setpriv --no-new-privs --bounding-set="$set" --inh-caps=-all "$@")
}

listen() {
    python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
open(sys.argv[2], "wb").write(s.recv(100))' "$work/notify" "$work/ready" &
    listener=$!
    until [[ -S $work/notify ]]; do sleep 0.05; done
}

wait_for() { # WHAT COMMAND…
    local i what=$1
    shift
    for ((i = 0; i < 300; i++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    wrong "$what: never"
}

use() { # WHEN
    local file=$mnt/system/n1/rootfs/etc/$1
    { echo "$1" >"$file" && sync "$file" && chown 1000:1000 "$file" && setfattr -n user.when -v "$1" "$file"; } || wrong "$1: no file"
    head -c 100000 /dev/zero >"$file.large" && ln "$file" "$file.link" && rm "$file.large" || wrong "$1: no changes"
    is "$mnt/system/n1/rootfs/etc/of-image" image
    run snapshot create n1 "$1"
}

next_daemon() { # PID: another one serves
    local daemon
    read -r daemon _ <"$COPPICE_STORE/daemon" && [[ $daemon != "$1" ]] && stat "$mnt/system/n1/rootfs/etc"
}

# LeakSanitizer cannot look at what strace looks at.
export ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0
mkdir -p "$mnt" "$work/image/etc" && echo image >"$work/image/etc/of-image"
chmod 0700 "$work/image/etc" && chown -R 1000 "$work/image"
run init
run image import base "$work/image"
run node add n1
listen
NOTIFY_SOCKET=$work/notify as_the_unit strace -f -qq -c -U name -o "$work/calls" "$COPPICE" mount -f "$mnt" >"$work/said" 2>&1 &
service=$!
wait_for READY=1 test -s "$work/ready"
is "$work/ready" READY=1
use started
read -r daemon _ <"$COPPICE_STORE/daemon"
as_the_unit "$COPPICE" mount --replace "$mnt" >"$work/out" 2>&1 || wrong "reload: $(cat "$work/out")"
use reloaded
read -r daemon _ <"$COPPICE_STORE/daemon"
kill -KILL "$daemon"
wait_for 'the daemon after a kill' next_daemon "$daemon"
use killed
as_the_unit "$COPPICE" umount "$mnt" >"$work/out" 2>&1 || wrong "stop: $(cat "$work/out")"
wait "$service" || wrong "the service ended with $?: $(cat "$work/said")"

# A sanitizer makes calls of its own.
if ldd "$COPPICE" | grep -q 'lib[a-z]*san\.'; then exit $((faults > 0)); fi
# shellcheck disable=SC2046
calls_of $(says SystemCallFilter | grep -v '^~') | sort -u >"$work/may"
# shellcheck disable=SC2046
calls_of $(says SystemCallFilter | sed -n 's/^~//p') | sort -u >"$work/may-not"
grep -oE '^ *[a-z_0-9]+ *$' "$work/calls" | tr -d ' ' | grep -vxE 'syscall|total' | sort -u >"$work/made"
(($(wc -l <"$work/made") > 50)) || wrong "the calls were not seen: $(head -5 "$work/calls")"
for call in $(comm -23 "$work/made" "$work/may") $(comm -12 "$work/made" "$work/may-not"); do wrong "$call: the unit's filter refuses it"; done
exit $((faults > 0))
