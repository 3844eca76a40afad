"""The sides of a comparison: the same root of a node, made as that side's users make it."""
import os
import shutil
import subprocess
import sys
import time

DISKS = ("ext4", "btrfs", "xfs")
DISK_GIB = 24
ALL_SIDES = ["ext4", "overlayfs", "overlayfs-nfs", "fuse-overlayfs", "btrfs", "xfs", "coppice", "coppice-async", "fuse-floor"]


def run(*command, **options):
    """Runs a program; its words are shown when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        sys.exit(f"bench: {' '.join(command)}: {done.stdout.strip()}")
    return done.stdout.strip()


def mounted(path):
    return os.path.ismount(path)


def sync(path):
    """The one file system: what else this machine writes is nobody's concern here."""
    run("sync", "-f", path)


def drop_caches(disks):
    for disk in disks:
        sync(disk)
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


class Sides:
    """The roots that are compared, and the disks they lie on."""

    def __init__(self, home):
        self.home = home
        self.disks = {name: os.path.join(home, "disk", name) for name in DISKS}
        self.roots = {}
        self.node_seconds = {}
        self.node_bytes = {}

    def at(self, *parts):
        return os.path.join(self.home, *parts)

    # ---- the sides ----

    def make_disk(self, name):
        """A file system in a sparse file on a loop device; kept between runs."""
        image, mountpoint = self.at(f"{name}.img"), self.disks[name]
        os.makedirs(mountpoint, exist_ok=True)
        if mounted(mountpoint):
            return
        if not os.path.exists(image):
            with open(image, "w") as file:
                os.truncate(file.fileno(), DISK_GIB << 30)
            run(f"mkfs.{name}", "-q", image)
        run("mount", "-o", "loop,discard", image, mountpoint) # what is deleted goes back to this machine's disk

    def unpack_base(self, target, make=os.makedirs):
        """The image's tree at `target`; whole, or not there."""
        if os.path.isdir(target):
            return
        half = target + ".half"
        shutil.rmtree(half, ignore_errors=True)
        make(half)
        run("tar", "-C", half, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", self.at("base.tar"))
        os.makedirs(os.path.join(half, "tmp"), exist_ok=True)
        os.makedirs(os.path.join(half, "bench/tree"))
        for name in ("200m", "append"):
            with open(os.path.join(half, "bench", name), "wb") as file:
                for _ in range(200):
                    file.write(os.urandom(1 << 20))
        run("cp", "-a", os.path.join(half, "usr/include"), os.path.join(half, "bench/tree/"))
        git = ["git", "-C", os.path.join(half, "bench/tree"), "-c", "user.name=x", "-c", "user.email=x@example.org",
               "-c", "gc.auto=0", "-c", "maintenance.auto=false"]
        run(*git, "init", "-q")
        run(*git, "add", ".")
        run(*git, "commit", "-qm", "all")
        os.rename(half, target)

    def keep(self, side, began, root, used_before, disk):
        self.node_seconds[side] = time.monotonic() - began
        self.node_bytes[side] = max(0, self.used(disk) - used_before)
        self.roots[side] = root

    def used(self, disk):
        sync(disk)
        stat = os.statvfs(disk)
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize

    def make_side(self, side):
        disk = self.disks["ext4"]
        base = os.path.join(disk, "base")
        if side in ("btrfs", "xfs"):
            return self.make_copy_on_write(side)
        if side.startswith("coppice"):
            return self.make_coppice(side)
        if side == "fuse-floor":
            return self.make_floor(side)
        self.unpack_base(base)
        before, began = self.used(disk), time.monotonic()
        root = os.path.join(disk, side)
        if side == "ext4":
            shutil.rmtree(root, ignore_errors=True)
            began = time.monotonic()
            run("rsync", "-aHAX", base + "/", root + "/")
            return self.keep(side, began, root, before, disk)
        for part in ("upper", "work", "merged"):
            shutil.rmtree(os.path.join(root, part), ignore_errors=True)
            os.makedirs(os.path.join(root, part))
        options = f"lowerdir={base},upperdir={root}/upper,workdir={root}/work"
        merged = os.path.join(root, "merged")
        if side == "fuse-overlayfs":
            run("fuse-overlayfs", "-o", options, merged)
        else:
            more = ",index=on,nfs_export=on" if side == "overlayfs-nfs" else ""
            run("mount", "-t", "overlay", "overlay", "-o", options + more, merged)
        self.keep(side, began, merged, before, disk)

    def make_copy_on_write(self, side):
        self.make_disk(side)
        disk = self.disks[side]
        base, root = os.path.join(disk, "base"), os.path.join(disk, "node")
        if side == "btrfs":
            self.unpack_base(base, lambda path: run("btrfs", "-q", "subvolume", "create", path))
            if os.path.isdir(root):
                run("btrfs", "-q", "subvolume", "delete", root)
            before, began = self.used(disk), time.monotonic()
            run("btrfs", "-q", "subvolume", "snapshot", base, root)
        else:
            self.unpack_base(base)
            shutil.rmtree(root, ignore_errors=True)
            before, began = self.used(disk), time.monotonic()
            run("cp", "-a", "--reflink=always", base, root)
        self.keep(side, began, root, before, disk)

    def coppice(self, side, *arguments):
        return run("coppice", "--store", os.path.join(self.disks["ext4"], side + "-store"), *arguments)

    def make_coppice(self, side):
        disk = self.disks["ext4"]
        base, mountpoint = os.path.join(disk, "base"), self.at("mnt", side)
        self.unpack_base(base)
        shutil.rmtree(os.path.join(disk, side + "-store"), ignore_errors=True)
        self.coppice(side, "init")
        self.coppice(side, "image", "import", "base", base, "--no-templates")
        os.makedirs(mountpoint, exist_ok=True)
        self.coppice(side, "mount", "-o", "async" if side == "coppice-async" else "sync", mountpoint)
        before, began = self.used(disk), time.monotonic()
        self.coppice(side, "node", "add", "node")
        root = os.path.join(mountpoint, "system/node/rootfs")
        os.listdir(root)
        self.keep(side, began, root, before, disk)

    def make_floor(self, side):
        """No file system of a node's: what the requests alone cost (floor.c)."""
        mountpoint = self.at("mnt", side)
        os.makedirs(mountpoint, exist_ok=True)
        before, began = self.used(self.disks["ext4"]), time.monotonic()
        run(self.at("floor"), mountpoint)
        os.mkdir(os.path.join(mountpoint, "tmp"))
        self.keep(side, began, mountpoint, before, self.disks["ext4"])

    def take_down(self):
        for side in ALL_SIDES:
            merged = os.path.join(self.disks["ext4"], side, "merged")
            if mounted(merged):
                run("umount", "-l", merged)
            if side.startswith("coppice") and mounted(self.at("mnt", side)):
                self.coppice(side, "umount", self.at("mnt", side))
            if side == "fuse-floor" and mounted(self.at("mnt", side)):
                run("umount", self.at("mnt", side))
        for name in DISKS:
            if mounted(self.disks[name]):
                run("umount", "-l", self.disks[name])

    # ---- who serves them ----

    def disk_of(self, side):
        return self.disks[side if side in ("btrfs", "xfs") else "ext4"]

    def mounted_disks(self):
        return [disk for disk in self.disks.values() if mounted(disk)]

    def daemon_pid(self, side):
        """Who serves this side; None where the kernel does it all."""
        if side.startswith("coppice"):
            with open(os.path.join(self.disks["ext4"], side + "-store", "daemon")) as file:
                return int(file.readline().split()[0])
        if side == "fuse-floor":
            return int(run("pgrep", "-nf", f"^{self.at('floor')} "))
        if side == "fuse-overlayfs":
            return int(run("pgrep", "-nf", f"^fuse-overlayfs .* {os.path.join(self.disks['ext4'], side, 'merged')}$"))
        return None

    def daemon_use(self, side):
        """CPU seconds so far, and resident bytes, of who serves this side."""
        pid = self.daemon_pid(side)
        if pid is None:
            return 0, 0
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
