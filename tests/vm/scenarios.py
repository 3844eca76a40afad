"""scenarios: what is done with the lab, and what must come of it. Each function raises Failure or Skipped, or returns
what it saw, in a line."""

import os
import re
import shutil
import time

from lab import MOUNT, Node, boot_all
from machine import FACTOR, Arm64, Failure


class Skipped(Exception):
    """Why it cannot be told."""


def check(condition, what):
    if not condition:
        raise Failure(what)


def need_nodes(lab, count=2):
    """Nodes 1 to count, on; those that are not are added and booted. Returns them all, and the seconds it took."""
    for number in range(len(lab.nodes) + 1, count + 1):
        node = lab.add_node(Node(number))
        lab.insert(node)
        lab.nodes.append(node)
    off = [node for node in lab.nodes[:count] if not node.is_on()]
    return lab.nodes[:count], boot_all(off)


# ---- 1 ----

def identity_of(node):
    return node.run("hostname; cat /etc/machine-id; cut -d' ' -f1,2 /etc/ssh/ssh_host_*_key.pub").splitlines()


def two_nodes(lab):
    """Two nodes boot at once by PXE, and keep their own writes."""
    nodes, first = need_nodes(lab)
    for node in nodes:
        node.run(f"echo {node.hostname} >/root/own && echo {node.hostname} >/root/{node.hostname} && sync")
        check(f":{node.root} on / " in node.run("cat /proc/mounts | awk '{print $1 \" on \" $2 \" \"}'") + " ",
              f"{node.hostname}: its root is not {node.root}")
    for node in nodes:
        node.begin("systemctl reboot")
    for node in nodes:
        node.wait_off()
    again = boot_all(nodes)
    for node, other in (nodes, nodes[::-1]):
        check(node.run("cat /root/own") == node.hostname, f"{node.hostname}: its own write is not there")
        check(node.status(f"test -e /root/{other.hostname}") == 1, f"{node.hostname}: sees a write of {other.hostname}")
    for what, ours, others in zip(("hostname", "machine-id", "ssh host key"), *map(identity_of, nodes)):
        check(ours != others, f"both nodes have the same {what}: {ours}")
    images = lab.sql("SELECT count(DISTINCT coalesce(image, 'default')) FROM node")
    check(images == "1", f"the nodes stand on {images} images")
    return f"both up after {first:.0f} s, again after {again:.0f} s; own writes kept, nothing shared"


# ---- 2 ----

# `images` has put both where apt finds them; 40 MB.
INSTALL = "apt-get -q -y --no-install-recommends install vim groff >/var/log/install.log 2>&1"
PURGE = "dpkg --purge vim vim-runtime vim-common groff groff-base"


def reset_and_snapshot(lab):
    """A node is reset to the image, another to a snapshot taken while it installed packages."""
    if lab.router.status("coppice snapshot --help") or lab.router.status("coppice reset --help"):
        raise Skipped("this coppice has no snapshots")
    (fresh, frozen), _ = need_nodes(lab)
    fresh.run("echo mine >/root/own; rm -f /etc/debian_version; sync")
    install = frozen.begin(INSTALL)
    before = wait_for(lambda: int(frozen.run("grep -c ^Unpacking /var/log/install.log || true")) >= 3 or install.done.is_set(), 300)
    check(before and not install.done.is_set(), "the installation ended before there could be a snapshot")
    lab.router.run(f"coppice snapshot create {frozen.serial} halfway")
    # What comes of the installation does not matter any more: the snapshot has its own.
    time.sleep(2)
    check(not install.done.is_set(), "the installation ended beside the snapshot")
    for node in (fresh, frozen):
        node.cut_power()
    lab.router.run(f"coppice reset {fresh.serial} --force; coppice reset {frozen.serial} --to halfway --force")
    seconds = boot_all([fresh, frozen])
    check(fresh.status("test -e /root/own") == 1, "after the reset the node's own file is still there")
    check(fresh.status("test -s /etc/debian_version") == 0, "after the reset a file of the image is still missing")
    unpacked = int(frozen.run("grep -c ^Unpacking /var/log/install.log"))
    frozen.run("dpkg --configure -a && apt-get -q -y -f install", 600)
    check(frozen.run("dpkg --audit") == "", "dpkg --audit is not clean after the reset and `dpkg --configure -a`")
    return f"both up after {seconds:.0f} s; fresh again; back at {unpacked} packages unpacked, completed, dpkg --audit clean"


def wait_for(condition, timeout, step=1):
    end = time.monotonic() + timeout * FACTOR
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(step)
    return False


# ---- 3 ----

# Appends numbered lines and makes numbered files; what was acknowledged is noted in /run, which is not on the network.
WRITER = """
import os, time
os.makedirs('/root/acked', exist_ok=True)
log = os.open('/root/acked/log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
number = 0
while not os.path.exists('/run/stop'):
    number += 1
    os.write(log, b'%d\\n' % number)
    os.fsync(log)
    os.close(os.open(f'/root/acked/{number}', os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    with open('/run/acked', 'w') as noted:
        noted.write(str(number))
    time.sleep(0.05)
"""


def acknowledged(node):
    text = node.run("cat /run/acked 2>/dev/null || echo 0", 300)
    return int(text or 0)


def check_acknowledged(lab, node, number, when):
    """The router has what the node was told that it has."""
    there = lab.router.run(f"cd {node.root}/root/acked && tail -n1 log; test -e {number} && echo yes || echo no").split()
    check(len(there) == 2 and int(there[0]) >= number and there[1] == "yes",
          f"{when}: {number} was acknowledged, on the router are line {there[0]}, file: {there[-1]}")


def disturb(lab, node, name, action):
    """Does it, and waits until the node has something new acknowledged."""
    begun = time.monotonic()
    before = acknowledged(node)
    action()
    # What the router's kernel knows would hide a handle that leads nowhere.
    lab.router.run("echo 3 >/proc/sys/vm/drop_caches", 120)
    check(wait_for(lambda: acknowledged(node) > before + 2, 300), f"{name}: the node did not go on")
    return f"{name} {time.monotonic() - begun:.0f} s"


def kill_daemon(lab):
    """kill -9 of the process that serves, and what is needed until it serves again."""
    router = lab.router
    router.run("pid=$(coppice status --json | sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); kill -9 $pid; sleep 2")
    if router.status(f"timeout 20 ls {MOUNT}/system", 60):
        # No supervisor: by hand, as README.md says.
        router.run(f"exportfs -ua; coppice umount {MOUNT} || umount -l {MOUNT}; coppice mount -o apply {MOUNT}; exportfs -ra", 120)


def replace_daemon(lab):
    if lab.router.status("coppice mount --help | grep -q -e --replace"):
        lab.router.run(f"systemctl stop nfs-server; exportfs -ua; coppice umount {MOUNT}; coppice mount -o apply {MOUNT}; "
                       "systemctl start nfs-server", 180)
    else:
        lab.router.run(f"coppice mount --replace {MOUNT}", 60)


def cut_router(lab, node):
    """The plug: between the boot and the first request nobody but the store's disk can know what was acknowledged."""
    number = acknowledged(node)
    lab.router.cut_power()
    lab.router.start()
    lab.router.wait_up(300)
    lab.router.run("router-setup mount", 180)
    check_acknowledged(lab, node, number, "after the power cut")
    lab.router.run("router-setup serve", 180)


def disturbances(lab):
    """Under an installation: daemon killed, replaced, nfsd restarted, router's power cut."""
    (node,), _ = need_nodes(lab, 1)
    node.run(f"if [ -e /usr/share/vim ]; then {PURGE} >/dev/null 2>&1; fi; rm -rf /root/acked /run/stop /run/acked", 300)
    node.write("/run/writer.py", WRITER)
    writer = node.begin("exec python3 /run/writer.py")
    check(wait_for(lambda: acknowledged(node) > 2, 120), "the writer does not write")
    install = node.begin(INSTALL)
    seen = []
    for name, action in (("kill -9", lambda: kill_daemon(lab)), ("replaced", lambda: replace_daemon(lab)),
                         ("nfsd restarted", lambda: lab.router.run("systemctl restart nfs-server", 120)),
                         ("power cut", lambda: cut_router(lab, node))):
        during = "" if not install.done.is_set() else " (installation was over)"
        seen.append(disturb(lab, node, name, action) + during)
    install.wait(1800)
    node.run("touch /run/stop")
    writer.wait(120)
    last = acknowledged(node)
    check_acknowledged(lab, node, last, "at the end")
    check(node.run("dpkg --audit", 120) == "", "dpkg --audit is not clean")
    missing = node.run("for p in vim-runtime vim-common groff-base; do dpkg --verify $p; done | "
                       # Not in the image: `images` leaves them out, and so does its dpkg.
                       "grep -v -E ' /usr/share/(doc|man|locale)/'", 300, check=False)
    check("missing" not in missing, f"files of packages are missing: {missing}")
    lab.router.run("systemctl stop nfs-server && exportfs -ua && coppice umount " + MOUNT, 180)
    fsck = lab.router.run("coppice fsck", 600)
    lab.router.run("router-setup mount && router-setup serve", 180)
    node.run("ls /root/acked >/dev/null", 300)
    return f"{'; '.join(seen)}; {last} writes kept; installed in {install.seconds():.0f} s; fsck: {fsck.splitlines()[-1] if fsck else 'clean'}"


# ---- 4 ----

def fail_over(lab):
    """A second router takes the store's disk and the address; a node goes on with the handles that it holds."""
    (node,), _ = need_nodes(lab, 1)
    node.run("rm -rf /root/acked /run/stop /run/acked; echo before >/root/held")
    node.write("/run/writer.py", WRITER)
    writer = node.begin("exec python3 /run/writer.py")
    # The same open file, before and after.
    holder = node.begin("exec 7<>/root/held; while [ ! -e /run/stop ]; do sleep 0.5; done; echo after >&7; sync /root/held; cat /root/held")
    check(wait_for(lambda: acknowledged(node) > 2, 120), "the writer does not write")
    begun = time.monotonic()
    number = acknowledged(node)
    lab.router.cut_power()
    second = lab.add_router("router2", 2)
    lab.router = second
    second.start()
    second.wait_up(300)
    second.run("router-setup mount", 180)
    check_acknowledged(lab, node, number, "on the second router")
    second.run("router-setup serve", 180)
    check(wait_for(lambda: acknowledged(node) > number + 2, 300), "the node did not go on")
    seconds = time.monotonic() - begun
    node.run("touch /run/stop")
    writer.wait(60)
    check("after" in holder.wait(60), "the file held open does not take writes")
    check(acknowledged(node) > number, "nothing was written after the change")
    return f"the node went on after {seconds:.0f} s on the other router, with what it held open"


# ---- 5 ----

LOADS = {
    "git": "rm -rf g && git init -q g && cd g && for i in 1 2 3; do cp /usr/include/std*.h . && echo $i >n && git add . && "
           "git -c user.name=n -c user.email=n@n commit -qm $i; done && git fsck --strict 2>&1 && git log --oneline | wc -l",
    "dpkg": "dpkg --verify coreutils bash git | grep -v /usr/share; dpkg -S bin/bash >/dev/null",
    "find": "find /usr/lib /etc -xdev -type f -newer /etc/hostname | wc -l",
    "tar": "rm -rf t && mkdir t && tar -C /usr/include -cf - netinet net rpc | tar -C t -xf - && diff -r /usr/include/netinet t/netinet",
    "compile": "mkdir -p c && cd c && printf '#include <stdio.h>\\nint main(void) { return puts(\"ok\") < 0; }\\n' >m.c && "
               "gcc -o m m.c && ./m",
}


def drop_caches(lab, seconds=None):
    """The router's caches are dropped all the time, the node's now and then: not one stale handle."""
    seconds = seconds or float(os.environ.get("COPPICE_VM_HANDLES", "60"))
    (node,), _ = need_nodes(lab, 1)
    lab.router.run("rm -f /run/stop")
    node.run("rm -f /run/stop; mkdir -p /root/work")
    dropper = lab.router.begin("n=0; while [ ! -e /run/stop ]; do echo 3 >/proc/sys/vm/drop_caches; n=$((n + 1)); sleep 0.5; done; echo $n")
    forgetter = node.begin("while [ ! -e /run/stop ]; do echo 2 >/proc/sys/vm/drop_caches; sleep 3; done")
    jobs = {name: node.begin(f"n=0; cd /root/work; while [ ! -e /run/stop ]; do (cd /root/work; {load}) >/run/{name}.log 2>&1 || "
                             f"{{ echo status $?; tail -n 20 /run/{name}.log; exit 1; }}; n=$((n + 1)); done; echo $n")
            for name, load in LOADS.items()}
    time.sleep(seconds)
    node.run("touch /run/stop", 120)
    # The rounds under way end with warm caches, in seconds.
    lab.router.run("touch /run/stop")
    counts = {name: job.wait(900, check=False) for name, job in jobs.items()}
    drops = dropper.wait(60)
    forgetter.wait(60)
    for name, job in jobs.items():
        check(job.status == 0, f"{name}: {counts[name]}")
    stale = node.run("grep -l -i 'stale file' /run/*.log; dmesg | grep -i 'stale file' || true")
    check(stale == "", f"stale handles: {stale}")
    return f"{drops} times dropped in {seconds:.0f} s; rounds: " + ", ".join(f"{name} {count}" for name, count in counts.items())


# ---- 6 ----

def mount_of(node):
    """The command by which one node tries to mount another's root: the kernel itself asks mountd."""
    return (f"mkdir -p /run/other && mount -i -t nfs -o vers=3,tcp,nolock,addr=192.168.77.1,mountproto=tcp,soft,timeo=50,retrans=1 "
            f"192.168.77.1:{node.root} /run/other")


def refused(lab):
    """What a node may not do, and what others must not notice."""
    (node, other), _ = need_nodes(lab, 2)
    seen = []
    node.run("rm -f /run/stop /run/full; echo kept >/root/kept; sync")
    # Room is the disk's, which nodes share: while it is full, reading is what another node must not lose.
    watch = node.begin("n=0; while [ ! -e /run/stop ]; do if [ ! -e /run/full ]; then echo $n >/root/watch && sync /root/watch && "
                       "[ $(cat /root/watch) = $n ] || exit 1; fi; [ $(cat /root/kept) = kept ] || exit 2; n=$((n + 1)); sleep 0.2; "
                       "done; echo $n")
    for part in (foreign_root, forged_handles, full_store, wrong_mac, deleted_row):
        seen.append(part(lab, node, other))
        check(not watch.done.is_set(), f"{part.__name__}: the other node noticed: {watch.output}")
    node.run("touch /run/stop")
    return "; ".join(seen) + f"; {node.hostname} made {watch.wait(60)} rounds meanwhile"


def foreign_root(lab, node, other):
    check(other.status("true") == 0 and node.status(mount_of(node)) == 0, "a node cannot mount its own root a second time")
    node.run("umount /run/other")
    check(node.status(mount_of(other)) != 0, f"{node.hostname} has mounted the root of {other.hostname}")
    return "mount of another's root refused"


# GETATTR, LOOKUP of "system", and in that of a serial (RFC 1813, 3.3.1 and 3.3.3) with a handle as nfsd makes it (linux/fs/nfsd/nfsfh.h): version
# 1, no authentication, how the export is named, how the file; prints the statuses.
FORGER = """
import os, socket, struct, sys
def opaque(data):
    return struct.pack('>I', len(data)) + data + b'\\0' * (-len(data) % 4)
def call(procedure, arguments):
    s = socket.socket(); s.settimeout(20)
    for port in range(1023, 600, -1):
        try: s.bind(('', port)); break
        except OSError: pass
    s.connect((sys.argv[1], 2049))
    credentials = struct.pack('>IIIIIII', 1, 20, 0, 0, 0, 0, 0)
    body = struct.pack('>IIIIII', 7, 0, 2, 100003, 3, procedure) + credentials + struct.pack('>II', 0, 0) + arguments
    s.sendall(struct.pack('>I', 0x80000000 | len(body)) + body)
    reply = s.recv(4096)
    s.close()
    if len(reply) < 32 or reply[12:16] != bytes(4) or reply[24:28] != bytes(4): return 'denied', None
    status = struct.unpack('>I', reply[28:32])[0]
    found = reply[36:36 + struct.unpack('>I', reply[32:36])[0]] if procedure == 3 and status == 0 else None
    return status, found
for text in sys.argv[3:]:
    handle = opaque(bytes.fromhex(text))
    system, found = call(3, handle + opaque(b'system'))
    print(call(1, handle)[0], system, call(3, opaque(found) + opaque(sys.argv[2].encode()))[0] if found else '-')
"""


def handle_of(export_line, rest=b"\x00"):
    """rest: the type of the file's part and that part; type 0 is the export's root."""
    match = re.search(r"fsid=([0-9a-f-]+)", export_line)
    check(match, f"no fsid in: {export_line}")
    fsid = match[1]
    if "-" in fsid:
        kind, name = 6, bytes.fromhex(fsid.replace("-", ""))
    else:
        kind, name = 1, int(fsid).to_bytes(4, "little")
    return (bytes([1, 0, kind, rest[0]]) + name + rest[1:]).hex()


def forged_handles(lab, node, other):
    exports = lab.router.run("cat /etc/exports.d/coppice.exports").splitlines()
    lines = {n.serial: next((line for line in exports if n.serial in line), "") for n in (node, other)}
    own = handle_of(lines[node.serial])
    foreign = handle_of(lines[other.serial])
    # FUSE's own: type 0x81, nodeid and generation, as three 32-bit words. Of the other's root, told by the router.
    inode = int(lab.router.run(f"stat -c %i {other.root}"))
    guesses = [handle_of(lines[node.serial], bytes([0x81]) + number.to_bytes(8, "little")[4:] + number.to_bytes(8, "little")[:4] + bytes(4))
               for number in (1, 2, inode, inode + 1, inode ^ (1 << 44))]
    node.write("/run/forger.py", FORGER)
    answers = node.run(f"python3 /run/forger.py 192.168.77.1 {other.serial} " + " ".join([own, foreign, *guesses]), 180).split("\n")
    check(answers[0].startswith("0 "), f"a node's own handle is not answered: {answers[0]}")
    # The first guess is the mount's own root, and the kernel knows the way to system/. There it has to end.
    bad = answers[2].endswith(" 0") or any(" 0" in f" {answer}" for answer in [answers[1], *answers[3:]])
    check(not bad, f"forged handles are answered: {answers[1:]}")
    return f"forged handles: {', '.join(answers[1:])}"


def full_store(lab, node, other):
    router = lab.router
    node.run("touch /run/full; sleep 2")
    router.run("fallocate -l $(($(df --output=avail -B1 /var/lib/coppice | tail -n1) - 4194304)) /var/lib/coppice/filler", 120)
    other_full = other.run("dd if=/dev/urandom of=/root/big bs=1M count=64 conv=fsync 2>&1; echo; ls /root >/dev/null && echo reads", 300)
    router.run("rm /var/lib/coppice/filler")
    check("No space left" in other_full, f"a full store does not say so: {other_full}")
    check("reads" in other_full, "a full store cannot be read")
    check(wait_for(lambda: other.status("echo again >/root/after && sync /root/after") == 0, 60),
          "writing does not work again after there is room")
    other.run("rm -f /root/big")
    node.run("rm /run/full")
    return "full store: ENOSPC, then room again"


def wrong_mac(lab, node, other):
    stranger = Node(99)
    lab.add_node(stranger)
    stranger.start()
    asked = wait_for(lambda: stranger.mac in lab.router.run("journalctl -u dnsmasq --no-pager -o cat | grep -i 'DHCPACK' || true"), 180)
    told = asked and wait_for(lambda: "not found" in lab.router.run(
        "journalctl -u dnsmasq --no-pager -o cat | grep -i tftpboot.*not.found || true"), 120)
    stranger.cut_power()
    check(asked, "a machine without a row asked for no address")
    check(told, "a machine without a row was not told that there is no boot file")
    check(not stranger.ready.is_set(), "a machine without a row has booted")
    return "a machine without a row gets no boot file"


def deleted_row(lab, node, other):
    lab.sql(f"DELETE FROM node WHERE serial = '{other.serial}'")
    gone = wait_for(lambda: lab.router.status(f"test -e {other.root}") == 1, 30)
    # Its programs are on that root: what asks must be in memory already.
    exported = wait_for(lambda: other.serial not in lab.router.run("exportfs -v"), 30)
    other.cut_power()
    check(gone, "the root of a deleted node is still there")
    check(exported, "the root of a deleted node is still exported")
    lab.insert(other)
    check(lab.router.status(f"test -e {other.root}/etc") == 0, "the node does not come back with its row")
    return "a deleted row takes root and export away"


# ---- 7 ----

def arm64_missing():
    """What an arm64 machine, or the making of its image, needs and is not here."""
    files = (Arm64.firmware, "/usr/lib/binfmt.d/qemu-aarch64.conf")
    return [tool for tool in (Arm64.qemu, "mkimage") if not shutil.which(tool)] + [file for file in files if not os.path.exists(file)]


def arm64(lab):
    """A node of another architecture boots by its firmware's DHCP and TFTP, and keeps its own writes."""
    if arm64_missing():
        raise Skipped(f"there is no {', '.join(arm64_missing())}; scripts/deps vm-arm64 installs what is missing")
    node = lab.add_arm64(Node(64))
    lab.router.run("router-setup image arm64 /dev/vde ttyAMA0", 600)
    lab.insert(node, "'arm64'")
    first = boot_all([node])
    check(node.run("uname -m") == "aarch64", "the machine is not arm64")
    check(node.run("findmnt -no SOURCE /").endswith(f":{node.root}"), f"its root is not {node.root}")
    node.run("echo mine >/root/own && sync")
    again = node.reboot()
    check(node.run("cat /root/own; hostname").split() == ["mine", node.hostname], "its own write or its name is not there")
    node.cut_power()
    return f"up after {first:.0f} s, again after {again:.0f} s, with its own write"


# ---- 8 ----

PI_FILES = ("bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat", "config.txt", "cmdline.txt", "kernel8.img")


def boot_roms(lab):
    """The boot ROMs of a Raspberry Pi 3B and 4, as tests/boot_rom.py speaks them, get their files from the router."""
    boards = (("pi3", "000000008a4232c8", "b8:27:eb:42:32:c8", "eth0"), ("pi4", "10000000ab42320d", "dc:a6:32:42:32:0d", "eth1"))
    make = "; ".join(f"head -c {1000 + 7919 * len(name)} /dev/urandom >/run/pi/boot/{name}" for name in PI_FILES)
    lab.router.run(f"mkdir -p /run/pi/boot /run/pi/sbin; : >/run/pi/sbin/init; {make}; coppice image import pi /run/pi", 120)
    for number, (_, serial, mac, _) in enumerate(boards):
        lab.sql(f"INSERT INTO node(serial, mac, ip, image) VALUES('{serial}', '{mac}', '192.168.77.{60 + number}', 'pi')")
    machine = lab.add_board([mac for _, _, mac, _ in boards])
    machine.start()
    machine.wait_up(300)
    seen = []
    for model, serial, _, interface in boards:
        told = machine.run(f"ip link set {interface} up; sleep 1; python3 /usr/local/share/boot_rom.py {interface} {model} {serial}; "
                           f"ip address flush dev {interface}", 180)
        check(told.endswith("boots"), f"{model}: {told}")
        for name, size, crc in re.findall(r"^got (\S+) (\d+) (\S+)$", told, re.M):
            there = lab.router.run(f"python3 -c 'import sys, zlib; d = open(sys.argv[1], \"rb\").read(); print(len(d), \"%08x\" % zlib.crc32(d))' "
                                   f"{MOUNT}/system/{serial}/boot/{os.path.basename(name)}")
            check(there == f"{size} {crc}", f"{model}: {name}: got {size} {crc}, on the router {there}")
        seen.append(f"{model}: {told.count('got ')} files")
    machine.cut_power()
    return "; ".join(seen)


# ---- 9 ----

def command(lab):
    """A command of the caller's, for test suites; COPPICE_VM_FILES, a tar archive, is unpacked in /root/files before."""
    text = os.environ.get("COPPICE_VM_COMMAND")
    if not text:
        raise Skipped("COPPICE_VM_COMMAND names no command")
    on = os.environ.get("COPPICE_VM_ON", "node")
    (node,), _ = need_nodes(lab, 1)
    if os.environ.get("COPPICE_VM_FILES"):
        home = f"{node.root}/root" if on == "node" else "/root"
        lab.router.run(f"mkdir -p {home}/files && tar -xf /dev/{lab.last_disk()} -C {home}/files", 300)
    output = (node if on == "node" else lab.router).run(text, 3600)
    print(output)
    return f"status 0 on the {on}: {text}"


SCENARIOS = {
    "1": two_nodes,
    "2": reset_and_snapshot,
    "3": disturbances,
    "4": fail_over,
    "5": drop_caches,
    "6": refused,
    "7": arm64,
    "8": boot_roms,
    "9": command,
}
