#!/bin/sh
# examples.sh: runs every example of the manual. A literal block stands behind a line `.\" test: KIND NAME`:
#   policy   loads, its assertions hold          config   is read by fobd -n
#   shell    runs without an error               session  prints what it says ($ lines are typed)
#   libfob, raw   C, compiled and run against a broker     bytes   are what a client sends
#   none     no example (the grammar)
set -u
: "${BUILD:?the build folder}"
root=$(pwd)
tmp=/tmp/t
passed=0 failed=0
if [ "$(id -u)" != 0 ]; then
    echo "skipped: needs root (other users, and a directory of that name)"
    exit 77
fi
[ ! -e $tmp ] || { echo "skipped: $tmp exists"; exit 77; }
mkdir -m 0755 $tmp
fobd=
finish() {
    [ -z "$fobd" ] || { kill "$fobd" && wait "$fobd"; } 2>/dev/null
    rm -rf $tmp
}
trap finish EXIT
trap 'exit 1' INT TERM

PATH=$BUILD:$PATH
export PATH
result() { # STATUS NAME
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "example failed: $2"
        sed 's/^/    /' $tmp/out
    fi
}

# Cuts the blocks out: $tmp/blocks/PAGE.NUMBER, first line KIND NAME. A block without its comment gets the kind `unmarked`.
mkdir $tmp/blocks
for page in man/*.[1-8]; do
    awk -v out="$tmp/blocks/$(basename "$page")" '
        /^\.\\" test: / { mark = $3 " " $4; next }
        /^\.Bd -literal/ { n++; file = out "." n; print (mark ? mark : "unmarked block") > file; mark = ""; inside = 1; next }
        /^\.Ed/ { inside = 0 }
        inside { gsub(/\\e/, "\\"); gsub(/\\&/, ""); print > file }' "$page"
done

printf 'remember the milk\n' >$tmp/notes.txt
printf 'unsaid\n' >$tmp/secret.txt
chown daemon $tmp/notes.txt
printf 'allow user:0 read,append %s/notes.txt\n' $tmp >$tmp/test.policy
printf 'user 64999\nworkers 1\naudit none\n' >$tmp/test.conf
"$BUILD/fobd" -f $tmp/test.conf -p $tmp/test.policy -s $tmp/sock >$tmp/fobd.log 2>&1 &
fobd=$!
export FOB_SOCKET=$tmp/sock
i=0
until "$BUILD/fob" ping >/dev/null 2>&1 || [ $i = 50 ]; do
    i=$((i + 1))
    sleep 0.1
done

compile() { # BLOCK PROGRAM ARGUMENTS...
    src=$1 program=$2
    shift 2
    tail -n +2 "$src" >"$program.c"
    # shellcheck disable=SC2086 # nothing, or flags
    ${CC:-cc} ${FOB_SANITIZE:+-fsanitize=address,undefined} -D_GNU_SOURCE -Wall -Wextra -Werror -I "$root/client" -o "$program" "$program.c" "$@" >$tmp/out 2>&1
}
run_session() { # BLOCK: what is typed is run, what is printed compared
    tail -n +2 "$1" >$tmp/want
    (
        cd $tmp || exit 1
        while IFS= read -r line; do
            case $line in '$ '*)
                printf '%s\n' "$line"
                sh -c "${line#??}" 2>&1
                ;;
            esac
        done <$tmp/want
    ) >$tmp/got
    diff $tmp/want $tmp/got >$tmp/out
}
run_shell() { # BLOCK: by root where the system's own files are used, with nothing left running
    tail -n +2 "$1" >$tmp/script
    cp $tmp/notes.txt $tmp/shell/ 2>/dev/null
    (cd $tmp/shell && FOB_SOCKET='' timeout 20 sh -eu $tmp/script >$tmp/out 2>&1)
    status=$?
    [ ! -e $tmp/shell/own.sock ] || pkill -f "$tmp/shell/own.policy"
    return $status
}
mkdir $tmp/shell
for block in "$tmp"/blocks/*; do
    read -r kind what <"$block"
    name="$(basename "$block") $kind $what"
    case $kind in
    none) continue ;;
    policy)
        tail -n +2 "$block" >$tmp/example.policy
        "$BUILD/fobd" -t -p $tmp/example.policy -f $tmp/test.conf >$tmp/out 2>&1
        ;;
    config)
        tail -n +2 "$block" >$tmp/example.conf
        "$BUILD/fobd" -n -f $tmp/example.conf >$tmp/out 2>&1
        ;;
    libfob) compile "$block" $tmp/example "$BUILD/libfob.a" -lpthread && $tmp/example $tmp/notes.txt >$tmp/out 2>&1 && cmp $tmp/notes.txt $tmp/out ;;
    raw) compile "$block" $tmp/raw && $tmp/raw $tmp/sock $tmp/notes.txt >$tmp/out 2>&1 && cmp $tmp/notes.txt $tmp/out ;;
    session) run_session "$block" ;;
    shell) run_shell "$block" ;;
    bytes)
        tail -n +2 "$block" | tr -s ' ' '\n' >$tmp/want
        printf 'FOB1\050\000\000\000\001\000\001\000\007\000\000\000\001\000\000\000\000\000\000\000\011\000\000\000/etc/motd\000\000\000' |
            od -An -v -tx1 | tr -s ' \n' '\n' | sed '/^$/d' >$tmp/got
        sed -i '/^$/d' $tmp/want
        diff $tmp/want $tmp/got >$tmp/out
        ;;
    *)
        echo "a literal block has no \`.\\\" test:\` line before it" >$tmp/out
        false
        ;;
    esac
    result $? "$name"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
