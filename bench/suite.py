"""The suite behind scripts/bench: makes the sides, runs the works in turns, prints and keeps the results."""
import argparse
import csv
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

BIG = "bench/200m"  # in the image, beside what Debian's packages bring
LOOP_GIB = {"ext4": 24, "btrfs": 8, "xfs": 8}

# What the shell does, in the side's root; the other works are those of the program `work`.
SHELL = {
    "find-cold": "find . -xdev -ls >/dev/null",
    "find-warm": "find . -xdev -ls >/dev/null",
    "du-warm": "du -s . >/dev/null",
    "tar-cold": "tar cf - . | cat >/dev/null",
    "tar-warm": "tar cf - . | cat >/dev/null",
    "git-status": "git -C bench/tree status >/dev/null",
    "untar": "mkdir -p tmp/untar && tar -C usr/share -cf - doc | tar -C tmp/untar -xf -",
}
WORKS = [
    # name; with cold caches; on which file; most that coppice may take, as a ratio to ext4; which coppice; in --quick
    ("stat-warm", False, None, 1.3, "coppice", True),
    ("open-read-close-warm", False, None, 2, "coppice", True),
    ("find-cold", True, None, 1.2, "coppice", True),
    ("find-warm", False, None, 1.5, "coppice", True),
    ("du-warm", False, None, None, "coppice", False),
    ("tar-cold", True, None, None, "coppice", False),
    ("tar-warm", False, None, 1.5, "coppice", True),
    ("git-status", False, None, None, "coppice", False),
    ("create-1", False, None, 4, "coppice-async", True),
    ("rename-1", False, None, 4, "coppice-async", True),
    ("unlink-1", False, None, 4, "coppice-async", True),
    ("create-4", False, None, None, "coppice-async", False),
    ("rename-4", False, None, None, "coppice-async", False),
    ("unlink-4", False, None, None, "coppice-async", False),
    ("create-fsync-1", False, None, 1, "coppice", True),
    ("create-fsync-4", False, None, 0.6, "coppice", True),
    ("read-cold", True, BIG, 1.3, "coppice", True),
    ("read-warm", False, BIG, 1.7, "coppice", True),
    ("random-read-4k", False, BIG, None, "coppice", False),
    ("map-read", False, BIG, 3, "coppice", True),
    ("write-1m", False, None, 1.6, "coppice", True),
    ("write-64k", False, None, None, "coppice", False),
    ("write-4k", False, None, 2.5, "coppice", True),
    ("random-write-4k", False, None, 4, "coppice", True),
    ("append-byte", False, "bench/append", None, "coppice", True),
    ("chmod", False, BIG, None, "coppice", False),
    ("chown-10000", False, None, None, "coppice", False),
    ("untar", False, None, None, "coppice", False),
]
ALL_SIDES = ["ext4", "overlayfs", "overlayfs-nfs", "fuse-overlayfs", "btrfs", "xfs", "coppice", "coppice-async"]


def run(*command, **options):
    """Runs a program; its words are shown when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        sys.exit(f"bench: {' '.join(command)}: {done.stdout.strip()}")
    return done.stdout.strip()


def mounted(path):
    return os.path.ismount(path)


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


class Bench:
    def __init__(self, home):
        self.home = home
        self.disks = {name: os.path.join(home, "disk", name) for name in LOOP_GIB}
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
                os.truncate(file.fileno(), LOOP_GIB[name] << 30)
            quiet = {"ext4": ["-q"], "btrfs": ["-q"], "xfs": ["-q"]}[name]
            run(f"mkfs.{name}", *quiet, image)
        run("mount", "-o", "loop", image, mountpoint)

    def unpack_base(self, target):
        """The image's tree at `target`; whole, or not there."""
        if os.path.isdir(target):
            return
        half = target + ".half"
        shutil.rmtree(half, ignore_errors=True)
        os.makedirs(half)
        run("tar", "-C", half, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", self.at("base.tar"))
        os.makedirs(os.path.join(half, "bench/tree"))
        for name in ("200m", "append"):
            with open(os.path.join(half, "bench", name), "wb") as file:
                for _ in range(200):
                    file.write(os.urandom(1 << 20))
        run("cp", "-a", os.path.join(half, "usr/include"), os.path.join(half, "bench/tree/"))
        git = ["git", "-C", os.path.join(half, "bench/tree"), "-c", "user.name=x", "-c", "user.email=x@example.org"]
        run(*git, "init", "-q")
        run(*git, "add", ".")
        run(*git, "commit", "-qm", "all")
        os.rename(half, target)

    def keep(self, side, began, root, used_before, disk):
        self.node_seconds[side] = time.monotonic() - began
        self.node_bytes[side] = max(0, self.used(disk) - used_before)
        self.roots[side] = root

    def used(self, disk):
        os.sync()
        stat = os.statvfs(disk)
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize

    def make_side(self, side):
        disk = self.disks["ext4"]
        base = os.path.join(disk, "base")
        if side in ("btrfs", "xfs"):
            return self.make_copy_on_write(side)
        if side.startswith("coppice"):
            return self.make_coppice(side)
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
            if not os.path.isdir(base):
                self.unpack_base(os.path.join(disk, "tree"))
                run("btrfs", "-q", "subvolume", "create", base)
                run("cp", "-a", "--reflink=always", os.path.join(disk, "tree") + "/.", base)
                shutil.rmtree(os.path.join(disk, "tree"))
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

    def take_down(self):
        for side in ALL_SIDES:
            merged = os.path.join(self.disks["ext4"], side, "merged")
            if mounted(merged):
                run("umount", "-l", merged)
            if side.startswith("coppice") and mounted(self.at("mnt", side)):
                self.coppice(side, "umount", self.at("mnt", side))
        for name in LOOP_GIB:
            if mounted(self.disks[name]):
                run("umount", "-l", self.disks[name])

    # ---- the works ----

    def daemon_pid(self, side):
        """Who serves this side; None where the kernel does it all."""
        if side.startswith("coppice"):
            with open(os.path.join(self.disks["ext4"], side + "-store", "daemon")) as file:
                return int(file.readline().split()[0])
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

    def measure(self, work, cold, file, side):
        root = self.roots[side]
        path = os.path.join(root, file or "")
        if cold:
            drop_caches()
        elif work in SHELL and work.endswith("-warm"):
            subprocess.run(["sh", "-c", SHELL[work]], cwd=root, check=True, env=self.environment())
        os.sync()
        daemon, _ = self.daemon_use(side)
        caller = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        if work in SHELL:
            subprocess.run(["sh", "-c", SHELL[work]], cwd=root, check=True, env=self.environment())
            value = (time.monotonic() - began) * 1e3
        else:
            value = float(run(self.at("work"), work, root, path))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - caller.ru_utime - caller.ru_stime
        daemon_after, resident = self.daemon_use(side)
        if work == "untar":
            shutil.rmtree(os.path.join(root, "tmp/untar"), ignore_errors=True)
        return {"work": work, "side": side, "value": value, "caller_cpu": spent, "daemon_cpu": daemon_after - daemon,
                "resident": resident}

    def environment(self):
        return dict(os.environ, HOME_DIR=self.home, GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="safe.directory",
                    GIT_CONFIG_VALUE_0="*")


def unit_of(work):
    if work in SHELL:
        return "ms"
    return "us/MiB" if work.startswith(("write-", "read-")) else "us"


def median(rows, work, side):
    values = [row["value"] for row in rows if row["work"] == work and row["side"] == side]
    return statistics.median(values) if values else None


def show(value):
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def print_columns(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


def print_tables(rows, works, sides):
    print("\nMedians")
    print_columns([["work", "unit", *sides]] + [
        [work[0], unit_of(work[0]), *(show(median(rows, work[0], side)) for side in sides)] for work in works])
    if "ext4" not in sides:
        return
    print("\nRatio to ext4 (less is better), and what coppice is to reach")
    lines = [["work", *sides, "limit", ""]]
    for name, _, _, limit, for_side, _ in works:
        ext4 = median(rows, name, "ext4")
        ratios = {side: median(rows, name, side) / ext4 for side in sides if median(rows, name, side) is not None}
        verdict = "" if limit is None or for_side not in ratios else "met" if ratios[for_side] <= limit else "MISSED"
        lines.append([name, *(show(ratios.get(side)) for side in sides), show(limit), verdict])
    print_columns(lines)


def write_chart(path, rows, works, sides):
    """One bar for each side of each work, as a ratio to ext4, on a scale that ends at 8."""
    colours = ["#888888", "#7aa6c2", "#4f7f9f", "#d9a441", "#a3719e", "#c27a7a", "#2e8b57", "#7bc796"]
    bar, gap, left, most, width = 9, 14, 170, 8, 620
    y, parts = 40, []
    for i, side in enumerate(sides):
        parts.append(f'<rect x="{left + i * 95}" y="10" width="10" height="10" fill="{colours[i % 8]}"/>'
                     f'<text x="{left + i * 95 + 14}" y="19">{side}</text>')
    for work in works:
        ext4 = median(rows, work[0], "ext4")
        parts.append(f'<text x="5" y="{y + bar * len(sides) / 2 + 4}">{work[0]}</text>')
        for i, side in enumerate(sides):
            value = median(rows, work[0], side)
            if value is not None and ext4:
                ratio = value / ext4
                parts.append(f'<rect x="{left}" y="{y}" width="{min(ratio, most) / most * width:.1f}" height="{bar - 1}" '
                             f'fill="{colours[i % 8]}"/><text x="{left + min(ratio, most) / most * width + 4:.1f}" '
                             f'y="{y + 8}" font-size="8">{ratio:.2f}</text>')
            y += bar
        y += gap
    with open(path, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + 95 * len(sides) + 60}" height="{y}" '
                   f'font-family="sans-serif" font-size="11">{"".join(parts)}</svg>\n')


def write_results(bench, rows, works, sides):
    directory = bench.at("results", time.strftime("%Y-%m-%d-%H%M%S"))
    os.makedirs(directory)
    with open(os.path.join(directory, "results.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    with open(os.path.join(directory, "results.json"), "w") as file:
        json.dump({"rows": rows, "node_seconds": bench.node_seconds, "node_bytes": bench.node_bytes}, file, indent=1)
    if "ext4" in sides:
        write_chart(os.path.join(directory, "ratios.svg"), rows, works, sides)
    print(f"\nall figures: {directory}")


def main():
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--home", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--purge", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--sides", default="")
    parser.add_argument("--works", default="")
    options = parser.parse_args()
    bench = Bench(options.home)
    if options.purge:
        bench.take_down()
        shutil.rmtree(options.home)
        return
    quick_sides = ["ext4", "overlayfs", "fuse-overlayfs", "coppice", "coppice-async"]
    sides = [s for s in options.sides.split(",") if s] or (ALL_SIDES if options.full else quick_sides)
    names = [w for w in options.works.split(",") if w]
    works = [w for w in WORKS if w[0] in names] if names else [w for w in WORKS if options.full or w[5]]
    unknown = set(sides) - set(ALL_SIDES) | set(names) - {w[0] for w in WORKS}
    if unknown:
        sys.exit(f"bench: {', '.join(sorted(unknown))}: no such side or work")
    rounds = options.rounds or (5 if options.full else 1)
    rows = []
    bench.take_down()
    try:
        bench.make_disk("ext4")
        for side in sides:
            bench.make_side(side)
        print("Adding a node")
        print_columns([["side", "seconds", "KiB on disk"]] + [
            [s, f"{bench.node_seconds[s]:.3f}", f"{bench.node_bytes[s] / 1024:.0f}"] for s in sides])
        for round_number in range(rounds):
            for name, cold, file, *_ in works:
                for side in sides:
                    rows.append(bench.measure(name, cold, file, side))
            print(f"round {round_number + 1} of {rounds}", file=sys.stderr)
        print_tables(rows, works, sides)
        write_results(bench, rows, works, sides)
    finally:
        bench.take_down()


main()
