#!/bin/bash
# vm.sh [disk] [boot]: coppice over the network, in virtual machines; both without arguments. Needs root; see bench/README.md.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${COPPICE_VM_CACHE:-$HOME/.cache/coppice-vm}
installed=$("$here/../scripts/deps" vm vm-bench)
[[ -z $installed ]] || echo "installed: $installed"
mkdir -p "$cache"
"$here/../tests/vm/images" "$cache"
exec {lock}>"$cache/run.lock" # the router's tree is built in: one run at a time
flock "$lock"
python3 "$here/vm.py" "$cache" "$@" {lock}>&-
