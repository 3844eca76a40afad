"""The suite behind scripts/bench: makes the sides, runs the works in turns, prints and keeps the results."""
import argparse
import glob
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import nodes
import report
from sides import ALL_SIDES, Sides, drop_caches, run, sync

BIG = "bench/200m"  # in the image, beside what Debian's packages bring
PACKAGES = 100
PACKAGE_FILES = 50  # at most in one: dpkg syncs each file, and one package of headers would be all that is measured

# What the shell does, in the side's root; the other works are those of the program `work`.
SHELL = {
    "find-cold": "find . -xdev -ls >/dev/null",
    "find-warm": "find . -xdev -ls >/dev/null",
    "du-warm": "du -s . >/dev/null",
    "tar-cold": "tar cf - . | cat >/dev/null",
    "tar-warm": "tar cf - . | cat >/dev/null",
    "git-status": "git -C bench/tree status >/dev/null",
    "untar": "mkdir -p tmp/untar && tar -C usr/share -cf - doc | tar -C tmp/untar -xf - && sync -f tmp",
    "dpkg-unpack": 'dpkg --root="$PWD" --force-all --log=/dev/null --unpack "$DEBS"/*.deb >/dev/null 2>&1',
}
LEFT_BEHIND = {"untar": "tmp/untar"}


class Work(NamedTuple):
    name: str
    cold: bool = False
    file: str = ""                # on which file
    limit: float | None = None    # what coppice is to reach, as a ratio to ext4
    side: str = "coppice"         # which of its two
    quick: bool = True            # in --quick

    @property
    def on_floor(self):
        """What the floor can be asked: names of its own, and what is written."""
        return self.name.startswith(("create-", "rename-", "unlink-", "write-", "random-write-")) and "fsync" not in self.name

    @property
    def in_shell(self):
        return self.name in SHELL

    @property
    def unit(self):
        return "ms" if self.in_shell else "us/MiB" if self.name.startswith(("write-", "read-")) else "us"


WORKS = [
    Work("stat-warm", limit=1.3),
    Work("open-read-close-warm", limit=2),
    Work("find-cold", cold=True, limit=1.2),
    Work("find-warm", limit=1.5),
    Work("du-warm", quick=False),
    Work("tar-cold", cold=True, quick=False),
    Work("tar-warm", limit=1.5),
    Work("git-status", quick=False),
    Work("create-1", limit=4, side="coppice-async"),
    Work("rename-1", limit=4, side="coppice-async"),
    Work("unlink-1", limit=4, side="coppice-async"),
    Work("create-4", side="coppice-async", quick=False),
    Work("rename-4", side="coppice-async", quick=False),
    Work("unlink-4", side="coppice-async", quick=False),
    Work("create-fsync-1", limit=1),
    Work("create-fsync-4", limit=0.6),
    Work("read-cold", cold=True, file=BIG, limit=1.3),
    Work("read-warm", file=BIG, limit=1.7),
    Work("random-read-4k", file=BIG, quick=False),
    Work("map-read", file=BIG, limit=3),
    Work("write-1m", limit=1.6),
    Work("write-64k", quick=False),
    Work("write-4k", limit=2.5),
    Work("random-write-4k", limit=4),
    Work("append-byte", file="bench/append"),
    Work("read-half-own", file="bench/append", quick=False),
    Work("chmod", file=BIG, quick=False),
    Work("chown-10000", quick=False),
    Work("untar", quick=False),
    Work("dpkg-unpack", quick=False),
]

# The fields of bonnie++'s CSV that are rates (bon_csv2html(1)); for each the next but one.
BONNIE_FIELDS = {"write KiB/s": 11, "rewrite KiB/s": 13, "read KiB/s": 17, "seeks/s": 19, "create/s": 26, "stat/s": 28,
                 "delete/s": 30, "random create/s": 32, "random stat/s": 34, "random delete/s": 36}


class Bench:
    def __init__(self, sides):
        self.sides = sides
        self.environment = dict(os.environ, DEBS=sides.at("debs"), GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="safe.directory",
                                GIT_CONFIG_VALUE_0="*", DEBIAN_FRONTEND="noninteractive")

    def shell(self, work, root):
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(["sh", "-c", SHELL[work]], cwd=root, check=True, env=self.environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (time.monotonic() - began) * 1e3, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def program(self, work, root, pid):
        environment = dict(self.environment, DAEMON_PID=str(pid)) if pid else self.environment
        name = {"read-half-own": "read-warm"}.get(work.name, work.name)
        printed = run(self.sides.at("work"), name, root, os.path.join(root, work.file), env=environment)
        return [float(word) for word in printed.split()]

    def measure(self, work, side):
        root, pid = self.sides.roots[side], self.sides.daemon_pid(side)
        if work.cold:
            drop_caches(self.sides.mounted_disks())
        elif work.in_shell and work.name.endswith("-warm"):
            self.shell(work.name, root)
        sync(self.sides.disk_of(side))
        if work.in_shell:
            before, _ = self.sides.daemon_use(side)
            value, caller = self.shell(work.name, root)
            daemon, amount = self.sides.daemon_use(side)[0] - before, 1
        else:
            value, caller, daemon, amount = self.program(work, root, pid)
        if work.name in LEFT_BEHIND:
            shutil.rmtree(os.path.join(root, LEFT_BEHIND[work.name]), ignore_errors=True)
        return {"work": work.name, "side": side, "unit": work.unit, "value": value, "caller_cpu": caller,
                "daemon_cpu": daemon, "amount": amount, "resident": self.sides.daemon_use(side)[1]}

    def make_packages(self):
        """Packages of the image's own files, to be unpacked over them; made once."""
        debs, base = self.sides.at("debs"), os.path.join(self.sides.disks["ext4"], "base")
        if os.path.isdir(debs):
            return
        half = debs + ".half"
        shutil.rmtree(half, ignore_errors=True)
        os.makedirs(half)
        made = 0
        for path in sorted(glob.glob(os.path.join(base, "var/lib/dpkg/info/*.list"))):
            files = package_files(base, path)
            if made < PACKAGES and 0 < len(files) <= PACKAGE_FILES:
                self.make_package(base, os.path.basename(path)[:-len(".list")].split(":")[0], files, half)
                made += 1
        os.rename(half, debs)

    def make_package(self, base, name, files, target):
        tree = os.path.join(target, name)
        os.makedirs(os.path.join(tree, "DEBIAN"))
        run("cp", "-a", "--parents", *files, tree, cwd=base)
        with open(os.path.join(tree, "DEBIAN/control"), "w") as file:
            file.write(f"Package: {name}\nVersion: 9999\nArchitecture: all\nMaintainer: bench <bench@example.org>\n"
                       "Description: for a measurement\n")
        run("dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", tree, target)
        shutil.rmtree(tree)

    def bonnie(self, side, full):
        """Our own, and bonnie++ itself, in the side's root."""
        where = os.path.join(self.sides.roots[side], "tmp")
        programs = {"bonnie": [self.sides.at("bonnie"), *(("-s", "1024", "-n", "16384") if full else ("-s", "64", "-n", "2048")), where]}
        if full:
            common = ["bonnie++", "-q", "-d", where, "-u", "root"]
            programs["bonnie++ -n 0 -f -b"] = [*common, "-n", "0", "-f", "-b", "-r", "512", "-s", "1g"]
            programs["bonnie++ -n 16"] = [*common, "-n", "16", "-s", "0"]
        rows = []
        for name, command in programs.items():
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            line = done.stdout.strip().splitlines()[-1]
            fields = line.split(",")
            rows += [dict(nodes.row(side, name, what, float(fields[at])), line=line)
                     for what, at in BONNIE_FIELDS.items() if at < len(fields) and fields[at].replace(".", "", 1).isdigit()]
        return rows


def package_files(base, path):
    """What dpkg's list names and the image has, but for directories."""
    with open(path) as file:
        files = [line.strip().lstrip("/") for line in file]
    return [f for f in files if os.path.lexists(os.path.join(base, f)) and not os.path.isdir(os.path.join(base, f))]


def parse():
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--home", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--purge", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--sides", default="")
    parser.add_argument("--works", default="")
    parser.add_argument("--deltas", default="")
    parser.add_argument("--only", choices=["works", "bonnie", "nodes"])
    options = parser.parse_args()
    quick = ["ext4", "overlayfs", "fuse-overlayfs", "coppice", "coppice-async", "fuse-floor"]
    options.sides = [s for s in options.sides.split(",") if s] or (ALL_SIDES if options.full else quick)
    names = [w for w in options.works.split(",") if w]
    unknown = set(options.sides) - set(ALL_SIDES) | set(names) - {work.name for work in WORKS}
    if unknown:
        sys.exit(f"bench: {', '.join(sorted(unknown))}: no such side or work")
    if names:
        options.only = "works"
    options.deltas = [tuple(int(number) for number in (delta + "+0").split("+")[:2]) for delta in options.deltas.split(",") if delta]
    if options.deltas:
        options.only = "nodes"
    options.works = [work for work in WORKS if work.name in names or (not names and (options.full or work.quick))]
    options.rounds = options.rounds or (5 if options.full else 1)
    return options


def run_works(bench, options):
    rows = []
    if any(work.name == "dpkg-unpack" for work in options.works):
        bench.make_packages()
    for number in range(options.rounds):
        for work in options.works:
            print(f"round {number + 1} of {options.rounds}: {work.name}", file=sys.stderr)
            rows += [bench.measure(work, side) for side in options.sides if side != "fuse-floor" or work.on_floor]
    report.print_works(rows, options.works, options.sides)
    report.print_cpu(rows, options.works, options.sides)
    return rows


def run_all(sides, options):
    bench = Bench(sides)
    sides.make_disk("ext4")
    for side in options.sides:
        sides.make_side(side)
    trees = [side for side in options.sides if side != "fuse-floor"]
    report.print_added(sides, trees)
    tables = {"works": run_works(bench, options) if options.only in (None, "works") else []}
    tables["bonnie"] = [row for side in trees if options.only in (None, "bonnie")
                        for row in bench.bonnie(side, options.full)]
    report.print_grid("Rates (more is better)", tables["bonnie"], trees)
    tables["nodes"] = nodes.measure(sides, trees, options.full, options.deltas) if options.only in (None, "nodes") else []
    report.print_grid("Whole nodes (less is better)", tables["nodes"], trees)
    report.write(sides.at("results", time.strftime("%Y-%m-%d-%H%M%S")), sides, tables, options.works, options.sides)


def main():
    options = parse()
    sides = Sides(options.home)
    if options.purge:
        sides.take_down()
        shutil.rmtree(options.home)
        return
    sides.take_down()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)) # not without taking down what was made
    try:
        run_all(sides, options)
    finally:
        sides.take_down()


main()
