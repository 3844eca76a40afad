#!/bin/bash
# How long a node stops for a snapshot, and until a reset shows the new view: medians over ROUNDS, in a private store below DIR.
#
#     bench/snapshots.sh COPPICE DIR [FILES] [ROUNDS] [sync]
#
# The pause is the longest that one of a row of small writes takes while the snapshot is made, beside the longest of as many
# milliseconds without one. A reset's time is that of the whole command; the view is looked into right after it.
set -eu
export LC_ALL=C
coppice=$1 files=${3:-100000} rounds=${4:-5} options=${5:-async}
work=$(mktemp -d "$2/coppice-bench.XXXXXX")
export COPPICE_STORE=$work/store
root=$work/mnt/system/n1/rootfs
trap '"$coppice" umount "$work/mnt" >/dev/null 2>&1; rm -rf --one-file-system "$work"' EXIT

mkdir -p "$work/image/etc" "$work/mnt"
echo a >"$work/image/etc/a"
{
    "$coppice" init
    "$coppice" image import base "$work/image"
    "$coppice" node add n1
    "$coppice" mount -o async "$work/mnt"
} >/dev/null 2>&1

python3 - "$coppice" "$root" "$files" "$rounds" "$work/mnt" "$options" <<'P'
import os, statistics, subprocess, sys, threading, time

coppice, root, files, rounds, mountpoint, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:]

for i in range(files):
    if i % 1000 == 0:
        os.mkdir(f"{root}/d{i // 1000}")
    with open(f"{root}/d{i // 1000}/f{i}", "wb") as f:
        f.write(b"x")
if options != "async": # in which the files are made sooner
    subprocess.run([coppice, "umount", mountpoint], check=True)
    subprocess.run([coppice, "mount", "-o", options, mountpoint], check=True)

def run(*words):
    began = time.monotonic()
    subprocess.run([coppice, *words], check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - began) * 1000

def longest(what):
    """Of a row of writes, in ms, while what() runs; what() in ms."""
    ending, worst = threading.Event(), [0.0]

    def write():
        fd = os.open(f"{root}/d0/f0", os.O_WRONLY)
        while not ending.is_set():
            began = time.monotonic()
            os.pwrite(fd, b"y", 0)
            worst[0] = max(worst[0], (time.monotonic() - began) * 1000)
        os.close(fd)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.05)
    worst[0] = 0
    took = what()
    pause = worst[0]
    ending.set()
    writer.join()
    return pause, took

def show(what, values):
    print(f"{what:40} {statistics.median(values):8.1f} ms  ({min(values):.1f} … {max(values):.1f})", flush=True)

create, quiet, reset, back = [], [], [], []
for i in range(rounds):
    create.append(longest(lambda: run("snapshot", "create", "n1", f"s{i}")))
    quiet.append(longest(lambda: time.sleep(create[-1][1] / 1000))[0])
    reset.append(run("reset", "n1", "--force", "--discard"))
    if sorted(os.listdir(root)) != ["etc"]:
        sys.exit("the view is not fresh after a reset")
    back.append(run("reset", "n1", "--to", f"s{i}", "--force", "--discard"))
    if sum(len(names) for _, _, names in os.walk(root)) != files + 1:
        sys.exit("files are missing after a reset to a snapshot")
print(f"{files} changed files, -o {options}, medians of {rounds}")
show("snapshot create, the command", [took for _, took in create])
show("  longest write meanwhile", [pause for pause, _ in create])
show("  longest write without one", quiet)
show("reset to the image, the command", reset)
show("reset --to, the command", back)
P
