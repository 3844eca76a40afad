#!/bin/bash
# Boards boot from a real dnsmasq as far as it goes: a client that speaks the boot ROM's DHCP and TFTP, in a network
# of the test's own. And what dnsmasq's log tells of boards without a row.
source "$(dirname "${BASH_SOURCE[0]}")/netns.bash"

own /etc /run /var/lib/misc /var/lib/nfs
chmod 755 "$work" # dnsmasq reads as a user of its own
mnt=$work/mnt
log=$work/dnsmasq.log
rm -rf /etc/exports.d /etc/dnsmasq.d /etc/dnsmasq.conf /etc/coppice /run/systemd /run/dnsmasq
: >/etc/exports
mkdir -p "$mnt" /run/dnsmasq "$work/image/boot" "$work/image/sbin"

# Boot files: what the ROM asks for, of sizes that are no multiple of a block, and one that is.
: >"$work/image/sbin/init"
for name in bootcode.bin start.elf fixup.dat start4.elf fixup4.dat kernel8.img config.txt cmdline.txt; do
    head -c $((1000 + 7919 * ${#name})) /dev/urandom >"$work/image/boot/$name"
done
head -c 2048 /dev/urandom >"$work/image/boot/fixup4.dat"

# The router, 10.9.0.1, on one end of a cable; boards on the other.
unshare --net sleep 300 &
board=$!
ip link add router type veth peer name eth0
within 5 test "$(readlink /proc/self/ns/net)" != "$(readlink /proc/$board/ns/net)"
ip link set eth0 netns $board
ip addr add 10.9.0.1/16 dev router
ip link set router up

on_board() {
    nsenter --target "$board" --net -- "$@"
}

# boots MODEL SERIAL MAC [ADDRESS]: what the board tells
boots() {
    on_board ip link set eth0 down
    on_board ip addr flush dev eth0
    on_board ip link set eth0 address "$3" up
    on_board python3 "$(dirname "$0")/boot_rom.py" eth0 "$1" "$2" ${4+"$4"}
}

is_listening() {
    grep -q ':0045 ' /proc/net/udp
}

start_dnsmasq() {
    dnsmasq --keep-in-foreground --conf-file=$conf --port=0 --interface=router --bind-interfaces \
        --log-facility="$log" --pid-file=/run/dnsmasq/dnsmasq.pid --dhcp-leasefile="$work/leases" --user=nobody &
    dnsmasq=$!
    within 5 is_listening || complain "dnsmasq does not listen: $(cat "$log")"
}

stop_dnsmasq() {
    kill $dnsmasq
    wait $dnsmasq
}

crc() { # NAME
    python3 -c 'import sys, zlib; print("%08x" % zlib.crc32(open(sys.argv[1], "rb").read()))' "$work/image/boot/$1"
}

conf=/etc/dnsmasq.d/coppice.conf
coppice init >"$work/out" && coppice image import base "$work/image" --no-templates >"$work/out" || finish
coppice node add 000000008a4232c8 --mac b8:27:eb:42:32:c8 --ip 10.9.0.20 --hostname pi7 >"$work/out"
coppice node add 10000000ab42320d --mac dc:a6:32:00:00:01 --ip 10.9.0.21 >"$work/out"
coppice mount "$mnt" || finish
coppice dnsmasq --network 10.9.0.0/16 --install >"$work/out" || complain 'dnsmasq --install'
start_dnsmasq

# A Pi 3 with a row: its own address, every byte of every file.
told=$(boots pi3 000000008a4232c8 b8:27:eb:42:32:c8)
like 'a Pi 3 boots' 'offer 10.9.0.20 from 10.9.0.1'*boots "$told"
for name in bootcode.bin config.txt start.elf fixup.dat cmdline.txt kernel8.img; do
    is "$name" "got $name $(stat -c %s "$work/image/boot/$name") $(crc $name)" "$(grep "^got $name " <<<"$told")"
done

# A Pi 4 with a row: it asks for its serial first, and goes on without it, as its MAC leads to its files.
told=$(boots pi4 10000000ab42320d dc:a6:32:00:00:01)
like 'a Pi 4 boots' 'offer 10.9.0.21 from '*'missing ab42320d/start4.elf'*"got start4.elf "*boots "$told"

# One whose MAC is not known: below the root, by its serial.
sql "UPDATE node SET mac = NULL WHERE serial = '10000000ab42320d'"
told=$(boots pi4 10000000ab42320d dc:a6:32:00:00:02)
like 'a Pi 4 boots by its serial' "offer 10.9.*got ab42320d/start4.elf $(stat -c %s "$work/image/boot/start4.elf") $(crc start4.elf)"*boots "$told"

# What a node changes is what it boots.
echo own >"$mnt/system/000000008a4232c8/rootfs/boot/cmdline.txt"
like 'its own cmdline.txt' '*got cmdline.txt 4 *' "$(boots pi3 000000008a4232c8 b8:27:eb:42:32:c8)"

# A changed lease reaches the running dnsmasq by SIGHUP; it is not started anew.
sql "UPDATE node SET ip = '10.9.0.30' WHERE serial = '000000008a4232c8'"
coppice dnsmasq --install >"$work/out" || complain 'dnsmasq --install of a changed row'
kill -0 $dnsmasq || complain 'dnsmasq is gone'
like 'its new address' 'offer 10.9.0.30 from 10.9.0.1'*boots "$(boots pi3 000000008a4232c8 b8:27:eb:42:32:c8)"

# Boards without a row: a Pi 3, which tells no serial; one that does; a Pi 4, which asks for its own; and a telephone, which
# does not boot.
boots pi3 0000000044444444 b8:27:eb:00:00:03 >"$work/out"
boots pi3 000000005564247d b8:27:eb:64:24:7d >"$work/out"
boots pi4 1000000012345678 dc:a6:32:00:00:04 >"$work/out"
pending() {
    coppice node pending --log "$log" | awk '{ print $1, $2, $3, $7 }'
}
told=$(pending)
like 'the Pi 3 is pending' '*'$'\n''b8:27:eb:00:00:03 - 10.9.* bootcode.bin*' "$told"
like 'the other Pi 3 is pending' '*'$'\n''b8:27:eb:64:24:7d 5564247d 10.9.* bootcode.bin*' "$told"
like 'the Pi 4 is pending' '*'$'\n''dc:a6:32:00:00:04 12345678 10.9.* start4.elf*' "$told"
like 'so is the one whose MAC was taken away' '*'$'\n''dc:a6:32:00:00:02 ab42320d *' "$told"
is 'and nobody else' 6 "$(wc -l <<<"$told")"
is 'in JSON' '12345678' "$(coppice node pending --log "$log" --json |
    python3 -c 'import json, sys; print({m["mac"]: m["serial"] for m in json.load(sys.stdin)}["dc:a6:32:00:00:04"])')"
like 'added by its serial' 'node 12345678 added*' "$(coppice node add --pending DC-A6-32-00-00-04 --log "$log")"
like 'added by its MAC' 'node b8-27-eb-00-00-03 added*' "$(coppice node add --pending b8:27:eb:00:00:03 --log "$log")"
like 'asked twice' '*no machine of that MAC*' "$(coppice node add --pending b8:27:eb:00:00:03 --log "$log" 2>&1)"
is 'no longer pending' 0 "$(pending | grep -c dc:a6:32:00:00:04)"
like 'it boots now' '*boots' "$(boots pi3 000000001234abcd b8:27:eb:00:00:03)"
like 'no log' '*dnsmasq'"'"'s log: not found*' "$(coppice node pending 2>&1)"
echo "log-facility=$log" >/etc/dnsmasq.conf
like 'the log is found' '*dc:a6:32:00:00:02*' "$(coppice node pending)"

# Beside another DHCP server, which is there by its addresses alone.
stop_dnsmasq
coppice dnsmasq --network 10.9.0.0/16 --dhcp proxy --install >"$work/out" || complain 'dnsmasq --dhcp proxy --install'
start_dnsmasq
told=$(boots pi3 000000008a4232c8 b8:27:eb:42:32:c8 10.9.0.99)
like 'a Pi 3 boots beside another DHCP server' 'offer 0.0.0.0 from 10.9.0.1'*'got bootcode.bin '*boots "$told"

stop_dnsmasq
finish
