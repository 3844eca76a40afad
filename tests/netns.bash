# netns.bash: sourced by tests that run network services. The test goes on as a script in namespaces of its own: network,
# mounts, processes. So it has all ports, an /etc, /run and /var/lib of its own, and nothing of it outlives it.
#
# $COPPICE is the program under test; $work a directory that goes away; failures counts.
set -u

if [[ ${COPPICE_NETNS-} != inside ]]; then
    work=$(mktemp -d)
    trap 'rm -rf --one-file-system "$work"' EXIT
    COPPICE_NETNS=inside work=$work unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc \
        -- bash "$0" "$@"
    exit
fi

failures=0
export COPPICE_STORE=$work/store

# Others' FUSE mounts, which the copied table would keep alive.
while read -r _ _ _ _ mounted _; do
    [[ $mounted != /proc ]] && umount -l "$mounted" 2>/dev/null
done < <(grep -E ' - fuse[.a-z]* ' /proc/self/mountinfo)

# A copy of the directory in memory, in its place.
own() { # DIRECTORY…
    local directory
    for directory; do
        mkdir -p "$directory" "$work/own"
        mount -t tmpfs -o mode=755 own "$work/own"
        cp -a "$directory/." "$work/own"
        mount --move "$work/own" "$directory"
    done
}

complain() {
    echo "$(basename "$0"):${BASH_LINENO[1]}: $*"
    failures=$((failures + 1))
}

# is WHAT EXPECTED FOUND
is() {
    [[ $2 == "$3" ]] && return
    complain "$1: '$3', not '$2'"
    return 1
}

# like WHAT PATTERN FOUND
like() {
    # shellcheck disable=SC2053 # a pattern
    [[ $3 == $2 ]] || complain "$1: '$3' is not like '$2'"
}

# within SECONDS COMMAND…: becomes true.
within() {
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

coppice() {
    "$COPPICE" "$@"
}

sql() {
    sqlite3 -bail -cmd '.timeout 5000' "$COPPICE_STORE/catalog.db" "$1"
}

finish() {
    ((failures == 0)) || echo "$failures failures"
    exit $((failures > 0))
}

ip link set lo up
