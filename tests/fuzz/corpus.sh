#!/bin/bash
# corpus.sh BUILD: makes the kept corpus anew, tests/fuzz/corpus/NAME/*, with the program fuzz_seeds of that build
# (ninja -C BUILD fuzz_seeds). As root, for device files and owners.
set -euo pipefail

build=$(realpath "$1")
corpus=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/corpus
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$corpus"/{template,bootlog,tftp,rpc,archive,disk,image,delta}

# --- texts
cd "$corpus/template"
printf 'plain text\n' >plain
printf 'host-${serial}\n${mac}\n' >names
printf '$${serial} $$${serial} ${unknown} ${' >escapes
cd "$corpus/bootlog"
cat >boot <<'END'
Nov 22 10:00:00 router dnsmasq-dhcp[812]: 3792651829 vendor class: PXEClient:Arch:00000:UNDI:002001
Nov 22 10:00:00 router dnsmasq-dhcp[812]: 3792651829 DHCPDISCOVER(eth0) dc:a6:32:01:02:03
Nov 22 10:00:00 router dnsmasq-dhcp[812]: 3792651829 DHCPOFFER(eth0) 10.55.0.17 dc:a6:32:01:02:03
Nov 22 10:00:00 router dnsmasq-dhcp[812]: 3792651829 sent size: 17 option: 97 client-machine-id  00:52:50:69:34:15:31:b0:00:32:5b:00:00:0d...
Nov 22 10:00:01 router dnsmasq-dhcp[812]: 3792651829 PXE(eth0) dc:a6:32:01:02:03 proxy
Nov 22 10:00:01 router dnsmasq-tftp[812]: sent /mnt/cluster/tftpboot/dc-a6-32-01-02-03/start4.elf to 10.55.0.17
Nov 22 10:00:01 router dnsmasq-tftp[812]: file /mnt/cluster/tftpboot/ab42320d/config.txt not found for 10.55.0.17
Nov 22 10:00:01 router dnsmasq-tftp[812]: error 0 Early terminate received from 10.55.0.17
Nov 22 10:00:01 router dnsmasq-tftp[812]: failed sending /mnt/cluster/tftpboot/x/cmdline.txt to 10.55.0.17
Nov 22 10:00:09 router rpc.mountd[901]: authenticated mount request from 10.55.0.17:1001 for /mnt/cluster/system/ab42320d/rootfs (/mnt/cluster)
END
sed 's/^Nov 22 \(..:..:..\) router /2026-11-22T\1.123456+00:00 router /' boot >iso
sed -n '/tftp/p' boot >tftp

# --- packets and answers
python3 - "$corpus" <<'END'
import struct, sys
def put(name, data): open(f"{sys.argv[1]}/{name}", "wb").write(data)
def packet(data): return struct.pack(">H", len(data)) + data
def data(n, size): return packet(struct.pack(">HH", 3, n) + b"d" * size)
put("tftp/plain", data(1, 512) + data(2, 512) + data(3, 7))
put("tftp/blksize", packet(b"\0\x06blksize\0001428\0") + data(1, 1428) + data(1, 1428) + data(2, 3))
put("tftp/error", packet(b"\0\x05\0\x01file not found\0"))
def u(*values): return b"".join(struct.pack(">I", v) for v in values)
def opaque(b): return u(len(b)) + b + b"\0" * (-len(b) % 4)
attributes = u(2, 0o755, 3, 0, 0, 0, 4096, 0, 8, 0, 0, 0, 7, 0, 1, 1, 0, 1, 0, 1, 0)
handle = opaque(b"h" * 28)
maybe, wcc = u(1) + attributes, u(1, 0, 0, 1, 1, 1, 1) + u(1) + attributes
put("rpc/mount", b"\0" + u(0) + handle + u(1, 1))
put("rpc/mount-refused", b"\0" + u(13))
group = u(1) + opaque(b"10.55.0.0/24")
export = u(1) + opaque(b"/mnt/cluster") + group + group + u(0) + u(1) + opaque(b"/srv") + u(0)
put("rpc/exports", b"\1" + export + u(0))
put("rpc/exports-many", b"\1" + u(1, 0, 0) * 80000)
put("rpc/getattr", b"\2" + u(0) + attributes)
lookup = u(0) + handle + maybe + maybe
put("rpc/read", b"\3" + lookup + lookup + u(0) + maybe + u(5, 0) + opaque(b"hello") + u(0) + maybe + u(0, 1) + opaque(b""))
put("rpc/read-stale", b"\3" + u(70) + maybe)
put("rpc/write", b"\4" + lookup + u(0, 1) + handle + maybe + wcc + u(0) + wcc + u(26, 2, 0, 0) + u(0) + attributes + u(0) + wcc)
END

# --- archives
cd "$work"
mkdir -p tree/etc tree/dev tree/deep/er
echo root >tree/etc/passwd
ln -s ../etc/passwd tree/deep/link
ln tree/etc/passwd tree/deep/hard
mkfifo tree/dev/pipe
mknod tree/dev/null c 1 3
truncate -s 1M tree/sparse && printf end >>tree/sparse
setfattr -n user.color -v red tree/etc/passwd
pack() { tar --sort=name --mtime=@1000000000 -C tree -cf - "$@" .; }
pack --format=ustar --exclude=sparse >"$corpus/archive/ustar"
pack --format=gnu -S >"$corpus/archive/gnu"
pack --format=pax --xattrs --xattrs-include='*' -S >"$corpus/archive/pax"
pack --format=pax | gzip -n >"$corpus/archive/gzip"
pack --format=pax | zstd -q >"$corpus/archive/zstd"
tar -cPf "$corpus/archive/outside" --transform='s,.*,../outside,' tree/etc/passwd
tar -cPf "$corpus/archive/absolute" --transform='s,.*,/tmp/outside,' tree/etc/passwd
mkdir way && ln -s .. way/up && tar -C way -cf "$corpus/archive/through-link" up
rm way/up && mkdir way/up && echo x >way/up/outside && tar -C way -rf "$corpus/archive/through-link" up/outside

# --- disks
mkdir root && mkdir root/etc && echo / >root/etc/fstab && ln -s loop root/link && ln -s link root/loop
export E2FSPROGS_FAKE_TIME=1000000000
mke2fs -q -t ext4 -O ^has_journal,^resize_inode -b 1024 -N 16 -U 0f6e2d7c-58a0-4c3c-9b51-3d2b5f1f0c11 -d root "$corpus/disk/ext4" 80k
table() { # NAME TYPE
    truncate -s 160K "$corpus/disk/$1"
    printf 'label: %s\nstart=40, size=120\nstart=160, size=120\n' "$2" | sfdisk -q --no-reread "$corpus/disk/$1"
    dd if="$corpus/disk/ext4" of="$corpus/disk/$1" bs=512 seek=160 conv=notrunc status=none count=120
}
table mbr dos
table gpt gpt
printf 'label: dos\nstart=8, size=300, type=5\nstart=16, size=40\nstart=80, size=40\n' >extended
truncate -s 160K "$corpus/disk/extended" && sfdisk -q --no-reread "$corpus/disk/extended" <extended
mkfs.vfat -C -i 12345678 "$corpus/disk/fat" 64 >/dev/null

# --- databases, with their log moved in
mkdir seeds && "$build/tests/fuzz_seeds" seeds
sqlite3 seeds/delta.db 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
cp seeds/index.db "$corpus/image/index"
cp seeds/delta.db "$corpus/delta/delta"
du -sh "$corpus"
