#!/bin/bash
# A root that is exported and brought back is the same, whole as an image and by its differences as a node, in another store too.
set -u
export LC_ALL=C
# shellcheck source=tests/random_changes.bash
source "$(dirname "${BASH_SOURCE[0]}")/random_changes.bash"

work=$(mktemp -d "${TMPDIR:-/tmp}/coppice-export.XXXXXX") || exit 1
mnt=$work/mnt mnt2=$work/mnt2
export COPPICE_STORE=$work/store
faults=0
seed=${COPPICE_SEED:-$(date +%s)}
RANDOM=$((seed % 32768))

cleanup() {
    for at in "$mnt" "$mnt2"; do
        mountpoint -q "$at" && { "$COPPICE" umount "$at" >/dev/null 2>&1 || umount -l "$at" 2>/dev/null; }
    done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# shellcheck source=tests/coppice_calls.bash
source "$(dirname "${BASH_SOURCE[0]}")/coppice_calls.bash"
same() { # WHAT A B: in all that rsync can tell apart
    local found
    found=$(rsync -aHAXnc --numeric-ids --delete --itemize-changes "$2/" "$3/" 2>&1)
    [[ -z $found ]] || wrong "$1, seed $seed: $(head -5 <<<"$found")"
}

mkdir -p "$work/image/"{d/a/b,d/c,e,gone/deep,again/sub} "$mnt" "$mnt2"
for ((i = 1; i < 16; i++)); do
    echo "$i" >"$work/image/d/f$i"
    head -c $((i * 4000)) /dev/urandom >"$work/image/d/a/g$i"
    echo "$i" >"$work/image/d/a/b/h$i"
    ln -s "f$i" "$work/image/d/c/s$i"
done
ln "$work/image/d/f1" "$work/image/d/c/hard"
mkdir "$work/image/links" && echo l >"$work/image/links/a" && ln "$work/image/links/a" "$work/image/links/b"
touch "$work/image/old" "$work/image/gone/deep/file" "$work/image/again/sub/file"
run init
run image import --no-templates base "$work/image"
run node add n1
run mount "$mnt"
root=$mnt/system/n1/rootfs

# Of every kind: holes, ACLs, capabilities, links to what the image has, a directory made anew, names that are no UTF-8.
random_changes "$root" "${COPPICE_CHANGES:-60}"
truncate -s 5000000 "$root/e/sparse" && printf data | dd of="$root/e/sparse" conv=notrunc bs=1 seek=3000000 status=none
truncate -s 1000000 "$root/e/hole"
mkdir "$root/e/acl" && setfacl -m u:1234:rwx,d:g:77:rx "$root/e/acl" && echo x >"$root/e/acl/inherits" &&
    setfacl -b "$root/e/acl/inherits" && echo y >"$root/e/acl/keeps"
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 "$root/e/acl/keeps"
chown 70000:80000 "$root/e/acl/keeps" && chmod 4755 "$root/e/acl/keeps"
echo z >"$root/e/"$'b\xe9 \xc3\xa9\n'
mknod "$root/e/device" c 5 1
mv "$root/links/a" "$root/links/moved"
rm -rf "$root/gone"
rm -rf "$root/again" && mkdir "$root/again" && echo new >"$root/again/other"
echo linked >"$root/e/one" && ln "$root/e/one" "$root/e/two" && touch -d '1969-12-31 20:00:00.5 UTC' "$root/e/one"
touch -d '2001-02-03 04:05:06.789' "$root/e" "$root"
cp -a "$root" "$work/then"
run snapshot create n1 s1
echo later >"$root/e/later" && rm "$root/e/hole"

run node export n1@s1 "$work/whole.tar.gz"
run node export --delta n1@s1 "$work/delta.tar.zst"
run node export n1 --delta "$work/now.tar"
"$COPPICE" node export n1 --delta - >"$work/piped.tar" || wrong 'not to standard output'
cmp -s "$work/now.tar" "$work/piped.tar" || wrong 'standard output gets another tar'
tar tf "$work/now.tar" >"$work/out" 2>&1 || wrong "tar(1) does not read it: $(tail -1 "$work/out")"
grep -qxF './' "$work/out" && grep -qxF .wh.gone "$work/out" && grep -qxF again/.wh..wh..opq "$work/out" ||
    wrong "not as a layer: $(grep wh "$work/out")"
(($(stat -c %b "$work/now.tar") * 512 < 3000000)) || wrong 'holes were written'

# Here, from a file and from standard input.
run node add n2 --from-file "$work/delta.tar.zst" --mac b8:27:eb:42:32:c8
same 'the differences, mounted' "$work/then" "$mnt/system/n2/rootfs"
"$COPPICE" node add n3 --from-file - <"$work/piped.tar" >"$work/out" 2>&1 || wrong "not from standard input: $(cat "$work/out")"
same 'the differences of now' "$root" "$mnt/system/n3/rootfs"
run diff n2
sort "$work/out" >"$work/lines"
run diff n1@s1
diff "$work/lines" <(sort "$work/out") >"$work/differs" || wrong "diff of what was imported: $(head -3 "$work/differs")"
run image import --no-templates whole "$work/whole.tar.gz"
run node add n4 --image whole
same 'the whole' "$work/then" "$mnt/system/n4/rootfs"
echo more >"$mnt/system/n2/rootfs/e/sparse"
run fsck

# What cannot be: nothing of it stays.
refused 'exists already' node add n2 --from-file "$work/now.tar"
head -c 100000 "$work/now.tar" >"$work/cut.tar"
refused 'cut.tar' node add n5 --from-file "$work/cut.tar"
mkdir "$work/up" && echo x >"$work/up/x" && tar -cf "$work/up.tar" -P -C "$work/up" --transform 's|^|../|' x
refused '../x' node add n5 --from-file "$work/up.tar" --image base
refused '--image' node add n5 --from-file "$work/up.tar"
refused 'no such image' node add n5 --from-file "$work/now.tar" --image none
refused 'No such file' node add n5 --from-file "$work/none.tar"
refused 'No such file' node export n1 "$work/none/x.tar"
touch "$root/e/.wh.x"
refused '.wh.' node export --delta n1 "$work/x.tar"
[[ -z $(find "$work" -maxdepth 1 -name 'x.tar*') ]] || wrong 'half a tar stays'
leftovers=$(find "$COPPICE_STORE/nodes" -name '.*' -mindepth 1; ls -d "$COPPICE_STORE/nodes/n5" 2>/dev/null)
[[ -z $leftovers ]] || wrong "left behind: $leftovers"

# Another router, without a daemon.
export COPPICE_STORE=$work/store2
run init
run image import --no-templates other "$work/image"
refused 'no such image' node add m1 --from-file "$work/delta.tar.zst"
run node add m1 --from-file "$work/delta.tar.zst" --image other
run fsck
run mount "$mnt2"
same 'the differences on another router' "$work/then" "$mnt2/system/m1/rootfs"
run umount "$mnt2"

((faults == 0)) || echo "$faults faults, seed $seed"
((faults == 0))
