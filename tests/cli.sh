#!/bin/bash
# The command line as a user meets it: every command, every wrong usage, exit codes, one line for each error.
# $COPPICE is the program under test.
set -u

coppice=${COPPICE:?is the path of the program under test}
work=$(mktemp -d)
mountpoint=$work/mnt
export COPPICE_STORE=$work/store
failures=0

# shellcheck disable=SC2317 # reached by trap
cleanup() {
    local mounted
    while read -r _ mounted _; do
        [[ $mounted/ != "$work"/* ]] || umount -l "$mounted"
    done </proc/mounts
    rm -rf "$work"
}
trap cleanup EXIT

complain() {
    echo "cli.sh:${BASH_LINENO[1]}: coppice $*"
    echo "  status $status, stdout: $out"
    echo "  stderr: $err"
    failures=$((failures + 1))
}

run() {
    "$coppice" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    out=$(<"$work/out")
    err=$(<"$work/err")
}

# done_ PATTERN ARGUMENTS: exit 0, standard output matches, nothing on standard error.
done_() {
    local pattern=$1
    shift
    run "$@"
    # shellcheck disable=SC2053 # a pattern
    [[ $status == 0 && $out == $pattern && -z $err ]] || complain "$@"
}

# fails PATTERN ARGUMENTS: exit 1, one line "coppice: PATTERN", nothing on standard output.
fails() {
    local pattern=$1
    shift
    run "$@"
    # shellcheck disable=SC2053
    [[ $status == 1 && $err == "coppice: "$pattern && $err != *$'\n'* && -z $out ]] || complain "$@"
}

# wrong PATTERN WHERE ARGUMENTS: exit 2, one line "coppice: PATTERN", and one that says where to read on.
wrong() {
    local pattern=$1 where=$2
    shift 2
    run "$@"
    # shellcheck disable=SC2053
    [[ $status == 2 && $err == "coppice: "$pattern$'\n'"try 'coppice $where--help'" && $err != *$'\n'*$'\n'* && -z $out ]] ||
        complain "$@"
}

holds='import json, sys; j = json.load(open(sys.argv[1])); assert eval(sys.argv[2])'
# json EXPRESSION ARGUMENTS: exit 0, and the Python expression holds for j, what --json printed.
json() {
    local expression=$1
    shift
    run "$@" --json
    if [[ $status != 0 || -n $err ]] || ! python3 -c "$holds" "$work/out" "($expression)" 2>/dev/null; then
        complain "$@" --json "($expression)"
    fi
}

# no_trailing_blanks: of what the last command printed.
no_trailing_blanks() {
    if grep -q ' $' "$work/out"; then complain "(trailing blanks)"; fi
}

program() {
    done_ 'coppice [0-9]*.[0-9]*.[0-9]*' --version
    done_ 'usage: coppice *commands:*example:*' --help
    done_ 'usage: coppice *commands:*example:*' -h
    done_ 'usage: coppice *commands:*example:*' help
    wrong 'COMMAND is missing' ''
    wrong '--stoer: no such option' '' --stoer=x status
    wrong '-x: no such option' '' -x
    wrong '--store: needs a value' '' --store
    wrong "imgae: no such command; the nearest is 'image'" '' imgae
    wrong "statsu: no such command; the nearest is 'status'" '' statsu --json
    wrong "import: no such command; the nearest is 'image import'" '' import debian x.tar
    wrong "image: COMMAND is missing" 'image ' image
    wrong "image: --json: no such option" 'image ' image --json
    wrong "image improt: no such command; the nearest is 'image import'" 'image ' image improt a b
    wrong "node delete: no such command; the nearest is 'node *'" 'node ' node delete n1
    done_ 'usage: coppice *image import*image list*' image --help
    done_ 'usage: coppice *node add*node list*' node -h
}

# name of the command; its operands, as many as it takes.
every_command() {
    local command operands
    while IFS='|' read -r command operands; do
        # shellcheck disable=SC2086 # words
        set -- $command
        done_ "usage: coppice \[--store DIR\] $command*example:*coppice $command*" "$@" --help
        wrong "$command: --nonsense: no such option" "$command " "$@" --nonsense
        wrong "$command: -q: no such option" "$command " "$@" -q
        # shellcheck disable=SC2086
        wrong "$command: 'surplus' is one argument too many" "$command " "$@" $operands surplus
        [[ -z $operands ]] || wrong "$command: [A-Z]* is missing" "$command " "$@"
        # shellcheck disable=SC2086
        [[ $command == init ]] || fails "$COPPICE_STORE: there is no store; 'coppice init' makes one" "$@" $operands
    done <<COMMANDS
init|
status|
image import|debian source
image list|
image show|debian
image default|debian
image remove|debian
node add|n1
node list|
node show|n1
node set|n1 --ip 10.1.0.1
node remove|n1
template list|
template show|etc/motd
template set|etc/motd /dev/null
template absent|etc/motd
template remove|etc/motd
mount|/
COMMANDS
    done_ 'usage: coppice * umount MOUNTPOINT*' umount --help
    wrong 'umount: MOUNTPOINT is missing' 'umount ' umount
    wrong "umount: 'b' is one argument too many" 'umount ' umount a b
    wrong 'image import: SOURCE is missing' 'image import ' image import debian
    wrong 'status: --json: takes no value' 'status ' status --json=1
}

# As fsck(8), unlike every other command.
fsck_codes() {
    run fsck --nonsense
    [[ $status == 16 && $err == "coppice: fsck: --nonsense: no such option"* ]] || complain fsck --nonsense
    run fsck a b
    [[ $status == 16 && $err == "coppice: fsck: 'b' is one argument too many"* ]] || complain fsck a b
    run fsck
    [[ $status == 8 && $err == "coppice: $COPPICE_STORE: there is no store"* ]] || complain fsck
}

init() {
    wrong "init: --server: '10.1.0' is not an IPv4 address" 'init ' init --server 10.1.0
    wrong "init: --server: needs a value" 'init ' init --server
    wrong "init: --network: '10.1.0.0' is not an IPv4 network such as *" 'init ' init --network 10.1.0.0
    wrong "init: --network: '10.1.0.0/33' is not an IPv4 network such as *" 'init ' init --network 10.1.0.0/33
    wrong "init: --network: '10.1.0.7/24' has host bits set; the network is 10.1.0.0/24" 'init ' init --network 10.1.0.7/24
    [[ ! -e $COPPICE_STORE ]] || complain init '(left something behind)'
    done_ "store made in $COPPICE_STORE; next: coppice image import NAME SOURCE" \
        init --server 10.1.0.1 --network 10.1.0.0/16
    fails "$COPPICE_STORE: *" init
    fails "$work: *" --store "$work" status
    done_ "store made in $work/other; next: coppice --store $work/other image import NAME SOURCE" \
        --store "$work/other" init
}

empty_store() {
    done_ 'no images yet: coppice image import NAME SOURCE' image list
    done_ 'no nodes yet: coppice node add SERIAL' node list
    json 'j == []' image list
    json 'j == []' node list
    fails "image debian: no such image *" image show debian
    fails "image debian: no such image *" image default debian
    fails "*debian*" image remove debian
    fails "node n1: no such node *" node show n1
    fails "node n1: no such node *" node set n1 --hostname pi
    fails "node n1: no such node *" node remove n1
    fails "node n1: no such node *" node remove n1 --purge
    fails "node ../images: no such node *" node remove --purge ../images
    json 'j["images"] == 0 and j["default_image"] is None and not j["mounted"] and j["pid"] is None' status
}

images() {
    mkdir -p "$work/source/boot" "$work/source/etc" "$work/source/bin"
    echo coppice >"$work/source/etc/hostname"
    install -m 755 /dev/null "$work/source/bin/sh"
    done_ 'node early added; it has no image yet: coppice image import NAME SOURCE' node add early
    fails '*' image import debian "$work/nothing"
    done_ 'image debian imported: * files, *B; it is the default image' \
        image import debian "$work/source" --no-templates
    fails '*debian*' image import debian "$work/source"
    fails '*' image import ../debian "$work/source"
    tar -C "$work/source" -cf "$work/source.tar" .
    done_ 'image second imported: * files, *B'$'\n''files that *'$'\n''  changed etc/hostname: each node its own' \
        image import second "$work/source.tar"
    json 'len(j) == 1 and j[0]["image"] == "second" and j[0]["path"] == "etc/hostname"' template list
    done_ "\\\${hostname}" template show etc/hostname --image second
    fails 'template etc/hostname of every image: no such template; *' template show /etc/hostname
    fails '*' image import third -
    "$coppice" image import third - <"$work/source.tar" >/dev/null || complain image import third -
    done_ 'image third removed' image remove third
    done_ 'NAME * DEFAULT * FILES * SIZE * ADDED * NODES'$'\n''debian *yes * 1'$'\n''second *no * 0' image list
    no_trailing_blanks
    json '[(i["name"], i["default"], i["nodes"]) for i in j] == [("debian", True, 1), ("second", False, 0)]' image list
    json 'all(type(i[k]) is int for i in j for k in ("files", "size", "added", "nodes"))' image list
    done_ 'name: *debian'$'\n''default: *yes'$'\n''*source: *boot: *boot'$'\n''*' image show debian
    json 'j["name"] == "debian" and j["default"] and j["path"] == "'"$COPPICE_STORE"'/images/debian/rootfs"' image show debian
    done_ 'image second is the default image' image default second
    json '[i["default"] for i in j] == [False, True]' image list
    done_ 'image debian is the default image' image default debian
    done_ 'node early removed' node remove early
}

nodes() {
    done_ 'node n1 added; to reach its root: coppice mount MOUNTPOINT' \
        node add n1 --mac B8-27-EB-42-32-C8 --ip 10.1.0.7 --hostname pi7 --image second
    done_ 'node n2 added; *' node add n2
    json '[j[k] for k in ("mac", "ip", "hostname", "image", "base", "changes", "root")] ==
        ["b8:27:eb:42:32:c8", "10.1.0.7", "pi7", "second", "second", 0, None]' node show n1
    json '[j[k] for k in ("mac", "ip", "hostname", "image", "base")] == [None, None, None, None, "debian"]' node show n2
    done_ 'serial: *n1'$'\n''mac: *b8:27:eb:42:32:c8'$'\n''*root: *-' node show n1
    done_ 'SERIAL *MAC * IP * HOSTNAME *IMAGE *CHANGES'$'\n''n1 *'$'\n''n2 * - * - * - * debian * 0 B' node list
    no_trailing_blanks
    json '[n["serial"] for n in j] == ["n1", "n2"] and j[1]["image"] is None' node list
    fails "*second*n1*" image remove second

    fails "node n1: exists already; 'coppice node set' changes it" node add n1
    fails "node n3: MAC b8:27:eb:42:32:c8 is node n1's" node add n3 --mac b8:27:eb:42:32:c8
    fails "node n3: IP address 10.1.0.7 is node n1's" node add n3 --ip 10.1.0.7
    fails "node n3: mac must be *" node add n3 --mac b8:27:eb:42:32
    fails "node n3: mac must be *" node add n3 --mac b8:27:eb:42:32:c8:00
    fails "node n3: ip must be *" node add n3 --ip 10.1.0.300
    fails "node n3: hostname must be *" node add n3 --hostname -pi
    fails "node n3: image nope: no such image" node add n3 --image nope
    fails "node .n3: serial must be *" node add .n3
    fails "node ../n3: serial must be *" node add ../n3
    fails "node : serial must be *" node add ''
    fails "node n3: no such node *" node show n3
}

node_set() {
    wrong 'node set: one of --mac, --ip, --hostname, --image is missing' 'node set ' node set n1
    wrong 'node set: --mac: needs a value' 'node set ' node set n1 --mac
    fails "node n2: MAC b8:27:eb:42:32:c8 is node n1's" node set n2 --mac B8:27:EB:42:32:C8
    fails "node n2: ip must be *" node set n2 --ip ten
    fails "node n2: image nope: no such image" node set n2 --image nope
    json '[j[k] for k in ("mac", "ip", "image")] == [None, None, None]' node show n2
    done_ 'node n1 changed' node set n1 --mac '' --hostname pi8
    json '[j[k] for k in ("mac", "ip", "hostname", "image")] == [None, "10.1.0.7", "pi8", "second"]' node show n1
    done_ 'node n1 changed' node set n1 --image ''
    json 'j["image"] is None and j["base"] == "debian"' node show n1
    done_ 'node n1 changed' node set --mac b8-27-eb-42-32-c8 n1
    json 'j["mac"] == "b8:27:eb:42:32:c8"' node show n1
    done_ 'image second removed' image remove second
    done_ 'NAME *'$'\n''debian *' image list
}

# Changes that a daemon would have made: two names of one object, as a snapshot has, count once.
make_changes() {
    mkdir -p "$COPPICE_STORE/nodes/$1/objects"
    head -c 300000 /dev/zero >"$COPPICE_STORE/nodes/$1/objects/1"
    ln "$COPPICE_STORE/nodes/$1/objects/1" "$COPPICE_STORE/nodes/$1/objects/2"
}

node_remove() {
    make_changes n1
    json '300000 <= j["changes"] < 400000' node show n1
    json '[n["changes"] > 0 for n in j] == [True, False]' node list
    json '(j["nodes"], j["nodes_changed"], j["removed_nodes"]) == (2, 1, 0) and j["changes"] >= 300000' status
    done_ "node n1 removed; its changes (* KiB) stay in $COPPICE_STORE/nodes/n1: add it again to find them" node remove n1
    json '(j["nodes"], j["nodes_changed"], j["removed_nodes"]) == (1, 0, 1) and j["removed_changes"] >= 300000' status
    fails "node n1: no such node, but changes it made are kept in $COPPICE_STORE/nodes/n1; *" node remove n1 --purge
    [[ -e $COPPICE_STORE/nodes/n1/objects/1 ]] || complain node remove n1 --purge '(purged without a row)'
    done_ "node n1 added with its earlier changes (* KiB); *" node add n1

    # A daemon on the store: its file, locked.
    printf '4711\n/mnt/cluster\nsync\n' >"$COPPICE_STORE/daemon"
    exec 9<"$COPPICE_STORE/daemon"
    flock 9
    fails 'node n1: cannot be purged while the store is mounted on /mnt/cluster (process 4711)' node remove n1 --purge
    json 'j["mounted"] and (j["mountpoint"], j["options"], j["pid"]) == ("/mnt/cluster", "sync", 4711) and j["since"] > 10**9' status
    done_ '*mounted: *yes'$'\n''mounted on: */mnt/cluster'$'\n''options: *sync'$'\n''process: *4711'$'\n''*' status
    json 'j["root"] == "/mnt/cluster/system/n1/rootfs"' node show n1
    done_ 'node n4 added; its root is /mnt/cluster/system/n4/rootfs' node add n4
    exec 9<&-
    json 'j["serial"] == "n1" and j["changes"] >= 300000' node show n1

    mkdir -p "$COPPICE_STORE/nodes/.purge-n9-1/objects" # of a purge that was killed
    done_ 'node n1 removed, its changes (* KiB) deleted' node remove --purge n1
    [[ -z $(ls -A "$COPPICE_STORE/nodes") ]] || complain node remove --purge n1 '(left something behind)'
    done_ 'node n4 removed' node remove --purge n4
    done_ 'node n1 added; *' node add n1
}

mount_refused() {
    mkdir "$mountpoint" "$work/store/inside"
    wrong 'mount: -o ro: no such option; there are sync, async, async=SECONDS and apply' 'mount ' mount -o sync,ro "$mountpoint"
    wrong 'mount: -o asynchronous: no such option; *' 'mount ' mount -o asynchronous "$mountpoint"
    wrong 'mount: -o async=0: SECONDS is a number from 1 to 3600' 'mount ' mount -o async=0 "$mountpoint"
    wrong 'mount: -o async=: SECONDS *' 'mount ' mount -o async= "$mountpoint"
    wrong 'mount: -o async=5s: SECONDS *' 'mount ' mount -o async=5s "$mountpoint"
    wrong 'mount: -o: needs a value' 'mount ' mount "$mountpoint" -o
    fails 'mountpoint *nowhere: No such file or directory' mount "$work/nowhere"
    fails 'mountpoint *hostname: Not a directory' mount "$work/source/etc/hostname"
    fails 'mountpoint /proc: is a mount point already' mount /proc
    fails 'mountpoint *: lies inside the store' mount "$COPPICE_STORE"
    fails 'mountpoint *: lies inside the store' mount "$work/store/inside"
    fails 'mountpoint *: holds the store, which the mount would hide' mount "$work"
    fails '*: is not a coppice mount' umount "$mountpoint"
    fails '/proc: is not a coppice mount' umount /proc
    fails '*nowhere: No such file or directory' umount "$work/nowhere"
    rmdir "$work/store/inside"
}

mounted() {
    if [[ ! -w /dev/fuse || $(id -u) != 0 ]]; then
        echo "cli.sh: no FUSE here, mount and umount are left out"
        return
    fi
    done_ '' mount -o async=7 "$mountpoint"
    json 'j["mounted"] and j["mountpoint"] == "'"$mountpoint"'" and j["pid"] > 1' status
    [[ $(<"$mountpoint/system/n1/rootfs/etc/hostname") == coppice ]] || complain mount "(no root of n1)"
    done_ "node n5 added; its root is $mountpoint/system/n5/rootfs" node add n5
    fails 'mountpoint *: is a coppice mount already' mount "$mountpoint"
    fails "node n5: cannot be purged while the store is mounted on $mountpoint *" node remove --purge n5
    sleep 60 8<"$mountpoint" &
    local holder=$!
    while [[ ! $(readlink "/proc/$holder/fd/8") == "$mountpoint" ]]; do sleep 0.01; done
    fails "$mountpoint: in use by *($holder)*" umount "$mountpoint"
    kill "$holder"
    wait "$holder" 2>/dev/null
    done_ '' umount "$mountpoint/"
    json 'not j["mounted"]' status
    done_ '' mount "$mountpoint"
    done_ '' umount "$mountpoint"
}

# What nfsd and dnsmasq are told; tests/mount_apply.sh lets them read it.
configuration() {
    wrong 'exports: --network: '"'10.0.0.0'"' is not an IPv4 network *' 'exports ' exports --network 10.0.0.0
    wrong 'dnsmasq: --dhcp: '"'some'"' is none of full, proxy and none' 'dnsmasq ' dnsmasq --dhcp some
    wrong 'exports: --mountpoint: '"'mnt'"' is not an absolute path' 'exports ' exports --mountpoint mnt
    fails '*is not mounted; --mountpoint DIR says where it will be' exports
    fails '*is not mounted; *' dnsmasq
    wrong 'doctor: --model: '"'pi9'"' is none of pi3, pi4, pi5' 'doctor ' doctor --model pi9
    wrong 'doctor: --log and --seconds go with --watch' 'doctor ' doctor --seconds 1
    wrong 'doctor: --seconds: '"'x'"' is not a number of seconds' 'doctor ' doctor --watch --seconds x
    wrong 'node add: SERIAL is missing' 'node add ' node add
    fails 'node nobody: no such node*' doctor nobody
    done_ '*/m/system 10.0.0.0/8(rw,sync,no_subtree_check,no_root_squash,fsid=*)' exports --mountpoint /m --network 10.0.0.0/8
    done_ '*'$'\n''tftp-root=/m/tftpboot'$'\n''*' dnsmasq --mountpoint /m
}

full_output() {
    local errors
    errors=$("$coppice" node list 2>&1 >/dev/full)
    status=$?
    [[ $status == 1 && $errors == 'coppice: standard output: No space left on device' ]] || complain 'node list >/dev/full'
}

program
every_command
fsck_codes
init
empty_store
images
nodes
node_set
node_remove
mount_refused
mounted
configuration
full_output

[[ $failures == 0 ]] || echo "$failures failed"
exit $((failures > 0))
