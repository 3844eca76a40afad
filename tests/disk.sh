#!/bin/bash
# Disk images: made here with a partition table, a FAT and an ext4 file system, imported, and compared with what is on
# them. $COPPICE is the program under test.
set -u
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C

coppice=${COPPICE:?is the path of the program under test}
work=$(mktemp -d)
export COPPICE_STORE=$work/store
failures=0
mountpoint=$work/mnt

# shellcheck disable=SC2317 # reached by trap
cleanup() {
    local mounted
    while read -r _ mounted _; do
        [[ $mounted/ != "$work"/* ]] || umount -l "$mounted"
    done </proc/mounts
    rm -rf "$work"
}
trap cleanup EXIT

complain() {
    echo "disk.sh:${BASH_LINENO[1]}: $*"
    failures=$((failures + 1))
}

# same WHAT EXPECTED FOUND: in all that rsync can tell apart.
same() {
    local differences
    differences=$(rsync -aHAXn --numeric-ids --delete --itemize-changes "$2/" "$3/" 2>&1)
    [[ -z $differences ]] || complain "$1: $differences"
}

# imports NAME ARGUMENTS
imports() {
    local out
    out=$("$coppice" image import "$@" 2>&1 >/dev/null) && [[ $out != *coppice:* || $out == *"looks incomplete"* ]] ||
        complain "image import $*: $out"
}

# refuses PATTERN ARGUMENTS: one line, and nothing is left of it
refuses() {
    local pattern=$1 out before after
    shift
    before=$(cd "$COPPICE_STORE/images" && ls -A)
    out=$("$coppice" image import x "$@" 2>&1 >/dev/null) && complain "image import x $*: was not refused"
    # shellcheck disable=SC2053 # a pattern
    [[ $out == "coppice: "$pattern && $out != *$'\n'* ]] || complain "image import x $*: $out"
    after=$(cd "$COPPICE_STORE/images" && ls -A)
    [[ $before == "$after" ]] || complain "image import x $*: left $after"
}

make_root() { # DIRECTORY
    mkdir -p "$1"/{etc,sbin,bin,boot/firmware,dev,usr/share,usr/bin,var/empty}
    printf '%s\n' '# made by a test' 'proc /proc proc defaults 0 0' \
        'PARTUUID=907af7d0-01  /boot/firmware  vfat    defaults          0       2' \
        'PARTUUID=907af7d0-02  /               ext4    defaults,noatime  0       1' >"$1/etc/fstab"
    echo hidden >"$1/boot/firmware/hidden-by-the-partition"
    echo init >"$1/sbin/init"
    chmod 4755 "$1/sbin/init"
    ln "$1/sbin/init" "$1/usr/bin/init2"
    chown -h 12345:12346 "$1/usr/bin"
    ln -s ../sbin/init "$1/bin/sh"
    ln -s "$(printf 'x%.0s' {1..200})" "$1/bin/long"
    mknod "$1/dev/tty1" c 4 1
    mknod "$1/dev/large" b 259 70000
    mkfifo "$1/dev/fifo"
    truncate -s 20M "$1/var/sparse"
    echo data | dd of="$1/var/sparse" bs=1 seek=5000000 conv=notrunc status=none
    head -c 3000001 /dev/urandom >"$1/var/large"
    python3 - "$1" <<'END'
import os, struct, sys
root = sys.argv[1]
os.setxattr(root + '/etc/fstab', 'user.colour', b'green')
os.setxattr(root + '/usr/bin/init2', 'security.capability', struct.pack('<5I', 0x02000001, 1 << 13, 0, 0, 0))
acl = lambda *entries: struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in entries)
none = 0xffffffff
list_ = acl((1, 6, none), (2, 4, 12345), (4, 4, none), (16, 6, none), (32, 0, none))
os.setxattr(root + '/etc/fstab', 'system.posix_acl_access', list_)
os.setxattr(root + '/usr/share', 'system.posix_acl_default', list_)
END
    touch -d '2023-05-05 05:05:05.123456789' "$1/var/large" "$1/usr"
    touch -d '2100-01-01 00:00:00.000000007' "$1/etc"
    chmod 1777 "$1/var/empty"
}

make_boot() { # DIRECTORY
    mkdir -p "$1/overlays"
    echo kernel >"$1/kernel8.img"
    echo 'arm_64bit=1' >"$1/config.txt"
    echo 'console=tty1 root=PARTUUID=907af7d0-02 rootwait' >"$1/cmdline.txt"
    echo overlay >"$1/overlays/A-Long-Name-in-Mixed-Case.dtbo"
    echo upper >"$1/LICENCE.TXT"
    echo dot >"$1/.hidden"
    find "$1" -exec touch -d '2024-02-03 04:05:06' {} +
    find "$1" -exec chmod 755 {} +
}

# make_disk FILE TABLE: partition 1 (16 MiB at 1 MiB) is boot.fat, 2 (64 MiB at 17 MiB) root.ext4
make_disk() {
    truncate -s 82M "$1"
    sfdisk -q "$1" <<<"$2" || complain "sfdisk failed"
    dd if="$work/boot.fat" of="$1" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$work/root.ext4" of="$1" bs=1M seek=17 conv=notrunc,sparse status=none
}
root_at=$((17 << 20))

make_images() {
    make_root "$work/root"
    make_boot "$work/boot"
    truncate -s 16M "$work/boot.fat"
    mkfs.vfat -n BOOTFS "$work/boot.fat" >/dev/null
    (cd "$work/boot" && TZ=UTC mcopy -i "$work/boot.fat" -smp ./* .hidden ::) || complain "mcopy failed"
    truncate -s 64M "$work/root.ext4"
    mke2fs -q -t ext4 -I 256 -O ^metadata_csum -d "$work/root" "$work/root.ext4" || complain "mke2fs failed"
    make_disk "$work/mbr.img" 'label: dos
label-id: 0x907af7d0
start=2048, size=32768, type=c
start=34816, size=131072, type=83'
    make_disk "$work/gpt.img" 'label: gpt
start=2048, size=32768, type=U, name=firmware
start=34816, size=131072, type=L'
}

rootfs() { # NAME
    echo "$COPPICE_STORE/images/$1/rootfs"
}

# What a system that booted from the disk sees: the root with the boot partition mounted on it.
make_expected() {
    mkdir "$work/expected" "$work/partition"
    mount -o "loop,ro,offset=$root_at,sizelimit=$((64 << 20))" "$work/mbr.img" "$work/partition" || complain "no mount"
    rsync -aHAX --numeric-ids "$work/partition/" "$work/expected/" || complain "rsync failed"
    umount "$work/partition"
    rm -r "$work/expected/boot/firmware"
    cp -a "$work/boot" "$work/expected/boot/firmware"
    touch -d @0 "$work/expected/boot/firmware"
    touch -r "$work/root/boot" "$work/expected/boot"
}

test_partition_tables() {
    imports mbr "$work/mbr.img"
    same "mbr.img" "$work/expected" "$(rootfs mbr)"
    [[ $("$coppice" image show mbr) == *"boot/firmware"* ]] || complain "its boot directory is not boot/firmware"
    (($(stat -c %b "$(rootfs mbr)/var/sparse") < 100)) || complain "a sparse file is not sparse any more"
    # By PARTUUID its fstab finds nothing in this table: the FAT partition is taken.
    imports gpt "$work/gpt.img" --no-templates
    same "gpt.img" "$work/expected" "$(rootfs gpt)"
    # A file system alone has no boot partition.
    imports bare "$work/root.ext4"
    [[ -e $(rootfs bare)/boot/firmware/hidden-by-the-partition ]] || complain "a bare file system lost a file"
}

# A root in a logical partition; a GPT whose first header is gone, and one that has lost both.
test_more_tables() {
    local file=$work/table.img
    truncate -s 83M "$file"
    sfdisk -q "$file" <<<$'label: dos\nlabel-id: 0x907af7d0\n1: start=2048, size=32768, type=c
2: start=34816, size=133120, type=5\n5: start=36864, size=131072, type=83' || complain "sfdisk failed"
    dd if="$work/boot.fat" of="$file" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$work/root.ext4" of="$file" bs=1M seek=18 conv=notrunc,sparse status=none
    imports logical "$file"
    same "a logical partition" "$work/expected" "$(rootfs logical)"
    cp --sparse=always "$work/gpt.img" "$file"
    dd if=/dev/zero of="$file" bs=512 seek=1 count=1 conv=notrunc status=none
    imports backup "$file" --no-templates
    same "GPT's second header" "$work/expected" "$(rootfs backup)"
    dd if=/dev/zero of="$file" bs=512 seek=$((82 * 2048 - 1)) count=1 conv=notrunc status=none
    refuses "$file: no root file system found in it*" "$file"
    rm "$file"
}

# Other file systems are mounted where the kernel can; where it cannot, one line says so.
test_other_file_systems() {
    local file=$work/other.img type
    mkdir "$work/other"
    for type in btrfs f2fs; do
        truncate -s 200M "$work/root.$type"
        case $type in
        btrfs) mkfs.btrfs -q --rootdir "$work/root" "$work/root.$type" >"$work/log" 2>&1 ;;
        f2fs) mkfs.f2fs -q "$work/root.$type" >"$work/log" 2>&1 && sload.f2fs -f "$work/root" "$work/root.$type" >"$work/log" 2>&1 ;;
        esac || complain "mkfs.$type: $(<"$work/log")"
        truncate -s 218M "$file"
        sfdisk -q "$file" <<<$'label: dos\nlabel-id: 0x907af7d0\nstart=2048, size=32768, type=c\nstart=34816, size=409600, type=83'
        dd if="$work/boot.fat" of="$file" bs=1M seek=1 conv=notrunc,sparse status=none
        dd if="$work/root.$type" of="$file" bs=1M seek=17 conv=notrunc,sparse status=none
        modprobe -q "$type" 2>/dev/null
        if grep -qw "$type" /proc/filesystems; then
            imports "$type" "$file"
            mount -o "loop,ro,offset=$root_at,sizelimit=$((200 << 20))" "$file" "$work/other" || complain "no mount of $type"
            same "$type" "$work/other/etc" "$(rootfs "$type")/etc"
            same "$type" "$work/other/usr" "$(rootfs "$type")/usr"
            same "$type" "$work/other/var" "$(rootfs "$type")/var"
            umount "$work/other"
            same "boot beside $type" "$work/expected/boot/firmware" "$(rootfs "$type")/boot/firmware"
        else
            refuses "$file: partition 2 ($type): this kernel cannot mount a file system of this type*" "$file"
        fi
        setpriv --bounding-set -sys_admin "$coppice" image import x "$file" >"$work/log" 2>&1 && complain "$type without mounts"
        [[ $(wc -l <"$work/log") == 1 && $(<"$work/log") == "coppice: $file: partition 2 ($type): "* ]] || complain "$(<"$work/log")"
        rm "$file" "$work/root.$type"
    done
}

test_boot_in_boot() {
    cp --sparse=always "$work/mbr.img" "$work/old.img"
    debugfs -w -R 'rm /etc/fstab' "$work/old.img?offset=$root_at" 2>/dev/null
    printf '/dev/mmcblk0p1 /boot vfat defaults 0 2\n' >"$work/fstab"
    debugfs -w -R "write $work/fstab /etc/fstab" "$work/old.img?offset=$root_at" >/dev/null 2>&1
    imports old "$work/old.img"
    same "boot at /boot" "$work/expected/boot/firmware" "$(rootfs old)/boot"
    rm "$work/old.img"
}

test_compression() {
    local way
    for way in "xz -T2 -1" "gzip -1" "zstd -q -1" "python3 $work/zip.py"; do
        $way -c <"$work/mbr.img" >"$work/packed.${way%% *}"
        imports "${way%% *}" "$work/packed.${way%% *}"
        same "$way" "$work/expected" "$(rootfs "${way%% *}")"
    done
    (cd "$work" && ln mbr.img disk.img && cmake -E tar cf packed.7z --format=7zip disk.img) || complain "no 7z"
    imports 7z "$work/packed.7z"
    same 7z "$work/expected" "$(rootfs 7z)"
    "$coppice" image import stdin - <"$work/packed.xz" >/dev/null || complain "from standard input"
    same "standard input" "$work/expected" "$(rootfs stdin)"
    head -c 2000000 "$work/packed.xz" >"$work/cut.xz"
    refuses "$work/cut.xz: truncated or damaged: *" "$work/cut.xz"
    python3 "$work/zip.py" twice <"$work/mbr.img" >"$work/two.zip"
    refuses "$work/two.zip: holds two disk images, disk.img and second.img; *" "$work/two.zip"
    python3 "$work/zip.py" none </dev/null >"$work/none.zip"
    refuses "$work/none.zip: holds no disk image (\*.img)" "$work/none.zip"
    rm "$work"/packed.* "$work/disk.img" "$work"/*.zip "$work/cut.xz"
}

# Without CAP_SYS_ADMIN there is neither loop device nor mount: libext2fs and mcopy read the partitions.
test_without_mounts() {
    setpriv --bounding-set -sys_admin "$coppice" image import unmounted "$work/mbr.img" >/dev/null || complain "no import"
    same "without mounts" "$work/expected" "$(rootfs unmounted)"
    (($(stat -c %b "$(rootfs unmounted)/var/sparse") < 100)) || complain "a sparse file is not sparse any more"
}

test_dirty_journal() {
    local before
    cp --sparse=always "$work/mbr.img" "$work/dirty.img"
    debugfs -w -R 'feature needs_recovery' "$work/dirty.img?offset=$root_at" >/dev/null 2>&1
    before=$(md5sum <"$work/dirty.img")
    imports dirty "$work/dirty.img"
    same "dirty journal" "$work/expected" "$(rootfs dirty)"
    [[ $(md5sum <"$work/dirty.img") == "$before" ]] || complain "the image file was changed"
    rm "$work/dirty.img"
}

test_refusals() {
    local file=$work/bad.img
    cp --sparse=always "$work/mbr.img" "$file" && truncate -s 50M "$file"
    refuses "$file: truncated or damaged: partition 2 ends at byte *, the file at byte 52428800" "$file"
    cp --sparse=always "$work/gpt.img" "$file" && truncate -s 70M "$file"
    refuses "$file: truncated or damaged: its partition table is of a disk of 85983232 bytes, it has 73400320" "$file"
    cp --sparse=always "$work/mbr.img" "$file" && sfdisk -q --delete "$file" 2
    refuses "$file: no root file system found in it, but partition 1 (vfat)" "$file"
    refuses "$work/boot.fat: no root file system found in it, but its vfat file system" "$work/boot.fat"
    cp --sparse=always "$work/mbr.img" "$file" && sfdisk -q -N 2 "$file" <<<'34816, 100000' 2>/dev/null
    refuses "$file: truncated or damaged: partition 2 (ext4) has a file system of *" "$file"
    cp --sparse=always "$work/mbr.img" "$file" && truncate -s 160M "$file"
    sfdisk -q --append "$file" <<<'start=167936, size=131072, type=83'
    dd if="$work/root.ext4" of="$file" bs=1M seek=82 conv=notrunc,sparse status=none
    refuses "$file: partitions 2 and 3 both hold a root file system; choose one with --partition N" "$file"
    refuses "$file: partition 1 (vfat) holds no root file system" "$file" --partition 1
    refuses "$file: has no partition 9" "$file" --partition 9
    imports third "$file" --partition 3
    rm "$file"
}

test_full_disk() {
    mkdir "$work/small"
    mount -t tmpfs -o size=2M tmpfs "$work/small" || complain "no tmpfs"
    "$coppice" --store "$work/small/store" init >/dev/null
    COPPICE_STORE=$work/small/store refuses "$work/mbr.img: its root needs *MiB, and the store's disk has *MiB free" "$work/mbr.img"
    COPPICE_STORE=$work/small/store refuses "standard input: no room to unpack it: *" - < <(cat "$work/gpt.img")
    umount "$work/small"
}

# The whole way: what a node sees is what lies on the partitions, but for its personal files.
test_node() {
    local root=$mountpoint/system/000000008a4232c8/rootfs found expected
    mkdir "$mountpoint"
    "$coppice" image default mbr >/dev/null
    "$coppice" node add 000000008a4232c8 --mac b8:27:eb:42:32:c8 >/dev/null
    "$coppice" node add plain --image gpt >/dev/null
    "$coppice" node add unknown >/dev/null
    sqlite3 "$COPPICE_STORE/catalog.db" "INSERT INTO template(path, mode, body) VALUES('etc/rack', 600, 'rack \${rack}')"
    sqlite3 "$COPPICE_STORE/catalog.db" "INSERT INTO variable VALUES('000000008a4232c8', 'rack', '7')"
    "$coppice" mount "$mountpoint" || complain "no mount"
    found=$(rsync -aHAXn --delete --itemize-changes --omit-dir-times "$root/" "$work/expected/")
    expected='>f.st...... boot/firmware/cmdline.txt
>f.st...... etc/fstab
>f+++++++++ etc/rack'
    [[ $found == "$expected" ]] || complain "a node's view: $found"
    [[ $(<"$root/boot/firmware/cmdline.txt") == "console=tty1 root=/dev/nfs nfsroot=192.168.1.1:$root,vers=3,proto=tcp rw ip=dhcp rootwait" ]] ||
        complain "cmdline.txt: $(<"$root/boot/firmware/cmdline.txt")"
    [[ $(cat "$root/etc/fstab") == $'# made by a test\nproc /proc proc defaults 0 0' ]] || complain "fstab: $(cat "$root/etc/fstab")"
    [[ $(cat "$root/etc/rack") == 'rack 7' && $(stat -c %a "$root/etc/rack") == 600 ]] || complain "etc/rack"
    cmp -s "$work/boot/kernel8.img" "$mountpoint/tftpboot/b8-27-eb-42-32-c8/kernel8.img" || complain "no kernel by TFTP"
    cmp -s "$root/etc/fstab" <("$coppice" node render 000000008a4232c8 /etc/fstab) || complain "node render"
    test_missing_value
    # What was imported with --no-templates has none of its own.
    [[ $(rsync -aHAXn --omit-dir-times --itemize-changes "$mountpoint/system/plain/rootfs/" "$work/expected/") == '' ]] || complain "a plain node"
    test_node_keeps_its_files "$root"
    "$coppice" umount "$mountpoint" || complain "no umount"
}

# It hinders neither the node nor the others, is told, and mended by a row.
test_missing_value() {
    local root=$mountpoint/system/unknown/rootfs error='node unknown: template etc/rack of every image: ${rack} has no value*'
    [[ $(stat -c %s "$root/boot/firmware/cmdline.txt") -gt 60 && ! -e $root/etc/rack ]] || complain "a value is missing"
    # shellcheck disable=SC2053
    [[ $("$coppice" status) == *$error ]] || complain "status does not tell: $("$coppice" status)"
    # shellcheck disable=SC2053
    [[ $("$coppice" node render unknown etc/rack 2>&1) == "coppice: "$error ]] || complain "node render does not tell"
    sqlite3 "$COPPICE_STORE/catalog.db" "INSERT INTO variable VALUES('unknown', 'rack', '8')"
    for _ in {1..50}; do
        [[ ! -e $root/etc/rack ]] || break
        sleep 0.1
    done
    [[ $(cat "$root/etc/rack") == 'rack 8' ]] || complain "the value is there, and the file is not"
    [[ $("$coppice" status) != *rack* ]] || complain "status tells what is mended"
    sqlite3 "$COPPICE_STORE/catalog.db" "DELETE FROM template WHERE path = 'etc/rack'"
}

# Once written they are the node's own.
test_node_keeps_its_files() { # ROOT
    echo mine >"$1/etc/fstab"
    "$coppice" umount "$mountpoint" && "$coppice" mount "$mountpoint" || complain "not mounted anew"
    [[ $(cat "$1/etc/fstab") == mine ]] || complain "a node's change was written over"
}

cat >"$work/zip.py" <<'END'
import sys, zipfile
out = zipfile.ZipFile(sys.stdout.buffer, 'w', zipfile.ZIP_DEFLATED, compresslevel=1)
data = sys.stdin.buffer.read()
out.writestr('README.md', 'a disk image\n')
if data:
    out.writestr('disk.img', data)
if 'twice' in sys.argv:
    out.writestr('second.img', data)
out.close()
END

make_images
make_expected
"$coppice" init --server 192.168.1.1 >/dev/null || complain "init"
test_partition_tables
test_more_tables
test_other_file_systems
test_boot_in_boot
test_compression
test_without_mounts
test_dirty_journal
test_refusals
test_full_disk
test_node
((failures == 0))
