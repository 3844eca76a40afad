#!/bin/bash
# A node's root becomes an image, on a mounted store and on an unmounted one.
set -u
export LC_ALL=C

work=$(mktemp -d "${TMPDIR:-/tmp}/coppice-promote.XXXXXX") || exit 1
mnt=$work/mnt
export COPPICE_STORE=$work/store
faults=0

cleanup() {
    "$COPPICE" umount "$mnt" >/dev/null 2>&1 || umount -l "$mnt" 2>/dev/null
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# shellcheck source=tests/coppice_calls.bash
source "$(dirname "${BASH_SOURCE[0]}")/coppice_calls.bash"
# All that can be seen of a tree; which names are one file by the first of them.
look() { # DIR
    (cd "$1" && find . -printf '%P %y %#m %U:%G %T@ %l %i\n' | sort |
        awk '{ if (!($NF in first)) first[$NF] = $1; key = $NF; $NF = ""; if ($2 == "d") $5 = ""; print $0, first[key] }'
    find . -type f -print0 | sort -z | xargs -0 sha256sum
    getfattr -Rhd -m - . 2>/dev/null)
}

image=$work/image
mkdir -p "$image/"{etc/ssh,big,bin,real} "$mnt"
ln -s real "$image/alias"
for i in a b c d; do echo "$i" >"$image/etc/$i"; done
echo parent >"$image/etc/hostname"
echo motd >"$image/real/motd"
head -c 3000001 /dev/urandom >"$image/big/image"
head -c 300000 /dev/urandom >"$image/big/second"
ln "$image/big/second" "$image/big/third"
printf '#!/bin/sh\n' >"$image/bin/sh"
chmod 4755 "$image/bin/sh"
setfattr -n user.note -v parent "$image/etc/a"
run init
run image import base "$image"
sqlite3 "$COPPICE_STORE/catalog.db" "INSERT INTO template(image, path, body) VALUES('base', 'etc/fstab', 'of \${serial}'), ('base', 'alias/motd', 'of \${serial}')"
run node add n1
run node add n2
run mount "$mnt"
root=$mnt/system/n1/rootfs

echo key >"$root/etc/ssh/ssh_host_ed25519_key"
echo pub >"$root/etc/ssh/ssh_host_ed25519_key.pub"
echo config >"$root/etc/ssh/sshd_config"
echo n1 >"$root/etc/hostname"
echo 0123 >"$root/etc/machine-id"
printf X | dd of="$root/big/image" conv=notrunc bs=1 seek=5000 status=none
rm "$root/etc/b"
chmod 600 "$root/etc/c"
ln "$root/etc/d" "$root/etc/d2"
mv "$root/etc/c" "$root/etc/e"
mkfifo "$root/fifo"
ln -s nowhere "$root/etc/link"
truncate -s 50000000 "$root/sparse" && printf end >>"$root/sparse"
setfattr -n user.note -v node "$root/etc/e"
touch -d '1999-12-31 23:59:59.123456789' "$root/etc/e"
run snapshot create n1 s1
echo later >"$root/etc/later"

run image promote second n1@s1
told 'etc/ssh/ssh_host_ed25519_key'
told 'etc/machine-id'
told 'etc/fstab'
told 'motd'
refused 'of this name already' image promote second n1
refused 'no such node' image promote third n9
refused 'no such snapshot' image promote third n1@none
refused 'a name must be' image promote ../x n1
new=$COPPICE_STORE/images/second/rootfs
is "$new/etc/hostname" parent
is "$new/real/motd" motd
is "$new/etc/ssh/sshd_config" config
[[ ! -e $new/etc/fstab && ! -e $new/etc/machine-id && ! -e $new/etc/later ]] || wrong 'too much was taken'
ls "$new/etc/ssh/" | grep -q host && wrong 'a host key was taken'
[[ $new/big/second -ef $new/big/third ]] || wrong 'a hard link was lost'

# But for what was left out, it is what the node's root was.
cp -a --sparse=always "$root" "$work/node"
rm -r "$work/node/etc/"{later,fstab,machine-id} "$work/node/etc/ssh/"ssh_host*
cp -a "$image/etc/hostname" "$work/node/etc/hostname"
cp -a "$image/real/motd" "$work/node/real/motd"
touch -r "$root/etc/ssh" "$work/node/etc/ssh"
look "$work/node" >"$work/expected"
look "$new" >"$work/found"
diff "$work/expected" "$work/found" >"$work/out" || wrong "the image differs: $(head -5 "$work/out")"

# What was not changed takes no room, and neither image is harmed by the other.
mine=$(stat -c %i "$new/big/second") parents=$(stat -c %i "$COPPICE_STORE/images/base/rootfs/big/second")
[[ $mine == "$parents" ]] || cp --reflink=always "$new/big/second" "$work/reflink" 2>/dev/null || wrong 'an unchanged file was copied'
blocks=$(du -s --block-size=1 "$new/sparse" | cut -f1)
((blocks < 100000)) || wrong "a hole was filled: $blocks"
run fsck --contents

# Nodes stand on it, with the templates of its parent.
run node add n3 --image second
is "$mnt/system/n3/rootfs/etc/fstab" 'of n3'
is "$mnt/system/n3/rootfs/real/motd" 'of n3'
is "$mnt/system/n3/rootfs/etc/d2" d
[[ $(stat -c %h "$mnt/system/n3/rootfs/big/second") == 2 ]] || wrong 'a link count'
cmp -s "$mnt/system/n3/rootfs/big/image" "$root/big/image" || wrong 'contents in a node of the new image'

# Killed at any moment, it leaves nothing.
for delay in 0.01 0.03 0.06 0.1; do
    (exec timeout -s KILL "$delay" "$COPPICE" image promote killed n1) >/dev/null 2>&1
    run image list
    if grep -q killed "$work/out"; then run image remove killed; fi
done
run umount "$mnt"

run image promote third n1
is "$COPPICE_STORE/images/third/rootfs/etc/later" later
run image promote fourth n3
run node remove n2 --purge
left=$(find "$COPPICE_STORE/images" "$COPPICE_STORE/nodes" -mindepth 1 -maxdepth 1 -name '.*')
[[ -z $left ]] || wrong "left behind: $left"
run fsck --contents

# Its parent can go.
run node add n5 --image third
run node remove n1 --purge
run image default third
run image remove base
run fsck --contents
cmp -s "$COPPICE_STORE/images/third/rootfs/big/second" "$image/big/second" || wrong 'the image lost contents with its parent'

((faults == 0)) || echo "$faults faults"
((faults == 0))
