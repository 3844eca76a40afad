#!/bin/bash
# A node's own changes go to a newer image, on a mounted store and on an unmounted one.
set -u
export LC_ALL=C

work=$(mktemp -d "${TMPDIR:-/tmp}/coppice-rebase.XXXXXX") || exit 1
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
none() { # FILE…
    local file
    for file; do [[ ! -e $file && ! -L $file ]] || wrong "$file is there"; done
}
same() { # WHAT A B: two trees or files
    diff -r --no-dereference --exclude=device "$2" "$3" >"$work/out" 2>&1 || wrong "$1: $(head -3 "$work/out")"
}

# What two images have, and how they differ: names tell what becomes of it.
old=$work/old
new=$work/new
mkdir -p "$old/"{etc,lib,bin,gone/deep,doc,old-docs,var/lib/dpkg} "$mnt"
for name in untouched updated mine both equal removed removed-both vanished vanished-mine linked moved file-to-dir; do
    echo "old $name" >"$old/etc/$name"
done
echo 'old packages' >"$old/var/lib/dpkg/status"
echo old >"$old/gone/deep/untouched"
echo old >"$old/gone/deep/mine"
echo doc >"$old/doc/a"
echo doc >"$old/old-docs/a"
head -c 3000001 /dev/urandom >"$old/lib/big"
head -c 2000001 /dev/urandom >"$old/lib/big-both"
ln "$old/etc/linked" "$old/etc/linked2"
ln -s untouched "$old/etc/link"
cp -a "$old" "$new"
for name in updated both equal removed-both; do echo "new $name" >"$new/etc/$name"; done
rm -r "$new/etc/vanished" "$new/etc/vanished-mine" "$new/gone"
echo 'new packages' >"$new/var/lib/dpkg/status"
echo 'new doc' >"$new/doc/a"
mkdir "$new/fresh" && echo fresh >"$new/fresh/file" && echo new >"$new/etc/made-both"
head -c 2000001 /dev/urandom >"$new/lib/big-both"
# Other inode numbers than in the old one.
mkdir "$new/aaa" && for i in {1..50}; do echo "$i" >"$new/aaa/$i"; done

run init
run image import old "$old"
run image import new "$new"
sqlite3 "$COPPICE_STORE/catalog.db" "INSERT INTO template(image, path, body) VALUES('old', 'etc/fstab', 'old of \${serial}'),
    ('new', 'etc/fstab', 'new of \${serial}'), ('old', 'etc/name', 'old of \${serial}'), ('new', 'etc/name', 'old of \${serial}')"
run node add n1 --image old
run node add n2 --image old
run mount "$mnt"
root=$mnt/system/n1/rootfs

is "$root/etc/fstab" 'old of n1'
echo node >"$root/etc/mine"
echo node >"$root/etc/both"
echo 'new equal' >"$root/etc/equal"
rm "$root/etc/removed" "$root/etc/removed-both" && rm -r "$root/old-docs" "$root/doc"
echo node >"$root/etc/vanished-mine"
echo node >"$root/gone/deep/mine"
echo node >>"$root/etc/linked2"
ln "$root/etc/linked" "$root/etc/linked3"
mv "$root/etc/moved" "$root/etc/moved-here"
rm "$root/etc/file-to-dir" && mkdir "$root/etc/file-to-dir" && echo node >"$root/etc/file-to-dir/a"
echo node >"$root/etc/made-both"
echo 'node packages' >"$root/var/lib/dpkg/status"
echo node >"$root/etc/name"
printf X | dd of="$root/lib/big" conv=notrunc bs=1 seek=5000 status=none
printf X | dd of="$root/lib/big-both" conv=notrunc bs=1 seek=5000 status=none
head -c 5000001 /dev/urandom >"$root/own"
run snapshot create n1 s1
printf X | dd of="$root/own" conv=notrunc bs=1 seek=5000 status=none
mkdir -m 1750 "$root/dir" && chown 5:6 "$root/dir" && mknod "$root/dir/device" c 1 3 && ln -s x "$root/dir/link"
setfattr -n user.note -v mine "$root/own" && chmod 4711 "$root/own" && touch -d '2001-02-03 04:05:06.789' "$root/own"
chmod 711 "$root/lib"
cp -a "$root" "$work/before"

refused '--force' rebase n1 new
refused 'no such image' rebase n1 none
refused 'no such node' rebase n9 new
refused 'already' rebase n1 old
run rebase n1 new --dry-run
told 'etc/both: changed by the node and in the new image'
told 'would stand'
same 'the node after --dry-run' "$root" "$work/before"

exec 5<"$root/own"
run rebase n1 new --force
exec 5<&-
for path in etc/both etc/removed-both etc/vanished-mine gone/deep/mine etc/made-both var/lib/dpkg/status lib/big-both doc; do
    told "$path: "
done
(($(grep -c ': changed\|: made\|: removed' "$work/out") == 8)) || wrong "other conflicts: $(cat "$work/out")"
told 'have the package manager of the node put them right'
after() { # ROOT: what the node is to show now
    local root=$1
    is "$root/etc/untouched" 'old untouched'
    is "$root/etc/updated" 'new updated'
    is "$root/etc/mine" node
    is "$root/etc/both" node
    is "$root/etc/both.coppice-new" 'new both'
    is "$root/etc/equal" 'new equal'
    is "$root/etc/removed-both.coppice-new" 'new removed-both'
    is "$root/etc/vanished-mine" node
    is "$root/gone/deep/mine" node
    is "$root/etc/moved-here" 'old moved'
    is "$root/etc/file-to-dir/a" node
    is "$root/etc/made-both" node
    is "$root/etc/made-both.coppice-new" new
    is "$root/var/lib/dpkg/status" 'node packages'
    is "$root/var/lib/dpkg/status.coppice-new" 'new packages'
    is "$root/doc.coppice-new/a" 'new doc'
    is "$root/fresh/file" fresh
    is "$root/aaa/17" 17
    is "$root/etc/fstab" 'new of n1'
    is "$root/etc/name" node
    is "$root/etc/link" 'old untouched'
    none "$root/etc/removed" "$root/etc/removed-both" "$root/old-docs" "$root/doc" "$root/etc/vanished" "$root/gone/deep/untouched" \
        "$root/etc/moved" "$root/etc/equal.coppice-new" "$root/etc/fstab.coppice-new" "$root/etc/name.coppice-new" "$root/etc/linked.coppice-new"
    cmp -s "$root/lib/big" "$work/before/lib/big" || wrong 'a large file of the image, changed'
    cmp -s "$root/lib/big-both" "$work/before/lib/big-both" || wrong 'a large file that both have changed'
    cmp -s "$root/lib/big-both.coppice-new" "$new/lib/big-both" || wrong 'the new version of a large file'
    cmp -s "$root/own" "$work/before/own" || wrong 'a large file of its own'
    [[ $root/etc/linked -ef $root/etc/linked2 && $root/etc/linked -ef $root/etc/linked3 ]] || wrong 'hard links were lost'
    [[ $(stat -c %h "$root/etc/linked") == 3 ]] || wrong 'a link count'
    is "$root/etc/linked" $'old linked\nnode'
    for file in own dir dir/device lib; do
        [[ $(stat -c '%a %u %g %t %T %F' "$root/$file") == "$(stat -c '%a %u %g %t %T %F' "$work/before/$file")" ]] || wrong "attributes of $file"
    done
    [[ $(stat -c %y "$root/own") == "$(stat -c %y "$work/before/own")" ]] || wrong 'the time of a file'
    [[ $(readlink "$root/dir/link") == x ]] || wrong 'a symlink'
    [[ $(getfattr --absolute-names --only-values -n user.note "$root/own") == mine ]] || wrong 'an attribute'
}
after "$root"
bytes=$(du -s --block-size=1 "$COPPICE_STORE/nodes/n1/objects" | cut -f1)
((bytes < 9000000)) || wrong "contents of the image were copied: $bytes"
run fsck --contents
printf Z | dd of="$root/own" conv=notrunc bs=1 seek=9000 status=none
printf Z | dd of="$work/before/own" conv=notrunc bs=1 seek=9000 status=none
touch -r "$work/before/own" "$root/own"
after "$root"

# Twice the same: nothing is lost that was put beside; and back.
run image promote newer n2
run rebase n1 newer --force
is "$root/etc/both" node
run reset n1 --to before-rebase --force
after "$root"
run umount "$mnt"
run fsck

# Unmounted: the same from the snapshot of before.
run reset n1 --to s1
run mount "$mnt"
rm -rf "$work/before" && cp -a "$root" "$work/before"
run umount "$mnt"
run rebase n1 new --dry-run
run rebase n1 new
run fsck --contents
run mount "$mnt"
is "$root/etc/both" node
is "$root/etc/both.coppice-new" 'new both'
is "$root/etc/updated" 'new updated'
cmp -s "$root/lib/big" "$work/before/lib/big" || wrong 'unmounted: a large file of the image, changed'
cmp -s "$root/own" "$work/before/own" || wrong 'unmounted: a file of its own'
run umount "$mnt"
left=$(find "$COPPICE_STORE/nodes" -mindepth 1 -name '.*')
[[ -z $left ]] || wrong "left behind: $left"

# While the node writes: not one acknowledged line is lost, whether the rebase is refused or takes place.
run mount "$mnt"
run reset n1 --to s1 --force
(
    i=0
    while [[ ! -e $work/stop ]]; do
        echo "$i" 2>/dev/null >>"$root/etc/log" && i=$((i + 1))
    done
    echo "$i" >"$work/stopped"
) 2>/dev/null &
for i in 1 2 3; do
    "$COPPICE" rebase n1 new --force >"$work/out" 2>&1 || grep -qE 'meanwhile|already' "$work/out" || wrong "refused: $(cat "$work/out")"
done
touch "$work/stop"
wait
seq 0 $(($(cat "$work/stopped") - 1)) | cmp -s - "$root/etc/log" || wrong "lines were lost: $(wc -l <"$root/etc/log") of $(cat "$work/stopped")"
run umount "$mnt"

# Killed at any moment: before or after, never between.
run mount "$mnt"
run reset n1 --to s1 --force
for delay in 0.02 0.05 0.1 0.2 0.4; do
    timeout -s KILL "$delay" "$COPPICE" rebase n1 new --force >/dev/null 2>&1
    run snapshot create n1 probe # after whatever the daemon was still doing
    run snapshot delete n1 probe
    case $(cat "$root/etc/updated") in
    'old updated') is "$root/etc/both" node && none "$root/etc/both.coppice-new" "$root/fresh" ;;
    'new updated') is "$root/etc/both.coppice-new" 'new both' && run reset n1 --to s1 --force ;;
    *) wrong "killed: $(cat "$root/etc/updated" 2>&1)" ;;
    esac
done
run umount "$mnt"
run fsck
left=$(find "$COPPICE_STORE/nodes" -mindepth 1 -name '.*')
run status
run snapshot create n1 last
left=$(find "$COPPICE_STORE/nodes" -mindepth 1 -name '.*')
[[ -z $left ]] || wrong "left behind: $left"

((faults == 0)) || echo "$faults faults"
((faults == 0))
