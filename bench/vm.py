"""The measurements behind bench/vm.sh: vm.py CACHE [disk] [boot]."""

import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/vm"))
from lab import ADDRESS, MOUNT, NETWORK, Lab, Node, boot_all, call
from machine import Failure

# The disk of shared/netboot-howto's router: 27.63 MB/s, and about 100 seeks a second.
BYTES = int(os.environ.get("COPPICE_VM_BPS", "27630000"))
REQUESTS = int(os.environ.get("COPPICE_VM_IOPS", "200"))
THROTTLE = f",throttling.bps-total={BYTES},throttling.iops-total={REQUESTS}"
SIZE = int(os.environ.get("COPPICE_VM_BONNIE_MB", "1024"))
COUNTS = [int(word) for word in os.environ.get("COPPICE_VM_NODES", "1 4 8").split()]


def table(head, rows):
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(text.ljust(width) if column == 0 else text.rjust(width)
                        for column, (text, width) in enumerate(zip(row, widths))), flush=True)


# ---- bonnie++ on a slow disk ----

FIGURES = {"write": 11, "rewrite": 13, "read": 17, "seeks": 19}  # where bonnie++ has them in its line


def bonnie(machine, directory):
    """KiB a second; seeks a second."""
    text = machine.run(f"echo 3 >/proc/sys/vm/drop_caches; mkdir -p {directory} && cd {directory} && "
                       f"bonnie++ -q -n 0 -u 0 -f -b -s {SIZE} -r {SIZE // 2} -d . 2>/dev/null; "
                       f"cd /; rm -rf {directory}", 3000)
    fields = text.splitlines()[-1].split(",")
    return {name: float(fields[at]) if fields[at][:1].isdigit() else None for name, at in FIGURES.items()}


def on_slow_disk(house, node):
    """The raw disk, a node's root on the router, and that root in the node."""
    house.insert(node)
    sides = {"disk": bonnie(house.router, "/var/lib/coppice/bonnie"),
             "coppice": bonnie(house.router, f"{node.root}/root/bonnie")}
    house.router.run(f"cp /usr/local/sbin/bonnie++ {node.root}/usr/local/sbin/")
    boot_all([node])
    sides["node"] = bonnie(node, "/root/bonnie")
    return sides


def disk(cache, directory):
    """bonnie++ side by side on one throttled disk."""
    house = Lab(cache, directory, drive=THROTTLE, memory=512)
    try:
        house.start_router(programs=[shutil.which("bonnie++")])
        sides = on_slow_disk(house, house.add_node(Node(1)))
    finally:
        house.close()
    print_disk(sides)


def print_disk(sides):
    print(f"\nbonnie++ -n 0 -u 0 -f -b -s {SIZE}M, disk of {BYTES / 1e6:.2f} MB/s and {REQUESTS} requests/s: "
          "MB/s, seeks/s")
    rows = []
    for name in FIGURES:
        scale = 1 if name == "seeks" else 1024 / 1e6
        values = [sides[side][name] and sides[side][name] * scale for side in sides]
        rows.append([name, *("-" if value is None else f"{value:.1f}" for value in values),
                     *("-" if not value or not values[0] else f"{value / values[0]:.2f}" for value in values[1:])])
    table(["", "raw disk", "coppice", "node over NFS", "coppice/raw", "node/raw"], rows)


# ---- how long nodes boot ----

PEER_DNSMASQ = f"""
enable-tftp
tftp-root=/mnt/peer/tftpboot
tftp-unique-root=mac
dhcp-range={NETWORK}.10,{NETWORK}.250,255.255.255.0,12h
dhcp-userclass=set:ipxe,iPXE
pxe-prompt=tag:ipxe,"",0
pxe-service=tag:ipxe,x86PC,"PC",pxelinux
"""

# What coppice's templates write for a node, done by hand; $1 root, $2 host name.
PERSONAL = r"""
personal() {
    echo "$2" >"$1/etc/hostname"; : >"$1/etc/fstab"; : >"$1/etc/machine-id"; rm -f "$1"/etc/ssh/ssh_host_*
    sed -i "s|root=LABEL=root|boot=nfs root=/dev/nfs nfsroot=ADDRESS:$1,vers=3,tcp rw ip=dhcp net.ifnames=0|" \
        "$1/boot/firmware/pxelinux.cfg/default"
}
""".replace("ADDRESS", ADDRESS)


def make_peers_disk(cache, path, count):
    """An unpacked image as it is copied from by rsync, and that many copies of it."""
    call("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", path, f"{3 + count}G")
    mounts = []
    try:
        for file, options in ((path, "loop"), (f"{cache}/node.img", f"loop,ro,offset={129 << 20}")):
            mounts.append(f"{path}.{len(mounts)}")
            os.mkdir(mounts[-1])
            call("mount", "-o", options, file, mounts[-1])
        image = f"{mounts[0]}/image"
        call("cp", "-a", mounts[1], image)
        call("mcopy", "-s", "-n", "-i", f"{cache}/node.img@@1M", "::*", f"{image}/boot/firmware/")
        for number in range(1, count + 1):
            call("rsync", "-aHAX", image + "/", f"{mounts[0]}/copy{number}/")
            for part in ("upper", "work"):
                os.makedirs(f"{mounts[0]}/overlay{number}/{part}")
    finally:
        for mount in mounts:
            subprocess.run(["umount", mount], check=False)
            os.rmdir(mount)


def serve_peer(router, nodes, mount_root):
    """nfsd and dnsmasq for roots at /mnt/peer, each made by the shell command mount_root(node, root)."""
    lines, shell = [], [PERSONAL, "set -e; mkdir -p /mnt/peer/tftpboot"]
    dnsmasq = PEER_DNSMASQ
    for node in nodes:
        root = f"/mnt/peer/system/{node.serial}/rootfs"
        shell.append(f"mkdir -p {root}; {mount_root(node, root)}; personal {root} {node.hostname}; "
                     f"ln -sfn {root}/boot/firmware /mnt/peer/tftpboot/{node.mac.replace(':', '-')}")
        lines.append(f"{root} {node.ip}(rw,sync,no_subtree_check,no_root_squash,fsid={node.number})")
        dnsmasq += f"dhcp-host={node.mac},{node.ip}\n"
    router.write("/etc/dnsmasq.d/peer.conf", dnsmasq)
    router.run("\n".join(shell), 300)
    router.write("/etc/exports.d/peer.exports", "\n".join(lines) + "\n")
    router.run("systemctl restart nfs-server dnsmasq", 120)


def stop_peer(router):
    router.run("systemctl stop nfs-server dnsmasq; exportfs -ua; rm -f /etc/exports.d/* /etc/dnsmasq.d/*; "
               "for m in $(findmnt -rno TARGET | grep ^/mnt/peer/); do umount $m; done; "
               "rm -rf --one-file-system /mnt/peer", 120)


COUNTERS = r"""
cat /sys/class/net/eth0/statistics/tx_bytes
awk '$3 == "vdc" || $3 == "DISK" { sectors += $6 } END { print sectors * 512 }' /proc/diskstats
awk '/^cpu / { print ($2 + $3 + $4 + $7 + $8) / 100 }' /proc/stat
awk '/^(MemTotal|MemFree|Buffers|Cached|SReclaimable):/ { v[$1] = $2 * 1024 }
    END { print v["MemTotal:"] - v["MemFree:"] - v["Buffers:"] - v["Cached:"] - v["SReclaimable:"] }' /proc/meminfo
"""


def counters(house):
    return [float(word) for word in house.router.run(COUNTERS.replace("DISK", house.last_disk())).split()]


def boots(house, nodes):
    """For each count: seconds until all were up, bytes served, bytes read from the disk, CPU seconds, memory in use."""
    seen = {}
    for count in COUNTS:
        house.router.run("sync; echo 3 >/proc/sys/vm/drop_caches", 120)
        before = counters(house)
        seconds = boot_all(nodes[:count], 1200)
        after = counters(house)
        for node in nodes[:count]:
            node.cut_power()
        seen[count] = (seconds, *(now - then for now, then in zip(after[:3], before)), after[3])
        print(f"  {count} up after {seconds:.0f} s", flush=True)
    return seen


def bind_copy(node, root):
    return f"mount --bind /mnt/disk/copy{node.number} {root}"


def mount_overlay(node, root):
    own = f"/mnt/disk/overlay{node.number}"
    return ("mount -t overlay -o nfs_export=on,index=on,lowerdir=/mnt/disk/image,"
            f"upperdir={own}/upper,workdir={own}/work overlay {root}")


def boot(cache, directory):
    """Nodes that boot at once, from coppice, from copies made by rsync, and from overlayfs with nfs_export."""
    house = Lab(cache, directory)
    sides = {}
    try:
        peers = os.path.join(house.directory, "peers.ext4")
        make_peers_disk(cache, peers, max(COUNTS))
        house.more_disks.append(f"file={peers},format=raw,cache=unsafe")
        house.start_router()
        nodes = [house.add_node(Node(number + 1)) for number in range(max(COUNTS))]
        for node in nodes:
            house.insert(node)
        print("coppice", flush=True)
        sides["coppice"] = boots(house, nodes)
        house.router.run(f"systemctl stop nfs-server dnsmasq; exportfs -ua; coppice umount {MOUNT} || exit 1; "
                         "rm -f /etc/exports.d/* /etc/dnsmasq.d/*; "
                         f"mkdir -p /mnt/disk && mount /dev/{house.last_disk()} /mnt/disk", 180)
        for name, mount_root in (("rsync copies", bind_copy), ("overlayfs", mount_overlay)):
            print(name, flush=True)
            serve_peer(house.router, nodes, mount_root)
            sides[name] = boots(house, nodes)
            stop_peer(house.router)
    finally:
        house.close()
    print_boots(sides)


def print_boots(sides):
    figures = (("seconds until all are up", 1), ("MiB sent to nodes", 1 << 20), ("MiB read from the disk", 1 << 20),
               ("router's CPU seconds", 1), ("router's memory, MiB", 1 << 20))
    rows = [[f"{count} nodes: {what}", *(f"{side[count][at] / unit:.0f}" for side in sides.values())]
            for count in COUNTS for at, (what, unit) in enumerate(figures)]
    print()
    table(["", *sides], rows)


def main():
    cache, *wanted = sys.argv[1:]
    works = {"disk": disk, "boot": boot}
    if any(name not in works for name in wanted):
        sys.exit("usage: bench/vm.sh [disk] [boot]")
    try:
        for name in wanted or works:
            works[name](cache, os.environ.get("TMPDIR", "/tmp"))
    except Failure as reason:
        sys.exit(f"vm.sh: {reason}")


if __name__ == "__main__":
    main()
