#!/bin/bash
# The rules of CONTRIBUTING.md about where things may stand, as far as a text search can tell. Prints every place that
# breaks one; status 1 when there is any.
set -u
export LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
shopt -s nullglob

# The layers from the ground up: a file includes its own layer and those below. Every file of src/ is in one of them.
layers=(
    "log io bootname network service owner bootlog nfs_probe tftp_probe mount_rpc nfs_rpc longpath rootdir listing linkmap inomap identity fdcache object progress table disk_xattrs room ground handover references replay presence control asker crash"
    "db db_* schema"
    "catalog catalog_* store commit delta delta_* image image_* imageset"
    "view damage place dirent inode acl xattr names content change chunk allocate recovery snapshot switch clone thaw diff diff_*"
    "tree tree_* outdated template template_*"
    "snapshots nodeops roots"
    "watch keeper workers fuse_ops channel import import_* parcel parcel_* promote rebase rebase_* bench proposal proposal_* export dnsmasq pending doctor doctor_* fsck fsck_*"
    "apply"
    "daemon supervisor"
    "main cmd cmd_*"
)
lines_of_file=800
lines_of_function=80

faults=0

# Reads lines; each is a fault.
report() {
    local line
    while read -r line; do
        echo "$line"
        faults=$((faults + 1))
    done
}

declare -A layer # by module

# Sets `found` to the layer of a module; status 1: it is in none.
find_layer() { # MODULE
    local i pattern
    found=${layer[$1]-}
    [[ -z $found ]] || return 0
    set -f
    for i in "${!layers[@]}"; do
        for pattern in ${layers[i]}; do
            # shellcheck disable=SC2053 # a pattern it is
            [[ $1 != $pattern ]] || found=$i
        done
    done
    set +f
    layer[$1]=$found
    [[ $found ]]
}

check_layers() {
    local file module own number included found
    for file in src/*.[ch]; do
        module=${file##*/}
        find_layer "${module%.*}" || echo "$file: in no layer; tests/layout.sh has the list"
    done
    while IFS=: read -r file number included; do
        module=${file##*/}
        find_layer "${module%.*}" || continue
        own=$found
        included=${included#*\"} included=${included%%\"*}
        find_layer "${included%.h}" || continue
        ((found <= own)) || echo "$file:$number: includes $included, which is in a higher layer"
    done < <(grep -nH '^#include "' src/*.[ch])
}

# Files of src/ in which a line outside comments matches, but for those named.
found_outside() { # PATTERN REASON FILE…
    local pattern=$1 reason=$2 file number line
    shift 2
    while IFS=: read -r file number line; do
        [[ " $* " == *" ${file##*/} "* || $line =~ ^[[:space:]]*(/?\*|//) ]] || echo "$file:$number: $reason"
    done < <(grep -nHE "$pattern" src/*.[ch])
}

check_places() {
    found_outside '^#include <sqlite3\.h>' 'only db.c speaks to SQLite' db.c db_wal.c
    found_outside '^#include <fuse[^>]*>' 'only fuse_ops.c, channel.c and daemon.c speak the FUSE protocol' fuse_ops.c channel.c daemon.c
    found_outside '^#include <(json-c/|json)[^>]*>' 'JSON is for the commands' cmd.c table.c
    found_outside '^#include <archive[^>]*>' 'archives are for the import and the export' \
        import_archive.c import_bytes.c import_stream.c import_acl.c parcel.c parcel_entry.c parcel_read.c parcel_member.c
    found_outside '^#include <rpc/[^>]*>' 'only the probe speaks RPC' nfs_probe.c
    # fsync(2) in the middle of a sentence is no call of it.
    found_outside '(^|[^A-Za-z0-9_])(fsync|fdatasync|syncfs|sync|sync_file_range)[[:space:]]*\(([^2]|2[^)]|$)' \
        'only commit.c makes things durable' commit.c db.c
    found_outside '"[^"]*COMMIT' 'only commit.c ends transactions' commit.c db.c
}

check_size() {
    awk -v most="$lines_of_file" 'FNR == most + 1 { print FILENAME ": more than " most " lines: a noun is missing" }' \
        src/*.[ch] schema/* scripts/* cmake/*
    awk -v most="$lines_of_function" '
        /^\{/ { start = FNR }
        /^\}/ && start && FNR - start - 1 > most { print FILENAME ":" start ": a function of more than " most " lines" }
        /^\}/ { start = 0 }' src/*.c
}

check_headers() {
    local file
    for file in src/*.h; do
        grep -q '^#pragma once$' "$file" || echo "$file: has no #pragma once"
        [[ $(head -c 2 "$file") == '/*' ]] || echo "$file: does not begin by saying what it is"
    done
}

# What only the place where it was written knows: directories of one machine, numbers of reports.
check_mentions() {
    local outside='(^|[^A-Za-z0-9_.}/-])/(work|home/[a-z]+)(/|[^A-Za-z0-9_-]|$)' number='(issue|ticket|PR) ?#?[0-9]+|\(#[0-9]+\)'
    find . \( -name .git -o -name 'build*' -o -name .cache \) -prune -o -type f ! -path ./tests/layout.sh -print0 |
        xargs -0 grep -nIEi "$outside|$number" | sed 's|^\./\([^:]*:[0-9]*\):.*|\1: names a place or a number that only one machine knows|'
}

report < <(check_layers)
report < <(check_places)
report < <(check_size)
report < <(check_headers)
report < <(check_mentions)
((faults == 0)) || echo "$faults faults"
((faults == 0))
