# shellcheck shell=bash
# Random changes of a tree, and what a walk of two trees finds different. Sourced by tests.

random_changes() { # ROOT COUNT: uses $RANDOM, which the caller seeds
    local root=$1 count=$2 i dir file other
    for ((i = 0; i < count; i++)); do
        mapfile -t dirs < <(cd "$root" && find . -type d -path './d*' | sort)
        mapfile -t files < <(cd "$root" && find . ! -type d -path './d*' | sort)
        dir=$root/${dirs[RANDOM % ${#dirs[@]}]}
        other=$root/${dirs[RANDOM % ${#dirs[@]}]}
        file=$root/${files[RANDOM % ${#files[@]}]}
        case $((RANDOM % 17)) in
            0) echo "$RANDOM" >"$dir/new$i" ;;
            1) mkdir "$dir/dir$i" && echo "$i" >"$dir/dir$i/file" ;;
            2) rm -f "$file" ;;
            3) ((RANDOM % 3)) || [[ $dir == "$root/./d" ]] || { rm -rf "$dir" && mkdir "$dir" && echo x >"$dir/f1"; } ;;
            4) [[ -L $file || ! -f $file ]] || echo "$RANDOM" >>"$file" ;;
            5) [[ -L $file ]] || chmod $((RANDOM % 8 + 640)) "$file" 2>/dev/null ;;
            6) chown -h $((RANDOM % 3)) "$file" ;;
            7) ln -sf "target$RANDOM" "$dir/link$i" ;;
            8) [[ -d $file ]] || mv -f "$file" "$other/moved$i" ;;
            9) [[ $dir == "$root/./d" || $other/ == "$dir/"* ]] || mv -T "$dir" "$other/moveddir$i" 2>/dev/null ;;
            10) ln "$file" "$other/hard$i" ;;
            11) [[ -L $file || ! -f $file ]] || setfattr -n user.test -v "$RANDOM" "$file" ;;
            12) touch -hr "$root/old" "$file" ;;
            13) [[ -L $file || ! -f $file ]] || { truncate -s $((RANDOM * 3)) "$file"; } ;;
            14) rm -f "$file" && mkdir "$file" && echo x >"$file/in" ;;
            15) mkfifo "$dir/fifo$i" ;;
            16) [[ -L $file || ! -f $file ]] || { chmod u+x "$file" && chmod u-x "$file"; } ;;
        esac
        [[ -n $(cd "$root" && find . ! -type d -path './d*' -print -quit) ]] || echo again >"$root/d/again$i"
    done
}

list_tree() { # ROOT: path, type and attributes, tab between
    (
        cd "$1" || exit 1
        find . -mindepth 1 -type f -exec sha256sum {} + | sed 's/^\([0-9a-f]*\)  \.\/\(.*\)/\2\tsum \1/'
        getfattr -Rhdm- . 2>/dev/null | awk '/^# file: / { path = substr($0, 9); next } NF { print path "\txattr " $0 }'
        find . -mindepth 1 -printf '%P\t%y\t%m %U %G %l\n'
        find . -mindepth 1 ! -type d -printf '%P\tother %s %T@\n'
    )
}

compare_trees() { # OLD NEW: the lines that 'coppice diff' should print, sorted
    awk -F'\t' '
        { tree = FILENAME == ARGV[1] }
        NF == 3 { type[tree, $1] = $2; paths[$1] }
        { all[tree, $1] = all[tree, $1] "\n" $2 "\t" $3 }
        END {
            for (path in paths) {
                old = type[1, path]; new = type[0, path]
                if (old == "") print "A /" path
                else if (new == "") print "D /" path
                else if (old != new) print "T /" path
                else if (all[1, path] != all[0, path]) print "M /" path
            }
        }' <(list_tree "$1" | sort) <(list_tree "$2" | sort) | sort
}
