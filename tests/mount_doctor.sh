#!/bin/bash
# coppice doctor against an NFS server (nfs-ganesha), rpcbind and dnsmasq, on loopback in a network of the test's own:
# a node that would boot, and every step made wrong in turn. And doctor --watch while boards boot.
source "$(dirname "${BASH_SOURCE[0]}")/netns.bash"

own /etc /run /var/lib/misc /var/lib/nfs /var/lib/nfs/ganesha
chmod 755 "$work"
mnt=$work/mnt
log=$work/dnsmasq.log
serial=000000008a4232c8
PATH=$(dirname "$COPPICE"):$PATH # the commands that doctor names are run
root=$mnt/system/$serial/rootfs
rm -rf /etc/exports.d /etc/dnsmasq.d /etc/dnsmasq.conf /etc/coppice /run/systemd /run/dnsmasq /run/rpcbind*
: >/etc/exports
mkdir -p "$mnt" /run/dnsmasq /run/ganesha /run/rpcbind "$work/image/"{boot,sbin,etc/network,tmp}
chmod 1777 "$work/image/tmp"

: >"$work/image/sbin/init"
for name in bootcode.bin start.elf fixup.dat kernel8.img bcm2710-rpi-3-b.dtb config.txt; do
    head -c $((10000 + RANDOM)) /dev/urandom | base64 >"$work/image/boot/$name"
done
echo "console=tty1 root=/dev/nfs nfsroot=10.9.0.1:$root,vers=3,proto=tcp rw ip=dhcp rootwait" >"$work/image/boot/cmdline.txt"
echo 'proc /proc proc defaults 0 0' >"$work/image/etc/fstab"
printf 'auto lo\niface lo inet loopback\n#iface eth0 inet dhcp\n' >"$work/image/etc/network/interfaces"
echo node >"$work/image/etc/hostname"

ip link add router type veth peer name cable
ip link set cable up
ip addr add 10.9.0.1/16 dev router
ip link set router up

start_dnsmasq() {
    dnsmasq --keep-in-foreground --conf-file=/etc/dnsmasq.d/coppice.conf --port=0 --log-facility="$log" \
        --pid-file=/run/dnsmasq/dnsmasq.pid --dhcp-leasefile="$work/leases" --user=nobody &
    dnsmasq=$!
    within 5 grep -q ':0045 ' /proc/net/udp || complain "dnsmasq: $(cat "$log")"
}

# SQUASH: ganesha's word, [ACCESS, [CLIENTS: all others have none]]
start_ganesha() {
    write_ganesha "$@"
    ganesha.nfsd -F -f "$work/ganesha.conf" -L "$work/ganesha.log" -p "$work/ganesha.pid" -N EVENT &
    ganesha=$!
    within 20 registered || complain "ganesha: $(tail -n 5 "$work/ganesha.log")"
}

write_ganesha() {
    cat >"$work/ganesha.conf" <<END
NFS_CORE_PARAM { Protocols = 3; Enable_NLM = false; Enable_RQUOTA = false; NFS_Port = 2049; MNT_Port = 20048; }
EXPORT { Export_Id = 1; Path = "$mnt/system"; Pseudo = "/system"; Squash = $1; SecType = sys;
    Access_Type = ${3+None; CLIENT { Clients = $3; Squash = $1; Access_Type =} ${2-RW}; ${3+\}}
    Filesystem_Id = 7.7; Attr_Expiration_Time = 0; FSAL { Name = VFS; } }
MDCACHE { Dir_Chunk = 0; } # what is changed beside it shows at once, as with the kernel's server
END
}

registered() {
    [[ $(doctor | grep -cE ' ok +(mountd|nfsd) ') == 2 ]]
}

stop() { # PID
    kill -KILL "$1"
    wait "$1" 2>/dev/null
}

doctor() {
    coppice doctor $serial "$@"
}

# step STEP PATTERN [MEND]: what doctor says of a step, and how it would mend it
step() {
    like "$1" "$2*" "$(grep -E "^  (ok|wrong|[?]) +$1 " <<<"$told" | sed -E 's/^ +//; s/  +/ /g')"
    [[ -z ${3-} ]] || like "mending $1" "*$3*" "$(grep -E -A1 "^  (ok|wrong|[?]) +$1 " <<<"$told" | sed -n 2p)"
}

# mends STEP PATTERN [ARGUMENTS]: the step is wrong now, and the command that it names mends it
mends() {
    told=$(doctor "${@:3}") && complain "$1: exit status 0"
    step "$1" "wrong $1 $2"
    is "$1: nothing else is wrong" 1 "$(grep -c "^  wrong" <<<"$told")" || echo "$told"
    bash -c "$(grep -E -A1 "^  wrong +$1 " <<<"$told" | sed -nE '2s/^ *mend: //p')" >"$work/out" 2>&1 || complain "$1: its command failed"
    like "$1 is mended" "ok $1 *" "$(doctor "${@:3}" | grep -E "^ .* $1 " | sed -E 's/^ +//; s/  +/ /g')"
}

coppice init --server 10.9.0.1 --network 10.9.0.0/16 >"$work/out" && coppice image import base "$work/image" >"$work/out" || finish
coppice node add $serial --mac b8:27:eb:42:32:c8 >"$work/out"

# Nothing is set up: no step is ok but those that stand on nothing.
told=$(doctor) && complain 'nothing is set up: exit status 0'
step mount 'wrong mount * is not mounted' 'mount -o apply'
step image '[?] image base; not mounted'
step listening 'wrong listening nobody listens'
step rpcbind 'wrong rpcbind 10.9.0.1:111 does not answer: Connection refused' 'systemctl start rpcbind'
step cmdline.txt '[?]'
like 'no such node' '*no such node*' "$(coppice doctor nonsense 2>&1)"

coppice mount "$mnt" || finish
told=$(doctor)
step dnsmasq 'wrong dnsmasq /etc/dnsmasq.d/coppice.conf is not there' 'dnsmasq --install'
step exports 'wrong exports /etc/exports.d/coppice.exports is not there' 'exports --install'
step tftp 'wrong tftp 10.9.0.1:69 does not answer' 'systemctl restart dnsmasq'
step nfs '[?] nfs the NFS server cannot be reached'
step boot.files 'ok boot files complete for Pi 3 and older'

coppice dnsmasq --network 10.9.0.0/16 --install >"$work/out" || complain 'dnsmasq --install'
coppice exports --install >"$work/out" || complain 'exports --install'
start_dnsmasq
rpcbind -f &
rpcbind=$!
told=$(within 5 registered; doctor)
step rpcbind 'ok rpcbind 10.9.0.1:111 answers'
step mountd 'wrong mountd rpcbind knows no mountd' 'nfs-server'
start_ganesha No_Root_Squash

# All is well.
told=$(doctor) || complain "all is well: exit status $?"
is 'all is ok' 17 "$(grep -c '^  ok' <<<"$told")" || echo "$told"
step tftp "ok tftp b8-27-eb-42-32-c8/bootcode.bin, $(stat -c %s "$work/image/boot/bootcode.bin") bytes"
step nfs "ok nfs $root mounted, read and written as root"
is 'nothing is left' '' "$(ls -A "$root/tmp")"

# Each file made wrong, and mended by the command that doctor names.
boot=$root/boot
sed -i 's/ rw / /' "$boot/cmdline.txt" && mends cmdline.txt 'rw is missing'
sed -i 's/10.9.0.1/10.9.0.2/' "$boot/cmdline.txt" && mends cmdline.txt 'nfsroot= is on 10.9.0.2, not on 10.9.0.1'
sed -i "s/$serial/other/" "$boot/cmdline.txt" && mends cmdline.txt 'nfsroot= is */other/rootfs*'
echo 'console=serial0,115200 console=tty1 root=PARTUUID=907af7d0-02 rootfstype=ext4 fsck.repair=yes rootwait quiet' >"$boot/cmdline.txt"
mends cmdline.txt 'root=PARTUUID=907af7d0-02, not /dev/nfs'
is 'the line' "console=serial0,115200 console=tty1 quiet root=/dev/nfs nfsroot=10.9.0.1:$root,vers=3,proto=tcp rw ip=dhcp rootwait" "$(<"$boot/cmdline.txt")"
rm "$boot/cmdline.txt" && mends cmdline.txt 'No such file'
echo 'auto_initramfs=1' >>"$boot/config.txt" && mends cmdline.txt 'an initramfs is used*'
echo 'PARTUUID=907af7d0-02 / ext4 defaults 0 1' >>"$root/etc/fstab" && mends fstab 'it mounts / from a disk*'
echo 'PARTUUID=907af7d0-01 /boot/firmware vfat defaults 0 2' >>"$root/etc/fstab" && mends fstab 'it mounts /boot/firmware *'
printf '\nallow-hotplug eth0\niface eth0 inet dhcp\n  hostname x\n' >>"$root/etc/network/interfaces" && mends interfaces '* configures eth0 anew*'
is 'lo stays' 'iface lo inet loopback' "$(grep '^iface' "$root/etc/network/interfaces")"
mkdir "$root/etc/network/interfaces.d" && echo 'auto eth0' >"$root/etc/network/interfaces.d/x"
mends interfaces 'etc/network/interfaces.d/x configures eth0 anew*'
rm -r "$root/etc/network/interfaces.d"
# Other services count when the node starts them.
wants=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$wants" "$root/etc/NetworkManager/conf.d" "$root/etc/systemd/network"
echo 'persistent' >"$root/etc/dhcpcd.conf"
printf '[Match]\nName=wlan*\n' >"$root/etc/systemd/network/05-wlan.network"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/10-wired.network"
printf '[keyfile]\nunmanaged-devices=interface-name:wlan0\n' >"$root/etc/NetworkManager/conf.d/10.conf"
like 'none is started' '*ok * interfaces *' "$(doctor)"
touch "$wants/dhcpcd.service" && mends interfaces 'dhcpcd configures eth0 anew*'
touch "$wants/NetworkManager.service" && mends interfaces 'NetworkManager configures eth0 anew*'
touch "$wants/systemd-networkd.service" && mends interfaces 'etc/systemd/network/10-wired.network: systemd-networkd drops*'
echo 'allowinterfaces eth*' >>"$root/etc/dhcpcd.conf" && mends interfaces 'dhcpcd configures eth0 anew*'
chmod o-r "$boot/bootcode.bin"
told=$(doctor)
step boot.files 'wrong boot files bootcode.bin may not be read' "chmod -R a+rX '$boot'"
step tftp 'wrong tftp b8-27-eb-42-32-c8/bootcode.bin: the server may not read it' chmod
chmod o+r "$boot/bootcode.bin"
mv "$boot/start.elf" "$boot/kept"
told=$(doctor)
step boot.files 'wrong boot files for a Pi 3 and older there is no start.elf in boot' raspi-firmware
mv "$boot/kept" "$boot/start.elf"
told=$(doctor --model pi4)
step boot.files 'wrong boot files for a Pi 4 there is no start4.elf, fixup4.dat, bcm2711-rpi-\*.dtb'
echo '# mine' >>/etc/dnsmasq.d/coppice.conf && mends dnsmasq '* is not what the catalog says'
echo '# mine' >>/etc/exports.d/coppice.exports && mends exports '* is not what the catalog says'
sql "UPDATE node SET mac = NULL"
told=$(doctor)
step tftpboot '[?] tftpboot */tftpboot/8a4232c8: enough for a Pi 4 or 5'
sql "UPDATE node SET mac = 'b8:27:eb:42:32:c8'"

# The server made wrong.
stop $dnsmasq
told=$(doctor)
step listening 'wrong listening nobody' 'restart dnsmasq'
step tftp 'wrong tftp 10.9.0.1:69 does not answer'
start_dnsmasq
stop $ganesha
start_ganesha Root_Squash
told=$(doctor)
step nfs 'wrong nfs root is squashed to uid *: no_root_squash is missing' 'exports --install'
is 'nothing is left when squashed' '' "$(ls -A "$root/tmp")"
stop $ganesha
start_ganesha No_Root_Squash RO
told=$(doctor)
step nfs 'wrong nfs exported read-only' 'exports --install'

# Exported to the node alone: exportfs's table is looked at, and for the time of the probe this machine may mount it.
stop $ganesha
start_ganesha No_Root_Squash RW 10.9.0.20
coppice node set $serial --ip 10.9.0.20 >"$work/out" && coppice exports --install >"$work/out" || complain 'its own export'
told=$(doctor) || complain "its own export: exit status $?"
step nfs "ok nfs $root exported to 10.9.0.20; read and write are not tried from here"
sed -i s/no_root_squash/root_squash/g /var/lib/nfs/etab && mends nfs 'root is squashed for 10.9.0.20'
sed -i 's/(rw,/(ro,/; s/,rw,/,ro,/' /var/lib/nfs/etab && mends nfs 'exported to 10.9.0.20 read-only'
: >/var/lib/nfs/etab && mends nfs "$root is not exported to 10.9.0.20"
rm /var/lib/nfs/etab
told=$(doctor)
step nfs "[?] nfs not in the server's list for 10.9.0.20, as this machine is told"
coppice exports --install >"$work/out" || complain 'exported anew'
real=$(command -v exportfs)
mkdir "$work/bin"
cat >"$work/bin/exportfs" <<END
#!/bin/bash
$(declare -f write_ganesha)
mnt=$mnt work=$work
echo "\$*" >>"$work/asked"
[[ \$1 == -o ]] && write_ganesha No_Root_Squash RW 10.9.0.20,10.9.0.1
[[ \$1 == -u ]] && write_ganesha No_Root_Squash RW 10.9.0.20
kill -HUP $ganesha
sleep 1
exec $real "\$@"
END
chmod +x "$work/bin/exportfs"
told=$(PATH=$work/bin:$PATH doctor) || complain "as a guest: exit status $?"
step nfs "ok nfs $root exported to 10.9.0.20; mounted, read and written as root over NFS 3"
is 'as a guest' "-o rw,sync,no_subtree_check,no_root_squash,fsid=* 10.9.0.1:$root -u 10.9.0.1:$root" "$(sed 's/fsid=[0-9]*/fsid=*/' "$work/asked" | xargs -d '\n')"
is 'the guest is gone' 0 "$(grep -c '10[.]9[.]0[.]1(' /var/lib/nfs/etab)"
is 'nothing is left by the guest' '' "$(ls -A "$root/tmp")"

# Servers that keep a client busy: rpcbind's answer comes byte by byte, TFTP's is never the next block.
stop $ganesha
stop $dnsmasq
stop $rpcbind
cat >"$work/busy.py" <<'END'
import select, socket, time
rpc = socket.create_server(("10.9.0.1", 111))
tftp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tftp.bind(("10.9.0.1", 69))
asked, clients = None, []
while True:
    ready = select.select([rpc, tftp], [], [], 0.2)[0]
    if rpc in ready:
        clients.append(rpc.accept()[0])
    if tftp in ready:
        asked = tftp.recvfrom(2048)[1]
    for client in clients:
        try:
            client.send(b"\x80")
        except OSError:
            clients.remove(client)
            break
    if asked:
        tftp.sendto(b"\0\3\x77\x77" + bytes(512), asked)
END
python3 "$work/busy.py" &
busy=$!
within 5 grep -q ':0045 ' /proc/net/udp
began=$SECONDS
told=$(timeout 60 coppice doctor $serial)
((SECONDS - began < 20)) || complain "busy servers: $((SECONDS - began)) s"
step rpcbind 'wrong rpcbind 10.9.0.1:111 does not answer'
step tftp 'wrong tftp 10.9.0.1:69 does not answer: Connection timed out'
step nfs '[?] nfs the NFS server cannot be reached'
stop $busy

# A file of the node's own that lacks a value.
printf 'x ${nothing}\n' | coppice template set etc/motd - >"$work/out"
coppice node add other >"$work/out" && ls "$mnt/system/other/rootfs" >"$work/out"
told=$(coppice doctor other)
step templates 'wrong templates *${nothing}*' 'template show etc/motd'

# Boards, as dnsmasq tells of them.
line() {
    echo "Nov 22 20:03:07 dnsmasq-$1[53]: $2" >>"$log"
}
board() { # XID MAC IP
    line dhcp "$1 vendor class: PXEClient:Arch:00000:UNDI:002001"
    line dhcp "$1 DHCPDISCOVER(router) $2 "
    line dhcp "$1 DHCPOFFER(router) $3 $2 "
}
coppice doctor --watch --log "$log" --seconds 4 >"$work/watch" &
watch=$!
within 5 grep -qs following "$work/watch"
board 7 b8:27:eb:42:32:c8 10.9.0.20
line tftp "sent $mnt/tftpboot/b8-27-eb-42-32-c8/bootcode.bin to 10.9.0.20"
board 8 dc:a6:32:00:00:01 10.9.0.21
line dhcp '9 vendor class: android-dhcp-13'
line dhcp '9 DHCPDISCOVER(router) 02:00:00:00:00:99 '
board 10 dc:a6:32:00:00:02 10.9.0.22
line tftp "file $mnt/tftpboot/bootcode.bin not found for 10.9.0.22"
board 11 dc:a6:32:00:00:03 10.9.0.23
line tftp "sent $mnt/tftpboot/x/start4.elf to 10.9.0.23"
line tftp "sent $mnt/tftpboot/x/kernel8.img to 10.9.0.23"
echo "Nov 22 20:03:07 router rpc.mountd[7]: authenticated mount request from 10.9.0.23:812 for $root ($mnt/system)" >>"$log"
wait $watch || complain 'watch: exit status'
so_far() { # MAC
    sed -nE "s/^.*$1  so far: //p" "$work/watch"
}
like 'stuck after bootcode.bin' 'asked DHCP, got bootcode.bin: never asked for start.elf: *' "$(so_far b8:27:eb:42:32:c8)"
like 'never asked for a file' 'asked DHCP, got an address: never asked for a file: *' "$(so_far dc:a6:32:00:00:01)"
like 'not there' 'asked DHCP, got an address; asked for bootcode.bin, which is not there*' "$(so_far dc:a6:32:00:00:02)"
is 'mounted' 'asked DHCP, mounted its root' "$(so_far dc:a6:32:00:00:03)"
is 'a telephone is no board' 0 "$(grep -c 02:00:00:00:00:99 "$work/watch")"

finish
