"""What whole nodes cost on each side: a thousand of them, a snapshot of a changed one, its reset, and the memory of several
that read the same files."""
import os
import shutil
import sqlite3
import subprocess
import time

from sides import drop_caches, mounted, run, sync

MIB = 1 << 20
READ_MIB = 500
READERS = 4
THOUSAND = 1000
FULL_DELTAS = [(100, 0), (5000, 0), (10000, 0), (100000, 0), (100, 5120)]
QUICK_DELTAS = [(5000, 0)]
SIDES = ["ext4", "overlayfs", "btrfs", "xfs", "coppice"]


class Nodes:
    """Nodes of one side, beside the one that `sides` has made of it."""

    def __init__(self, sides, side):
        self.sides, self.side = sides, side
        self.disk = sides.disk_of(side)
        self.base = os.path.join(self.disk, "base")
        self.directory = os.path.join(self.disk, "nodes-" + side)
        os.makedirs(self.directory, exist_ok=True)

    def at(self, *parts):
        return os.path.join(self.directory, *parts)

    def root(self, name):
        if self.side == "coppice":
            return self.sides.at("mnt", self.side, "system", name, "rootfs")
        return self.at(name, "merged") if self.side == "overlayfs" else self.at(name)

    def add(self, name):
        root = self.root(name)
        if self.side == "coppice":
            self.sides.coppice(self.side, "node", "add", name)
        elif self.side == "ext4":
            run("rsync", "-aHAX", self.base + "/", root + "/")
        elif self.side == "btrfs":
            run("btrfs", "-q", "subvolume", "snapshot", self.base, root)
        elif self.side == "xfs":
            run("cp", "-a", "--reflink=always", self.base, root)
        else:
            self.mount_overlay(name)
        os.listdir(root)

    def mount_overlay(self, name):
        for part in ("upper", "work", "merged"):
            os.makedirs(self.at(name, part), exist_ok=True)
        run("mount", "-t", "overlay", "overlay", self.at(name, "merged"), "-o",
            f"lowerdir={self.base},upperdir={self.at(name, 'upper')},workdir={self.at(name, 'work')}")

    def add_many(self, names):
        """As the owner of so many would: rows, where rows are nodes."""
        if self.side != "coppice":
            for name in names:
                self.add(name)
            return
        catalog = sqlite3.connect(os.path.join(self.disk, "coppice-store/catalog.db"), timeout=10)
        with catalog:
            catalog.executemany("INSERT INTO node(serial) VALUES (?)", [(name,) for name in names])
        catalog.close()
        for name in names:
            os.listdir(self.root(name))

    def snapshot(self, name):
        to = self.at(name + "-snapshot")
        if self.side == "coppice":
            self.sides.coppice(self.side, "snapshot", "create", name, "s")
        elif self.side == "ext4":
            run("rsync", "-aHAX", self.root(name) + "/", to + "/")
        elif self.side == "btrfs":
            run("btrfs", "-q", "subvolume", "snapshot", "-r", self.root(name), to)
        elif self.side == "xfs":
            run("cp", "-a", "--reflink=always", self.root(name), to)
        else:
            run("cp", "-a", self.at(name, "upper"), to)

    def reset(self, name):
        """To the image, keeping nothing."""
        if self.side == "coppice":
            self.sides.coppice(self.side, "reset", name, "--force", "--discard")
        elif self.side == "ext4":
            run("rsync", "-aHAX", "--delete", self.base + "/", self.root(name) + "/")
        elif self.side == "overlayfs":
            run("umount", "-l", self.root(name))
            shutil.rmtree(self.at(name))
            self.mount_overlay(name)
        else:
            self.remove(name)
            self.add(name)

    def remove(self, name):
        if self.side == "coppice":
            run("sqlite3", os.path.join(self.disk, "coppice-store/catalog.db"), f"DELETE FROM node WHERE serial = '{name}'")
            return
        for path in (name, name + "-snapshot"):
            if self.side == "overlayfs" and mounted(self.at(path, "merged")):
                run("umount", "-l", self.at(path, "merged"))
            if self.side == "btrfs" and os.path.isdir(self.at(path)):
                run("btrfs", "-q", "subvolume", "delete", self.at(path))
            shutil.rmtree(self.at(path), ignore_errors=True)

    # ---- what is measured ----

    def timed(self, action, *arguments):
        """Milliseconds until it is done, and on the disk."""
        sync(self.disk)
        began = time.monotonic()
        action(*arguments)
        sync(self.disk)
        return (time.monotonic() - began) * 1e3

    def thousand(self):
        names = [f"many{i:04}" for i in range(THOUSAND)]
        before = self.sides.used(self.disk)
        took = self.timed(self.add_many, names)
        kib = (self.sides.used(self.disk) - before) / 1024 / THOUSAND
        resident = self.sides.daemon_use(self.side)[1] / MIB
        if self.side == "coppice": # one row less for each would be a commit for each
            catalog = sqlite3.connect(os.path.join(self.disk, "coppice-store/catalog.db"), timeout=10)
            with catalog:
                catalog.execute("DELETE FROM node WHERE serial LIKE 'many%'")
            catalog.close()
        else:
            for name in names:
                self.remove(name)
        return [row(self.side, f"{THOUSAND} nodes", "ms a node", took / THOUSAND),
                row(self.side, f"{THOUSAND} nodes", "KiB a node", max(0, kib)),
                row(self.side, f"{THOUSAND} nodes", "daemon MiB", resident)]

    def changed(self, count, mib):
        """A snapshot and a reset of a node in which so many files have changed, and so much was written."""
        name = f"changed{count}-{mib}"
        added = self.timed(self.add, name)
        change(self.root(name), count, mib)
        what = f"{count} files changed" + (f", {mib} MiB" if mib else "")
        snapshot = self.timed(self.snapshot, name)
        reset = self.timed(self.reset, name)
        if os.path.exists(os.path.join(self.root(name), "tmp/changed")):
            raise SystemExit(f"bench: {self.side}: a reset left changes")
        self.remove(name)
        return [row(self.side, what, "node added ms", added), row(self.side, what, "snapshot ms", snapshot),
                row(self.side, what, "reset ms", reset)]

    def memory(self):
        """Several nodes read the same files, one after the other."""
        names = [f"reader{i}" for i in range(READERS)]
        for name in names:
            self.add(name)
        files = same_files(self.base)
        drop_caches(self.sides.mounted_disks())
        before, resident = cached(), self.sides.daemon_use(self.side)[1]
        for name in names:
            for path in files:
                read_through(os.path.join(self.root(name), path))
        rows = [row(self.side, f"{READERS} nodes read {READ_MIB} MiB", "page cache MiB", (cached() - before) / MIB),
                row(self.side, f"{READERS} nodes read {READ_MIB} MiB", "daemon MiB more",
                    (self.sides.daemon_use(self.side)[1] - resident) / MIB)]
        for name in names:
            self.remove(name)
        return rows


def row(side, work, what, value):
    return {"side": side, "work": work, "what": what, "value": value}


def change(root, count, mib):
    """Half of the files are the image's, as far as it has so many; the bytes are new."""
    files = (os.path.join(top, name) for top, _, names in os.walk(os.path.join(root, "usr")) for name in names)
    for _, path in zip(range(count // 2), files):
        os.utime(path, follow_symlinks=False)
    for i in range(count - count // 2):
        directory = os.path.join(root, "tmp/changed", str(i // 1000))
        if i % 1000 == 0:
            os.makedirs(directory)
        with open(os.path.join(directory, str(i)), "w") as file:
            file.write("changed\n")
    if mib:
        subprocess.run(["dd", "if=/dev/zero", "of=" + os.path.join(root, "tmp/changed/big"), "bs=1M", f"count={mib}"],
                       check=True, stderr=subprocess.DEVNULL)


def same_files(base):
    """Paths of READ_MIB of the image."""
    paths, size = [], 0
    for top, _, names in os.walk(base):
        for name in sorted(names):
            path = os.path.join(top, name)
            if size >= READ_MIB * MIB:
                return paths
            if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) > 65536:
                paths.append(os.path.relpath(path, base))
                size += os.path.getsize(path)
    return paths


def read_through(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(MIB):
            pass


def cached():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Cached:")) * 1024


def measure(sides, names, full, deltas):
    """Rows of everything, for these sides; the sides are made. A thousand of what is not a row, and copies, take their time: only in
    full. With `deltas`, (files, MiB) each, those alone, on all sides."""
    rows = []
    for side in [name for name in SIDES if name in names and (full or deltas or name == "coppice")]:
        nodes = Nodes(sides, side)
        if side not in ("ext4", "xfs") and not deltas: # a thousand copies take hours
            rows += nodes.thousand()
        for count, mib in deltas or (FULL_DELTAS if full else QUICK_DELTAS):
            rows += nodes.changed(count, mib)
        if full:
            rows += nodes.memory()
    return rows
