#!/bin/bash
# 'coppice diff' says what a walk of both trees finds: from the image and from a snapshot, mounted and not.
set -u
export LC_ALL=C
# shellcheck source=tests/random_changes.bash
source "$(dirname "${BASH_SOURCE[0]}")/random_changes.bash"

work=$(mktemp -d "${TMPDIR:-/tmp}/coppice-diff.XXXXXX") || exit 1
mnt=$work/mnt
export COPPICE_STORE=$work/store
faults=0
seed=${COPPICE_SEED:-$(date +%s)}
RANDOM=$((seed % 32768))

cleanup() {
    "$COPPICE" umount "$mnt" >/dev/null 2>&1 || umount -l "$mnt" 2>/dev/null
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# shellcheck source=tests/coppice_calls.bash
source "$(dirname "${BASH_SOURCE[0]}")/coppice_calls.bash"
shows() { # FILE WORD…: 'coppice diff' prints these lines, in whatever order
    local wanted=$1
    shift
    "$COPPICE" diff "$@" >"$work/out" 2>"$work/errors" || wrong "diff $*: $(cat "$work/errors")"
    diff "$wanted" <(sort "$work/out") >"$work/differs" || wrong "diff $*, seed $seed: $(head -5 "$work/differs")"
}

mkdir -p "$work/image/"{d/a/b,d/c,e} "$mnt"
for ((i = 1; i < 16; i++)); do
    echo "$i" >"$work/image/d/f$i"
    head -c $((i * 4000)) /dev/urandom >"$work/image/d/a/g$i"
    echo "$i" >"$work/image/d/a/b/h$i"
    ln -s "f$i" "$work/image/d/c/s$i"
done
ln "$work/image/d/f1" "$work/image/d/c/hard"
setfattr -n user.test -v image "$work/image/d/f2"
touch "$work/image/e/kept" "$work/image/old"
printf x >"$work/image/e/same"
run init
run image import --no-templates base "$work/image"
run node add n1
run mount "$mnt"
root=$mnt/system/n1/rootfs
cp -a "$root" "$work/at-first"

: >"$work/nothing"
shows "$work/nothing" n1

# What is as before is not listed, whatever the node has done to it.
cp -a "$root/e/same" "$work/same"
printf x >"$root/e/same" && touch -r "$work/same" "$root/e/same"
chmod 600 "$root/e/kept" && chmod 644 "$root/e/kept"
shows "$work/nothing" n1
# Neither size nor times tell, the bytes do.
printf y >"$root/e/same" && touch -r "$work/same" "$root/e/same"
echo 'M /e/same' >"$work/lines"
shows "$work/lines" n1
printf 'ab\ncd\\' >"$root/e/"$'line\nend\\'
printf 'A /e/line\\012end\\\\\nM /e/same\n' >"$work/lines"
shows "$work/lines" n1
rm "$root/e/"line*

random_changes "$root" "${COPPICE_CHANGES:-60}"
cp -a "$root" "$work/at-s1"
compare_trees "$work/at-first" "$work/at-s1" >"$work/lines"
[[ -s $work/lines ]] || wrong 'nothing was changed'
shows "$work/lines" n1
run snapshot create n1 s1
shows "$work/nothing" n1 --from s1
random_changes "$root" "${COPPICE_CHANGES:-60}"
cp -a "$root" "$work/now"
compare_trees "$work/at-s1" "$work/now" >"$work/lines-s1"
shows "$work/lines-s1" n1 --from s1
shows "$work/lines" n1@s1
compare_trees "$work/at-first" "$work/now" >"$work/lines"
shows "$work/lines" n1
grep -E '^. /d/a(/|$)' "$work/lines" >"$work/part"
shows "$work/part" n1 /d/a

"$COPPICE" diff n1 --json >"$work/json" || wrong '--json fails'
[[ $(grep -c '"change":' "$work/json") == $(wc -l <"$work/lines") ]] || wrong '--json has other lines'
"$COPPICE" diff n1 --stat >"$work/out" || wrong '--stat fails'
grep -qE '^M .*contents.* 1 B +1 B +/e/same$' "$work/out" || wrong "--stat: $(grep same "$work/out")"

refused 'no such node' diff n2
refused 'no such snapshot' diff n1 --from s2
refused 'no such snapshot' diff n1@../s1
refused 'there is no such path' diff n1 /none

# A copy whose command was killed goes while the daemon runs, one that is used stays.
mkdir "$COPPICE_STORE/nodes/.copy-gone" "$COPPICE_STORE/nodes/.copy-used"
exec 9<"$COPPICE_STORE/nodes/.copy-used"
flock -n 9 || wrong 'flock'
touch -d '1 minute ago' "$COPPICE_STORE/nodes/"{.copy-gone,.copy-used}
for ((i = 0; i < 100; i++)); do
    [[ -e $COPPICE_STORE/nodes/.copy-gone ]] || break
    sleep 0.1
done
[[ ! -e $COPPICE_STORE/nodes/.copy-gone ]] || wrong 'a killed command'"'"'s copy stays'
[[ -e $COPPICE_STORE/nodes/.copy-used ]] || wrong 'a copy in use is gone'
exec 9<&-
rmdir "$COPPICE_STORE/nodes/.copy-used"
run umount "$mnt"

# The same without a daemon, and with nothing left behind.
shows "$work/lines" n1
shows "$work/lines-s1" n1 --from s1
leftovers=$(find "$COPPICE_STORE/nodes" -name '.*' -mindepth 1)
[[ -z $leftovers ]] || wrong "left behind: $leftovers"
run fsck

((faults == 0)) || echo "$faults faults, seed $seed"
((faults == 0))
