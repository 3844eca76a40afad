"""lab: a router with coppice in it, nodes that boot from it, and the network between them."""

import os
import random
import resource
import shutil
import subprocess
import tempfile
import time

from machine import Arm64, Failure, Machine

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
NETWORK = "192.168.77"
ADDRESS = f"{NETWORK}.1"
MOUNT = "/mnt/cluster"
# The kernel's command line of what is not booted by a node's menu. Guards against what processors give away cost an emulated one half of
# its time. Without `quiet`, the log says whether the kernel came to run a program.
KERNEL = "console=ttyS0 panic=-1 net.ifnames=0 systemd.show_status=0 mitigations=off rcupdate.rcu_expedited=1"


def call(*command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                            text=True, check=False, **options)
    if result.returncode:
        raise Failure(f"{' '.join(command)}: status {result.returncode}\n{result.stdout[-3000:]}")
    return result.stdout


class Node:
    """A row of table node, and the machine with that MAC."""

    def __init__(self, number):
        self.number = number
        self.serial = f"{0x10000000c0de0000 + number:016x}"
        self.mac = f"52:54:00:c0:99:{number:02x}"
        self.ip = f"{NETWORK}.{100 + number}"
        self.hostname = f"node{number}"
        self.root = f"{MOUNT}/system/{self.serial}/rootfs"
        self.machine = None

    def __getattr__(self, name):
        return getattr(self.machine, name)


class Lab:
    """drive: QEMU's options for the store's disk. memory: the router's, in MiB."""

    def __init__(self, cache, directory, drive="", memory=1024):
        self.cache = cache
        self.drive = drive
        self.memory = memory
        self.directory = tempfile.mkdtemp(prefix="coppice-vm-", dir=directory)
        # One Ethernet for all of them, which lives as long as any of them: multicast on the loopback interface.
        self.lan = f"239.77.{random.randrange(256)}.{random.randrange(1, 255)}:{random.randrange(20000, 30000)}"
        self.machines = []
        self.router = None
        self.nodes = []
        self.store_disk = os.path.join(self.directory, "store.img")
        # The router's disks from /dev/vdd on: what it imports, and whatever else it is given.
        self.more_disks = [f"file={path},format=raw,readonly=on" for path in (f"{cache}/node.img", f"{cache}/arm64.img")
                           if os.path.exists(path)]

    # ---- machines ----

    def _add(self, name, arguments, kind=Machine):
        machine = kind(name, self.directory, arguments)
        self.machines.append(machine)
        return machine

    def network(self, mac, rom="", model="virtio-net-pci"):
        return ["-netdev", f"socket,id=lan,mcast={self.lan},localaddr=127.0.0.1",
                "-device", f"{model},netdev=lan,mac={mac}{rom}"]

    def add_router(self, name="router", number=1):
        """Its own disk forgets everything when it is switched off; what lasts is on the store's disk."""
        disks = [f"file={self.cache}/router.ext4,format=raw,snapshot=on",
                 f"file={self.directory}/payload.tar,format=raw,readonly=on",
                 # Flushes end in the host's memory, which killing QEMU does not touch: a power cut takes what the guest's
                 # kernel has not written, as it does with a disk that flushes; and a busy host's disk costs no minutes.
                 f"file={self.store_disk},format=raw,cache=unsafe{self.drive}",
                 *self.more_disks]
        arguments = ["-m", str(self.memory), "-smp", "2", "-kernel", f"{self.cache}/router.vmlinuz", "-initrd", f"{self.cache}/router.initrd",
                     "-append", KERNEL,
                     *self.network(f"52:54:00:c0:98:{number:02x}", ",romfile=")]
        for disk in disks:
            arguments += ["-drive", f"if=virtio,{disk}"]
        return self._add(name, arguments)

    def add_node(self, node):
        """Has no disk: it boots what its ROM is told over the network."""
        node.machine = self._add(node.hostname, ["-m", "768", "-smp", "1", *self.network(node.mac, ",bootindex=0")])
        return node

    def add_arm64(self, node):
        """U-Boot reads a wrong MAC from a virtio device that can be a legacy one, too."""
        node.machine = self._add(node.hostname, ["-m", "768", "-smp", "1", *self.network(node.mac, ",romfile=,disable-legacy=on")], Arm64)
        return node

    def add_board(self, macs):
        """The router's system, as a machine with these interfaces, in which programs play a board."""
        arguments = ["-m", "512", "-smp", "1", "-kernel", f"{self.cache}/router.vmlinuz", "-initrd", f"{self.cache}/router.initrd",
                     "-append", KERNEL,
                     "-drive", f"if=virtio,file={self.cache}/router.ext4,format=raw,snapshot=on",
                     "-drive", f"if=virtio,file={self.directory}/payload.tar,format=raw,readonly=on"]
        for number, mac in enumerate(macs):
            arguments += ["-netdev", f"socket,id=lan{number},mcast={self.lan},localaddr=127.0.0.1",
                          "-device", f"virtio-net-pci,netdev=lan{number},mac={mac},romfile="]
        return self._add("board", arguments)

    # ---- what the router runs ----

    def last_disk(self):
        return f"vd{chr(ord('c') + len(self.more_disks))}"

    def build(self, programs=()):
        """Builds this tree in the router's Debian, and packs what the router gets of it, and these programs."""
        root = os.path.join(self.cache, "router")
        source, output = "/usr/src/coppice", "/var/tmp/payload"
        os.makedirs(root + source, exist_ok=True)
        call("rsync", "-a", "--delete", "--exclude=/build*", "--exclude=/.git", "--exclude=.cache", SOURCE + "/", root + source + "/")
        shutil.rmtree(root + output, ignore_errors=True)
        call("chroot", root, "sh", "-e", "-c",
             f"cmake -S {source} -B /var/tmp/build -G Ninja -DBUILD_TESTING=OFF -DCMAKE_INSTALL_PREFIX=/usr/local && "
             f"cmake --build /var/tmp/build && DESTDIR={output} cmake --install /var/tmp/build")
        shutil.copytree(os.path.join(HERE, "router"), root + output, dirs_exist_ok=True)
        os.makedirs(root + output + "/usr/local/share", exist_ok=True)
        shutil.copy(os.path.join(SOURCE, "tests", "boot_rom.py"), root + output + "/usr/local/share/")
        for program in programs:
            shutil.copy(program, root + output + "/usr/local/sbin/")
        call("tar", "-cf", f"{self.directory}/payload.tar", "-C", root + output, "--owner=0", "--group=0", ".")

    def make_store_disk(self):
        call("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", self.store_disk, "6G")

    def start_router(self, programs=()):
        """The router with an empty store, up to the image; no node yet."""
        self.build(programs)
        self.make_store_disk()
        self.router = self.add_router()
        self.router.start()
        self.router.wait_up(300)
        return self.router.run("router-setup new && router-setup mount && router-setup serve", 900)

    def sql(self, text):
        return self.router.run(f"sqlite3 -batch /var/lib/coppice/catalog.db \"{text}\"")

    def insert(self, node, image="NULL"):
        self.sql("INSERT INTO node(serial, mac, ip, hostname, image) "
                 f"VALUES('{node.serial}', '{node.mac}', '{node.ip}', '{node.hostname}', {image})")

    def cpu_seconds(self):
        """What the machines have used of this one's processors since the start, with all else that was run for them."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + sum(machine.cpu_seconds() for machine in self.machines)

    def close(self, logs=None):
        """Ends the machines and removes their files, but moves the consoles' logs to that directory."""
        for machine in self.machines:
            machine.cut_power()
        if logs:
            os.makedirs(logs, exist_ok=True)
            for machine in self.machines:
                if os.path.exists(machine.log):
                    shutil.move(machine.log, os.path.join(logs, os.path.basename(machine.log)))
        shutil.rmtree(self.directory)


def boot_all(nodes, timeout=600):
    """Switches them on at once; returns the seconds until the last one was up."""
    begun = time.monotonic()
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_up(timeout)
    return time.monotonic() - begun
