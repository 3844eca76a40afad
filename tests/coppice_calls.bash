# shellcheck shell=bash disable=SC2154
# Calls of $COPPICE and what must come of them; the test that sources this sets `work`, and counts in `faults`.

wrong() {
    echo "WRONG: $*"
    faults=$((faults + 1))
}
run() { # WORD…: has to succeed
    "$COPPICE" "$@" >"$work/out" 2>&1 || wrong "coppice $*: $(cat "$work/out")"
}
refused() { # TEXT WORD…: has to fail with one line that has the text
    local text=$1
    shift
    "$COPPICE" "$@" >"$work/out" 2>&1 && wrong "coppice $* did not fail"
    { grep -qF -- "$text" "$work/out" && (($(wc -l <"$work/out") == 1)); } || wrong "coppice $*: $(cat "$work/out")"
}
told() { # TEXT: the last command said so
    grep -qF -- "$1" "$work/out" || wrong "not told: $1: $(cat "$work/out")"
}
is() { # FILE TEXT
    [[ $(cat "$1" 2>&1) == "$2" ]] || wrong "$1: '$(head -c 200 "$1" 2>&1)' instead of '$2'"
}
