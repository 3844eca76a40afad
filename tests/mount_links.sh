#!/bin/bash
# Symlinks in the store, in an image, and in a node's root, wherever somebody might plant one: nothing is read or written where
# they lead.
set -u
export LC_ALL=C

work=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/coppice-links.XXXXXX")") || exit 1
mnt=$work/mnt
export COPPICE_STORE=$work/store
outside=$work/outside
faults=0

cleanup() {
    "$COPPICE" umount "$mnt" >/dev/null 2>&1 || umount -l "$mnt" 2>/dev/null
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# shellcheck source=tests/coppice_calls.bash
source "$(dirname "${BASH_SOURCE[0]}")/coppice_calls.bash"

# What lies outside: names, inodes, owners, modes, times and bytes.
describe() {
    find "$outside" -printf '%P %i %n %m %U %G %s %T@ %C@\n' | sort
    find "$outside" -type f -exec sha256sum {} + | sort
}
untouched() { # WHEN
    describe >"$work/now"
    diff "$work/before" "$work/now" >"$work/out" || wrong "$1: outside has changed: $(head -5 "$work/out")"
    mv "$work/now" "$work/before"
}
# Whatever they say, they end, and show nothing of what is outside.
try() { # COMMAND…
    timeout 60 "$@" >"$work/out" 2>&1 </dev/null
    local status=$?
    ((status < 124)) || wrong "$*: status $status: $(head -3 "$work/out")"
    ! grep -aq canary "$work/out" || wrong "$*: showed what is outside: $(grep -am1 canary "$work/out")"
    return "$status"
}
must_not() { # COMMAND…
    ! try "$@" || wrong "$*: succeeded"
}

restore() {
    rm -rf "$COPPICE_STORE" && cp -a "$work/good" "$COPPICE_STORE"
}
# All that reads and writes a node and the store.
use() { # WHEN
    try "$COPPICE" fsck
    try "$COPPICE" fsck --repair --contents
    if try "$COPPICE" mount "$mnt"; then
        try cat "$root/etc/own" "$root/etc/large" "$root/etc/image"
        try sh -c "echo new >'$root/etc/new'; head -c 100000 /dev/zero >'$root/etc/large2'; rm -f '$root/etc/large'; sync '$root/etc/new'"
        try "$COPPICE" snapshot create n1 planted
        try "$COPPICE" diff n1
        try "$COPPICE" reset n1 --force
        try "$COPPICE" snapshot delete n1 planted
        [[ $1 == nodes/n2* ]] || try cat "$mnt/system/n2/rootfs/etc/image" || wrong "$1: another node has failed: $(cat "$work/out")"
        try sh -c "echo new >'$mnt/system/n2/rootfs/etc/new'"
        try "$COPPICE" umount "$mnt" || umount -l "$mnt"
    fi
    try "$COPPICE" node remove n1 --purge
    untouched "$1"
}

mkdir -p "$work/image/"{etc,firmware} "$work/image/usr/lib" "$outside/directory" "$mnt"
echo image >"$work/image/etc/image"
ln -s "$outside/file" "$work/image/etc/absolute"
ln -s ../../../../../outside/file "$work/image/etc/up"
ln -s "$outside/directory" "$work/image/etc/dir"
ln -s "$outside/directory" "$work/image/boot"
run init
run image import base "$work/image"
run node add n1
run node add n2
run mount "$mnt"
root=$mnt/system/n1/rootfs
echo own >"$root/etc/own"
head -c 200000 /dev/zero >"$root/etc/large"
run snapshot create n1 old
echo changed >>"$root/etc/large"
run umount "$mnt"
sqlite3 "$COPPICE_STORE/nodes/n1/delta.db" 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
cp -a "$COPPICE_STORE" "$work/good"

# Outside lie things that would serve.
echo canary >"$outside/file"
echo canary >"$outside/directory/file"
cp -a "$COPPICE_STORE/nodes/n1" "$outside/node"
for object in "$outside"/node/objects/*; do yes canary | head -c 200008 >"$object"; done
cp -a "$COPPICE_STORE/images/base" "$outside/image"
echo canary >"$outside/image/rootfs/etc/image"
touch -r "$COPPICE_STORE/images/base/rootfs/etc/image" "$outside/image/rootfs/etc/image"
sqlite3 "$outside/node/delta.db" "UPDATE content SET data = CAST('canary' AS BLOB)"
rm -f "$outside"/node/delta.db-*
describe >"$work/before"

plant() { # WHERE TARGET: in place of what is there
    mkdir -p "$(dirname "$COPPICE_STORE/$1")" && rm -rf "${COPPICE_STORE:?}/$1" && ln -s "$outside/$2" "$COPPICE_STORE/$1"
    planted=$1
}

# ---- in the store ----

while read -r where target; do
    restore
    plant "$where" "$target"
    use "$where"
done <<'END'
nodes/n1 node
nodes/n1/objects node/objects
nodes/n1/delta.db node/delta.db
nodes/n1/delta.db-wal file
nodes/n1/delta.db-shm file
nodes/n1/delta.new file
nodes/n1/delta.new directory
nodes/n1/delta.recovered file
nodes/n1/snapshots node/snapshots
nodes/n1/snapshots/old node/snapshots/old
nodes/n1/switch node
nodes/n1/.switch directory
nodes/n1/switched directory
nodes/n2 directory
nodes/n2/delta.new file
control file
images.lock file
images/.import-x directory
END
for object in "$work"/good/nodes/n1/objects/*; do
    restore
    plant "nodes/n1/objects/${object##*/}" "node/objects/${object##*/}"
    use "$planted"
done

# What all nodes stand on.
for where in images/base images/base/rootfs images/base/rootfs/etc images/base/rootfs/etc/image images/base/index.db; do
    restore
    plant "$where" "image${where#images/base}"
    try "$COPPICE" fsck --contents
    if try "$COPPICE" mount "$mnt"; then
        try cat "$root/etc/image"
        try "$COPPICE" umount "$mnt" || umount -l "$mnt"
    fi
    untouched "$where"
done
for where in daemon catalog.db nodes images; do
    restore
    plant "$where" "$([[ $where == *s ]] && echo directory || echo file)"
    try "$COPPICE" mount "$mnt" && umount -l "$mnt"
    try "$COPPICE" node add n3
    untouched "$where"
done

# ---- in an image and in a node's root ----

restore
run mount "$mnt"
[[ $(readlink "$root/etc/absolute") == "$outside/file" ]] || wrong "the image's symlink is another"
mv "$root/etc" "$root/etc-was" && ln -s "$outside/directory" "$root/etc"
rm -rf "$root/usr" && ln -s ../../../../outside "$root/usr"
ln -s "$outside/file" "$root/planted"
echo node | try "$COPPICE" template set etc/hostname -
echo node | try "$COPPICE" template set usr/file -
echo node | try "$COPPICE" template set planted -
try "$COPPICE" node render n1
try "$COPPICE" node set n1 --mac 02:00:00:00:00:01
try "$COPPICE" doctor n1
try "$COPPICE" diff n1 --stat
try "$COPPICE" diff n1 etc
try "$COPPICE" snapshot create n1 links
try "$COPPICE" node export n1 "$work/n1.tar"
(($(tar -tvf "$work/n1.tar" 2>/dev/null | grep -c " -> ") >= 3)) || wrong "node export: fewer than three symlinks"
! grep -aq canary "$work/n1.tar" || wrong "node export: has what is outside"
try "$COPPICE" node export n1 "$work/delta.tar" --delta
! grep -aq canary "$work/delta.tar" || wrong "node export --delta: has what is outside"
run image promote promoted n1
[[ -L $COPPICE_STORE/images/promoted/rootfs/etc ]] || wrong "promote: etc is no symlink"
! grep -rq canary "$COPPICE_STORE/images/promoted" || wrong "promote: has what is outside"
run image import again "$work/n1.tar"
! grep -rq canary "$COPPICE_STORE/images/again" || wrong "import: has what is outside"
try "$COPPICE" rebase n1 again --force
try "$COPPICE" exports
try "$COPPICE" dnsmasq
run image remove promoted
run umount "$mnt"
try "$COPPICE" fsck --repair --contents
untouched "a node's symlinks"

((faults == 0)) || echo "$faults faults"
((faults == 0))
