#!/bin/bash
# What file systems `mount` warns of, as a store on them would not outlive a power cut as promised; and of which it says nothing.
set -u
export LC_ALL=C

work=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/coppice-ground.XXXXXX")") || exit 1
mnt=$work/mnt
disk=$work/disk
export COPPICE_STORE=$disk/store
faults=0

cleanup() {
    "$COPPICE" umount "$mnt" >/dev/null 2>&1 || umount -l "$mnt" 2>/dev/null
    umount -l "$disk" 2>/dev/null
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# shellcheck source=tests/coppice_calls.bash
source "$(dirname "${BASH_SOURCE[0]}")/coppice_calls.bash"

# The words of the mount of a store on a new file system are in $work/said; status 1: this kernel has no such file system.
said_on() { # OPTIONS MKFS WORD…
    local options=$1
    shift
    rm -f "$work/file" && truncate -s 400M "$work/file"
    "$@" "$work/file" >"$work/out" 2>&1 || wrong "$*: $(cat "$work/out")"
    if ! mount -o "loop$options" "$work/file" "$disk" 2>"$work/out"; then
        echo "passed over, $* $options: $(cat "$work/out")"
        return 1
    fi
    run init
    "$COPPICE" mount "$mnt" >"$work/said" 2>&1 || wrong "mount on $*: $(cat "$work/said")"
    run umount "$mnt"
    umount "$disk" || wrong "umount: $*"
}
warned() { # TEXT
    { grep -qF -- "$1" "$work/said" && (($(wc -l <"$work/said") == 1)); } || wrong "'$1' is not what was said: $(cat "$work/said")"
}
silent() { # WHAT
    [[ ! -s $work/said ]] || wrong "$1: said $(cat "$work/said")"
}

mkdir -p "$mnt" "$disk"
said_on '' mkfs.ext4 -q && silent ext4
said_on '' mkfs.ext4 -q -b 1024 && silent 'ext4 of 1 KiB'
said_on ,data=writeback mkfs.ext4 -q && warned 'it is mounted with data=writeback'
said_on ,nobarrier mkfs.ext4 -q && warned 'it is mounted without barriers'
if command -v mkfs.xfs >/dev/null; then
    said_on '' mkfs.xfs -q && silent xfs
    said_on '' mkfs.xfs -q -b size=16384 && warned 'its blocks are larger than 4096 bytes'
fi
exit $((faults > 0))
