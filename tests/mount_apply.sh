#!/bin/bash
# What is written for nfsd and dnsmasq: that they take it, and that mount -o apply keeps it as the catalog says.
source "$(dirname "${BASH_SOURCE[0]}")/netns.bash"

own /etc /run /var/lib/nfs
exports=/etc/exports.d/coppice.exports
conf=/etc/dnsmasq.d/coppice.conf
hosts=/etc/coppice/dhcp-hosts
mnt="$work/m n,t"
options=rw,sync,no_subtree_check,no_root_squash
rm -rf /etc/exports.d /etc/dnsmasq.d /etc/coppice /run/systemd
: >/etc/exports

# The services' own tools, which also note that they were called.
mkdir "$work/bin" "$mnt"
real=$(command -v exportfs)
cat >"$work/bin/exportfs" <<END
#!/bin/bash
echo "\$*" >>"$work/calls"
exec "$real" "\$@"
END
chmod +x "$work/bin/exportfs"
PATH=$work/bin:$PATH

fsid_of() { # SERIAL; "": of them all
    sed -n "s|.*/system${1:+/$1/rootfs} .*fsid=\([0-9]*\).*|\1|p" "$exports"
}

calls() {
    wc -l <"$work/calls"
}

# What exportfs has understood, a line for each export.
understood() {
    "$real" -s
}

coppice init >"$work/out" || finish
mkdir -p "$work/image/boot"
coppice image import base "$work/image" >"$work/out" || finish

# Nothing is known: neither prints lines, and dnsmasq's says nothing of DHCP.
like 'exports of nothing' '*nobody to export to*' "$(coppice exports --mountpoint "$mnt" 2>&1)"
like 'not mounted' '*is not mounted; --mountpoint DIR*' "$(coppice exports 2>&1)"
is 'no dhcp' '' "$(coppice dnsmasq --mountpoint "$mnt" | grep dhcp-range)"
like 'no network' '*DHCP needs --network*' "$(coppice dnsmasq --mountpoint "$mnt" --dhcp full 2>&1)"
like 'host bits' '*has host bits set*' "$(coppice exports --mountpoint "$mnt" --network 10.9.0.1/16 2>&1)"

# With the network alone: the one line for all.
line=$(coppice exports --mountpoint /mnt/cluster --network 10.9.0.0/16 | grep -v '^#')
like 'one line' "/mnt/cluster/system 10.9.0.0/16($options,fsid=*)" "$line"

# What dnsmasq reads.
for dhcp in none proxy full; do
    coppice dnsmasq --mountpoint "$mnt" --network 10.9.0.0/16 --dhcp $dhcp >"$work/dnsmasq.conf"
    like "dnsmasq --test of $dhcp" '*syntax check OK.' "$(dnsmasq --test -C "$work/dnsmasq.conf" 2>&1)"
done
like 'full' '*dhcp-range=10.9.128.0,10.9.255.254,255.255.0.0,12h*' "$(<"$work/dnsmasq.conf")"
like 'what a PC takes comes first' '*pxe-service=tag:ipxe,x86PC,"PC",pxelinux'$'\n''pxe-service=0,*' "$(<"$work/dnsmasq.conf")"
for wanted in log-dhcp enable-tftp tftp-unique-root=mac 'pxe-service=0,"Raspberry Pi Boot"' tftp-no-fail \
    "tftp-root=\"$mnt/tftpboot\"" "dhcp-hostsdir=$hosts"; do
    is "a line" 1 "$(grep -cxF "$wanted" "$work/dnsmasq.conf")"
done

# Installed and followed.
coppice mount -o apply "$mnt" || finish
within 5 test -f "$conf" || complain 'no dnsmasq configuration after 5 s'
is 'no range yet' 0 "$(grep -c dhcp-range "$conf")"
sql "INSERT INTO setting VALUES('network', '10.9.0.0/16')"
within 2 grep -qs ' 10.9.0.0/16(' "$exports" || complain 'no export of the network after 2 s'
within 2 grep -qx 'dhcp-range=10.9.0.0,proxy,255.255.0.0' "$conf" || complain 'no DHCP proxy after 2 s'
like 'exportfs took it' "*/m\\\\040n,t/system*10.9.0.0/16(*fsid=$(fsid_of ''),*no_root_squash*)" "$(understood)"
network_fsid=$(fsid_of '')

coppice node add 000000008a4232c8 --mac b8:27:eb:42:32:c8 --ip 10.9.0.20 --hostname pi7.lan >"$work/out"
within 2 grep -qs ' 10.9.0.20(' "$exports" || complain 'no export of the node after 2 s'
is 'no network-wide line' 0 "$(grep -c 10.9.0.0/16 "$exports")"
within 2 test -f $hosts/000000008a4232c8 || complain 'no lease after 2 s'
is 'lease' 'b8:27:eb:42:32:c8,10.9.0.20,pi7' "$(cat $hosts/000000008a4232c8)"
like 'its own line' "*/m\\\\040n,t/system/000000008a4232c8/rootfs*10.9.0.20(*fsid=$(fsid_of 000000008a4232c8),*no_root_squash*)" "$(understood)"
first_fsid=$(fsid_of 000000008a4232c8)

sql "INSERT INTO node(serial, ip) VALUES('second', '10.9.0.21')"
within 2 grep -q ' 10.9.0.21(' "$exports" || complain 'no second export after 2 s'
is 'a line for each' 2 "$(grep -c "($options,fsid=[0-9]*)\$" "$exports")"
second_fsid=$(fsid_of second)
is 'fsids differ' 3 "$(printf '%s\n' "$network_fsid" "$first_fsid" "$second_fsid" | sort -u | wc -l)"

# A row that goes takes its line and its lease along; one that comes back has its old fsid.
sql "UPDATE node SET ip = '10.9.0.22' WHERE serial = '000000008a4232c8'"
within 2 grep -q ' 10.9.0.22(' "$exports" || complain 'no changed export after 2 s'
within 2 grep -q 10.9.0.22 $hosts/000000008a4232c8 || complain 'no changed lease after 2 s'
is 'fsid stays' "$first_fsid" "$(fsid_of 000000008a4232c8)"
sql "DELETE FROM node WHERE serial = '000000008a4232c8'"
gone() { [[ ! -e $hosts/000000008a4232c8 ]] && ! grep -q 000000008a4232c8 "$exports"; }
within 2 gone || complain 'a removed node is still served after 2 s'
coppice node add 000000008a4232c8 --ip 10.9.0.20 >"$work/out"
within 2 grep -qs ' 10.9.0.20(' "$exports" || complain 'no export of the returned node after 2 s'
is 'fsid comes back' "$first_fsid" "$(fsid_of 000000008a4232c8)"

# A change that concerns neither calls nobody.
before=$(calls)
sql "UPDATE node SET hostname = 'other' WHERE serial = 'second'"
sleep 1.5
is 'no needless exportfs' "$before" "$(calls)"

# It goes with the mount: nfsd would hold it.
coppice umount "$mnt" || complain 'umount'
[[ ! -e $exports ]] || complain 'exports after umount'
is 'exportfs took it back' '' "$(understood)"

# A second store's mount does not take what serves the first.
coppice mount -o apply "$mnt" || complain 'mount'
within 5 test -f $exports || complain 'no exports'
before=$(cat $exports $conf)
second() { COPPICE_STORE=$work/second coppice "$@"; }
mkdir "$work/second mnt"
second init --network 10.10.0.0/16 >"$work/out" && second image import base "$work/image" >"$work/out" || complain 'second store'
second mount -o apply "$work/second mnt" || complain 'second mount'
for name in exports dnsmasq; do
    like "$name of the second" "coppice: */coppice.[ce]*: serves the mount on $mnt, and a machine serves one; 'coppice umount $mnt' ends that" \
        "$(second $name --install 2>&1)"
done
like 'doctor of the second' "*wrong  exports *serves the mount on $mnt*mend: coppice umount '$mnt' && *exports --install*" "$(second doctor)"
is 'as the first wrote them' "$before" "$(cat $exports $conf)"
second umount "$work/second mnt" || complain 'second umount'
[[ -e $exports ]] || complain 'its exports went with the other mount'
coppice umount "$mnt" || complain 'umount'
second mount "$work/second mnt" && second exports --install >"$work/out" || complain 'the second has them now'
like 'the second' "*# For the mount on $work/second mnt*" "$(<"$exports")"
rm $exports && "$real" -ra
second umount "$work/second mnt" || complain 'second umount'

# By hand, remembering what was given.
coppice mount "$mnt" || complain 'mount'
coppice exports --install >"$work/out" || complain 'exports --install'
is 'lines by hand' 2 "$(grep -c fsid "$exports")"
coppice dnsmasq --network 10.9.0.0/24 --install >"$work/out" || complain 'dnsmasq --install'
is 'remembered' '10.9.0.0/24 full' "$(sql "SELECT group_concat(value, ' ') FROM setting WHERE name IN ('dhcp', 'network')" | sed 's/^full \(.*\)/\1 full/')"
is 'used' 1 "$(coppice dnsmasq | grep -cx 'dhcp-range=10.9.0.128,10.9.0.254,255.255.255.0,12h')"

rm $exports
"$real" -ra
coppice umount "$mnt" || complain 'umount'

# exportfs must be able to refuse, or its silence above proves nothing.
echo "$work 10.9.0.1($options,nonsense)" >"$exports"
like 'exportfs refuses nonsense' '*nonsense*' "$("$real" -ra 2>&1)"

finish
