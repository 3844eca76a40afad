#!/bin/bash
# Snapshots, resets and clones on a mounted store and on an unmounted one, as the owner of a cluster does them.
set -u
export LC_ALL=C

work=$(mktemp -d "${TMPDIR:-/tmp}/coppice-snapshot.XXXXXX") || exit 1
mnt=$work/mnt
export COPPICE_STORE=$work/store
faults=0

cleanup() {
    exec 5<&-
    "$COPPICE" umount "$mnt" >/dev/null 2>&1 || umount -l "$mnt" 2>/dev/null
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# shellcheck source=tests/coppice_calls.bash
source "$(dirname "${BASH_SOURCE[0]}")/coppice_calls.bash"
same() { # WHAT A B: two trees or files
    diff -r "$2" "$3" >"$work/out" 2>&1 || wrong "$1: $(head -3 "$work/out")"
}
names() { # SERIAL: of its snapshots
    sqlite3 "$COPPICE_STORE/catalog.db" "SELECT group_concat(name, ' ') FROM (SELECT name FROM snapshot WHERE node = '$1' ORDER BY 1)"
}
wait_for() { # COMMAND…: at most 5 s
    local i
    for ((i = 0; i < 100; i++)); do
        "$@" && return
        sleep 0.05
    done
    wrong "in vain: $*"
}

is_made() { # NAME
    [[ $(sqlite3 "$COPPICE_STORE/catalog.db" "SELECT made IS NOT NULL FROM snapshot WHERE name = '$1'") == 1 ]]
}

mkdir -p "$work/image/"{etc,boot,big} "$mnt"
echo one >"$work/image/etc/a"
echo two >"$work/image/etc/b"
head -c 3000001 /dev/urandom >"$work/image/big/image"
run init
run image import base "$work/image"
run node add n1
run node add n2
run mount "$mnt"
root=$mnt/system/n1/rootfs

# Changes of every kind: a row, an object, chunks of the image, chunks of a row, a hole.
echo new >"$root/etc/new"
head -c 200001 /dev/urandom >"$root/own"
printf X | dd of="$root/big/image" conv=notrunc bs=1 seek=5000 status=none
printf small >"$root/grown" && truncate -s 100000 "$root/grown" && printf end >>"$root/grown"
rm "$root/etc/b"
cp -a "$root" "$work/at-s1"

exec 5<"$root/own" 6<>"$root/big/image"
run snapshot create n1 s1 --note 'for the test'
refused 'exists already' snapshot create n1 s1
refused 'name must be' snapshot create n1 ../x
refused 'no such node' snapshot create n3 s1

# What was open stays open, shared contents are copied by chunk, and the snapshot does not change.
printf Y >&6
printf YYYY | dd of="$root/own" conv=notrunc bs=1 seek=100000 status=none
printf tail >>"$root/own"
truncate -s 50000 "$root/grown"
: >"$root/etc/new"
rm "$root/etc/a"
cp -a "$work/at-s1" "$work/now"
printf Y | dd of="$work/now/big/image" conv=notrunc bs=1 status=none
printf YYYY | dd of="$work/now/own" conv=notrunc bs=1 seek=100000 status=none
printf tail >>"$work/now/own"
truncate -s 50000 "$work/now/grown"
: >"$work/now/etc/new"
rm "$work/now/etc/a"
same 'the node after the snapshot' "$root" "$work/now"
cmp -s <(head -c 100000 <&5) <(head -c 100000 "$work/at-s1/own") || wrong 'a file that was open'
kept=$(du -s --block-size=1 "$COPPICE_STORE/nodes/n1/objects" | cut -f1)
both=$(du -s --block-size=1 "$COPPICE_STORE/nodes/n1/objects" "$COPPICE_STORE/nodes/n1/snapshots/s1/objects" | awk '{ s += $1 } END { print s }')
((both < kept + 16384)) || wrong "contents were copied: $kept, with the snapshot $both"

# Reset: refused while it is used, the old state kept, old handles stale, undone.
refused '--force' reset n1
run reset n1 --force
same 'the node after a reset' "$root" "$work/image"
cat <&5 >/dev/null 2>"$work/out" && wrong 'a file open from before the reset is read'
grep -q 'Stale file handle' "$work/out" || wrong "not stale: $(cat "$work/out")"
run reset n1 --to before-reset --force
same 'the reset undone' "$root" "$work/now"
run reset n1 --to s1 --force
same 'the node at snapshot s1' "$root" "$work/at-s1"
refused 'no such snapshot' reset n1 --to none --force
exec 5<&- 6>&-
run reset n1 --to before-reset --force --discard

# Rows are wishes.
sqlite3 "$COPPICE_STORE/catalog.db" "INSERT INTO snapshot(node, name) VALUES('n1', 'by-row')"
wait_for test -d "$COPPICE_STORE/nodes/n1/snapshots/by-row"
wait_for is_made by-row
sqlite3 "$COPPICE_STORE/catalog.db" "DELETE FROM snapshot WHERE name = 'by-row'"
wait_for test ! -d "$COPPICE_STORE/nodes/n1/snapshots/by-row"
sqlite3 "$COPPICE_STORE/catalog.db" "INSERT INTO snapshot(node, name) VALUES('n3', 'x')" 2>"$work/out" && wrong 'a snapshot of no node'
sqlite3 "$COPPICE_STORE/catalog.db" "INSERT INTO image(name) VALUES('other'); UPDATE node SET image = 'other'" 2>"$work/out" &&
    wrong 'a node was moved to another image by its row'
grep -q 'coppice rebase' "$work/out" || wrong "$(cat "$work/out")"
sqlite3 "$COPPICE_STORE/catalog.db" "DELETE FROM image WHERE name = 'other'"

# A clone is as its original was at that moment, and neither changes the other.
run node add c1 --from n1 --mac b8:27:eb:42:32:c8
run node add c2 --from n1@s1
same 'a clone' "$mnt/system/c1/rootfs" "$work/now"
same 'a clone of a snapshot' "$mnt/system/c2/rootfs" "$work/at-s1"
printf ZZZZ | dd of="$mnt/system/c1/rootfs/own" conv=notrunc bs=1 seek=10 status=none
printf WWWW | dd of="$root/own" conv=notrunc bs=1 seek=20 status=none
printf WWWW | dd of="$work/now/own" conv=notrunc bs=1 seek=20 status=none
same 'the original of a clone' "$root" "$work/now"
same 'the other clone' "$mnt/system/c2/rootfs" "$work/at-s1"
refused 'exists already' node add c1 --from n1
refused 'no such snapshot' node add c3 --from n1@none

# The daemon's death leaves all of it as it was.
run fsck
read -r daemon _ <"$COPPICE_STORE/daemon"
kill -9 "$daemon"
wait_for test -d "$root/etc"
same 'the node after the death' "$root" "$work/now"
run fsck

# A row that was deleted takes its own snapshot away, and not the one that comes in its place at once.
echo again >"$mnt/system/c1/rootfs/again"
run reset c1 --force
for i in 1 2 3; do
    sqlite3 "$COPPICE_STORE/catalog.db" "DELETE FROM snapshot WHERE node = 'c1' AND name = 'before-reset'"
    echo "$i" >"$mnt/system/c1/rootfs/again"
    run reset c1 --force
    sleep 0.6 # the daemon has followed the row by then
    [[ $(names c1) == before-reset && -d $COPPICE_STORE/nodes/c1/snapshots/before-reset ]] || wrong "after a deleted row: $(names c1)"
done

refused 'n1@s1' image remove base
run snapshot prune n1 --keep 1
[[ $(names n1) == before-reset ]] || wrong "after prune: $(names n1)"
run snapshot delete n1 "$(names n1)"
same 'the node without its snapshots' "$root" "$work/now"
cp -a "$root" "$work/last"
run umount "$mnt"

# The same without a daemon.
run snapshot create n1 off
run reset n1
run snapshot list --json
# As a kill leaves it after the rename of an older one, before its row.
mv "$COPPICE_STORE/nodes/n1/snapshots/"{before-reset,before-reset-20260102-030405}
run reset n1 --to off --discard
[[ $(names n1 | sort | xargs) == 'before-reset-20260102-030405 off' ]] || wrong "after a rename without its row: $(names n1)"
[[ $(sqlite3 "$COPPICE_STORE/catalog.db" "SELECT automatic FROM snapshot WHERE node = 'n1' AND name LIKE 'before%'") == 1 ]] || wrong 'not automatic'
run node add c4 --from n1@off
run fsck
run mount "$mnt"
same 'the node, reset while unmounted' "$root" "$work/last"
same 'a clone made while unmounted' "$mnt/system/c4/rootfs" "$work/last"
leftovers=$(find "$COPPICE_STORE/nodes" -name '.*' -mindepth 1)
[[ -z $leftovers ]] || wrong "left behind: $leftovers"

((faults == 0)) || echo "$faults faults"
((faults == 0))
