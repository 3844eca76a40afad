#!/bin/bash
# The systemd unit: systemd understands it, and finds it no more exposed than it has to be.
set -u
export LC_ALL=C

exposure_most=47 # in tenths; what is left, and why, says the unit itself
work=$(mktemp -d "${TMPDIR:-/tmp}/coppice-systemd.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

# The program need not be installed to be looked for.
sed "s|@CMAKE_INSTALL_FULL_BINDIR@/coppice|$(command -v true)|" "$(dirname "${BASH_SOURCE[0]}")/../packaging/coppice.service.in" \
    >"$work/coppice.service"

systemd-analyze verify --man=no "$work/coppice.service" >"$work/out" 2>&1
status=$?
if ((status != 0)) || grep -q 'coppice\.service' "$work/out"; then
    echo "systemd-analyze verify, exit $status:"
    cat "$work/out"
    exit 1
fi
if ! systemd-analyze security --offline=yes --threshold="$exposure_most" "$work/coppice.service" >"$work/out" 2>&1; then
    cat "$work/out"
    exit 1
fi
tail -n 1 "$work/out"
