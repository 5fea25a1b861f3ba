#!/bin/sh
# exec.sh: fob exec against a real, confined fobd, as several users: what the command gets, what it does not, when it is not run.
# shellcheck disable=SC2016 # scripts in single quotes are those of the command
set -u
: "${BUILD:?the build folder}"
if [ "$(id -u)" != 0 ]; then
    echo "skipped: needs root (several uids)"
    exit 77
fi
command -v setpriv >/dev/null || { echo "skipped: no setpriv (util-linux)"; exit 77; }
passed=0 failed=0
umask 022
PATH=/usr/sbin:/usr/bin:/sbin:/bin # each can be searched by everybody
export PATH
tmp=$(mktemp -d /tmp/fob-exec.XXXXXX)
chmod 0755 "$tmp"
fobd=
finish() {
    [ -z "$fobd" ] || { kill "$fobd" && wait "$fobd"; } 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM
install -m 0755 "$BUILD/fob" "$BUILD/fobd" "$tmp/"
fob="$tmp/fob"

as() { # UID COMMAND...
    uid=$1
    shift
    setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
}
ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    printf '%s\n' "$*"
}
is() { # WHAT GOT WANTED
    if [ "$2" = "$3" ]; then ok; else bad "$1:
$2
  not:
$3"; fi
}
# expect STATUS OUTPUT COMMAND...: as $who in $tmp/pub; both streams together are compared
who=2001
expect() {
    status=$1 want=$2
    shift 2
    got=$(cd "$tmp/pub" && as "$who" "$@" 2>&1 </dev/null)
    is "$*: exit status, output" "$? $got" "$status $want"
}
holds() { # FILE TEXT
    is "$1" "$(cat "$tmp/vault/$1" 2>&1)" "$2"
}
fresh() {
    rm -f "$tmp"/vault/*
    printf 'one\n' >"$tmp/vault/one"
    printf 'two\n' >"$tmp/vault/two"
    printf 'three\n' >"$tmp/vault/three"
    printf 'old contents\n' >"$tmp/vault/log"
    printf 'colon\n' >"$tmp/vault/a:b"
    printf 'colon r\n' >"$tmp/vault/a:r"
    printf 'without\n' >"$tmp/vault/a"
    chmod 0600 "$tmp"/vault/*
}

mkdir -m 0755 "$tmp/pub" "$tmp/pub/run"
mkdir -m 0700 "$tmp/vault" "$tmp/new" "$tmp/fixed"
chmod 1777 "$tmp/pub/run"
vault=$tmp/vault
fresh
printf 'fixed\n' >"$tmp/fixed/here"
cat >"$tmp/policy" <<END
allow user:2001 read,write,append,list $vault $vault/*
deny user:2001 all $vault/three
allow user:2001 write,append,create $tmp/new/**
allow user:2001 write $tmp/fixed/*
allow user:2002 read $vault/one
END
printf 'socket %s/sock\npolicy %s/policy\naudit none\nuser 64999\nworkers 1\n' "$tmp" "$tmp" >"$tmp/conf"

# ---------------------------------------------------------------- without a broker

expect 3 "fob: $tmp/sock: No such file or directory (is fobd running?)" \
    "$fob" -s "$tmp/sock" exec --stdin "$vault/one" -- touch run/it
is "no broker: nothing is run" "$(ls "$tmp/pub/run")" ""

"$tmp/fobd" -f "$tmp/conf" 2>"$tmp/log" &
fobd=$!
export FOB_SOCKET="$tmp/sock"
i=0
until as 2001 "$fob" ping >/dev/null 2>&1 || [ $i = 50 ]; do
    i=$((i + 1))
    sleep 0.1
done

# ---------------------------------------------------------------- what the command gets

expect 0 one "$fob" exec --stdin "$vault/one" -- cat
expect 0 one "$fob" exec --stdin="$vault/one" cat # an unmodified command, `--` only where it is an option
expect 0 "" "$fob" exec --stdout "$vault/one" -- echo "first and only"
holds one "first and only"
expect 0 "" "$fob" exec --stdout "$vault/log" -- echo short
holds log short
expect 0 "" "$fob" exec --append "$vault/log" -- echo more
holds log "short
more"
fresh
expect 0 "" "$fob" exec --stdin "$vault/two" --append "$vault/one" -- cat
holds one "one
two"
expect 0 "one
two
two" "$fob" exec --fd 3="$vault/one" --fd "7=$vault/two:r" --fd "8=$vault" -- sh -c 'cat <&3 && cat <&7'
expect 0 "" "$fob" exec --fd "3=$vault/one:w" -- sh -c 'echo x >&3'
holds one x
expect 0 "" "$fob" exec --fd "3=$vault/log:rw" -- sh -c 'echo OLD >&3' # as <>: not truncated
holds log "OLD
contents"
expect 0 "" "$fob" exec --fd "3=$vault/log:a" -- sh -c 'echo end >&3'
holds log "OLD
contents
end"
expect 0 "OLD" "$fob" exec --fd "3=$vault/log:ra" -- sh -c 'head -n 1 <&3; echo last >&3'
holds log "OLD
contents
end
last"
expect 0 directory "$fob" exec --fd "3=$vault:l" -- stat -L -c %F /proc/self/fd/3
fresh

# One process: it is fob that becomes the command, with the signals as they were.
got=$(cd "$tmp/pub" && as 2001 sh -c 'echo $$; exec "$@"' sh "$fob" exec --fd "3=$vault/one" -- sh -c 'echo $$')
is "the process" "$(echo "$got" | uniq | wc -l)" 1
signals='grep -E "^(SigBlk|SigIgn|SigCgt)" /proc/self/status | grep -v SigCgt; ulimit -n'
is "signals" "$(as 2001 "$fob" exec --fd "3=$vault/one" -- sh -c "$signals")" "$(as 2001 sh -c "$signals")"
ignoring="trap '' INT PIPE; exec"
is "ignored signals" "$(as 2001 sh -c "$ignoring \"\$@\"" sh "$fob" exec --fd "3=$vault/one" -- sh -c "$signals")" \
    "$(as 2001 sh -c "$ignoring \"\$@\"" sh sh -c "$signals")"

# ---------------------------------------------------------------- descriptors

# Every number that is open in the command: those that the test was itself started with, and those asked for.
numbers='LC_ALL=C ls /proc/$$/fd; :'
inherited=$(as 2001 sh -c "$numbers" </dev/null)
opens() { # NUMBERS OPTION...
    [ -z "${LLVM_PROFILE_FILE-}" ] || return 0 # the coverage runtime has a descriptor of its own, and leaves it open
    # shellcheck disable=SC2086 # words
    want=$(printf '%s\n' $inherited $1 | LC_ALL=C sort -u)
    shift
    expect 0 "$want" "$@" -- sh -c "$numbers"
}
opens "" "$fob" exec
opens 3 "$fob" exec --fd "3=$vault/one"
opens 4 "$fob" exec --fd "4=$vault/one"
opens "5 6 7 9" "$fob" exec --fd "9=$vault/one" --fd "7=$vault/two" --fd "5=$vault/log" --fd "6=$vault/one"
opens 200 "$fob" exec --stdin "$vault/one" --fd "200=$vault/two"
# What was handed to fob itself is handed on; a number that is asked for replaces it.
opens "7 8" sh -c 'exec 7</dev/null; exec "$@"' sh "$fob" exec --fd "8=$vault/one"
expect 0 one sh -c 'exec 7</dev/null; exec "$@"' sh "$fob" exec --fd "7=$vault/one" -- sh -c "cat <&7"

# Each number its own file, whatever fob itself used these numbers for, in every order.
inodes='for fd in 3 4 5 6; do stat -L -c %i /proc/$$/fd/$fd; done | tr "\n" " "'
want="$(stat -c %i "$vault/one" "$vault/two" "$vault/log" "$vault/a" | tr '\n' ' ')"
for order in "3 4 5 6" "6 5 4 3" "4 3 6 5" "4 5 6 3" "6 3 4 5" "5 6 3 4" "3 6 4 5"; do
    set --
    for number in $order; do
        case $number in 3) name=one ;; 4) name=two ;; 5) name=log ;; *) name=a ;; esac
        set -- "$@" --fd "$number=$vault/$name"
    done
    expect 0 "$want" "$fob" exec "$@" -- sh -c "$inodes"
done
expect 0 "$(stat -c %i "$vault/one")" "$fob" exec --fd "0=$vault/one" -- stat -L -c %i /dev/stdin
expect 0 "" "$fob" exec --fd "2=$vault/log:w" -- sh -c 'echo complaint >&2'
holds log complaint

# As many as there may be, and one more.
opens 59 sh -c 'ulimit -n 60; exec "$@"' sh "$fob" exec --fd "59=$vault/one"
for number in 60 61 4000000000 18446744073709551616 99999999999999999999999; do
    expect 1 "fob: descriptor $number: over the limit, 60 descriptors (ulimit -n)" \
        sh -c 'ulimit -n 60; exec "$@"' sh "$fob" exec --fd "$number=$vault/one" -- touch run/it
done
set --
for number in 9 8 7 6 5 4; do set -- "$@" --fd "$number=$vault/one"; done
opens "4 5 6 7 8 9" sh -c 'ulimit -n 10; exec "$@"' sh "$fob" exec "$@"
expect 1 "$(printf "fob: $vault/one: Too many open files\n%.0s" 1 2 3 4 5 6 7)" \
    sh -c 'ulimit -n 10; exec "$@"' sh "$fob" exec "$@" --fd "3=$vault/one" -- touch run/it
set --
number=10
want=
while [ $number -lt 310 ]; do # more than a message holds
    set -- "$@" --fd "$number=$vault/one"
    want="$want $number"
    number=$((number + 1))
done
opens "$want" "$fob" exec "$@"

# ---------------------------------------------------------------- names

expect 0 colon "$fob" exec --fd "0=$vault/a:b" -- cat
expect 0 without "$fob" exec --fd "0=$vault/a:r" -- cat
expect 0 "colon r" "$fob" exec --fd "0=$vault/a:r:r" -- cat
expect 0 "colon r" "$fob" exec --stdin "$vault/a:r" -- cat
expect 1 "fob: $vault/one:wr: No such file or directory" "$fob" exec --fd "0=$vault/one:wr" -- cat
expect 1 "fob: ../vault/one: Invalid argument" "$fob" exec --stdin ../vault/one -- touch run/it
expect 1 "fob: : No such file or directory" "$fob" exec --stdin "" -- touch run/it
expect 1 "fob: $tmp/pub/one: Permission denied (refused by policy)" "$fob" exec --stdin one -- touch run/it
expect 1 "fob: /x\\n\\x1b[2J: Permission denied (refused by policy)" "$fob" exec --stdin "$(printf '/x\n\033[2J')" -- touch run/it

# ---------------------------------------------------------------- files that are not there

expect 0 "" sh -c 'umask 027; exec "$@"' sh "$fob" exec --stdout "$tmp/new/a" -- echo made
is "made by --stdout" "$(stat -c '%u %a' "$tmp/new/a") $(cat "$tmp/new/a")" "2001 640 made"
expect 0 "" "$fob" exec --append "$tmp/new/b" --fd "4=$tmp/new/c:w" --fd "5=$tmp/new/b:a" -- sh -c 'echo 1; echo 4 >&4; echo 5 >&5'
is "made by --append" "$(cat "$tmp/new/b")" "1
5"
is "made by :w" "$(cat "$tmp/new/c")" 4
# The right to create is not asked for where the file is there.
expect 0 "" "$fob" exec --stdout "$tmp/fixed/here" -- echo again
is "without the right to create" "$(cat "$tmp/fixed/here")" again
expect 1 "fob: $tmp/fixed/none: No such file or directory (and to create it is refused by policy)" \
    "$fob" exec --stdout "$tmp/fixed/none" -- touch run/it
expect 1 "fob: $vault/none: No such file or directory" "$fob" exec --stdin "$vault/none" -- touch run/it
expect 1 "fob: $tmp/new/dir/x: No such file or directory" "$fob" exec --stdout "$tmp/new/dir/x" -- touch run/it

# ---------------------------------------------------------------- refused: nothing is run, and nothing changed

fresh
expect 1 "fob: $vault/three: Permission denied (refused by policy)" \
    "$fob" exec --stdin "$vault/three" --stdout "$vault/log" --fd "3=$tmp/new/not-made:w" -- touch run/it
holds log "old contents"
expect 1 "fob: $vault/three: Permission denied (refused by policy)
fob: $vault/none: No such file or directory" \
    "$fob" exec --stdout "$vault/log" --fd "4=$vault/three" --fd "3=$vault/none" -- touch run/it
holds log "old contents"
expect 1 "fob: $tmp/fixed/none: No such file or directory (and to create it is refused by policy)" \
    "$fob" exec --stdout "$vault/log" --fd "3=$tmp/fixed/none:w" -- touch run/it
holds log "old contents"
is "nothing is made" "$(ls "$tmp/new")" "a
b
c"
who=2002
expect 0 one "$fob" exec --stdin "$vault/one" -- cat
expect 1 "fob: $vault/one: Permission denied (refused by policy)" "$fob" exec --stdout "$vault/one" -- touch run/it
expect 1 "fob: $vault/one: Permission denied (refused by policy)" "$fob" exec --fd "3=$vault/one:rw" -- touch run/it
expect 1 "fob: $vault/two: Permission denied (refused by policy)" "$fob" exec --fd "3=$vault/two" -- touch run/it
who=0
expect 1 "fob: $vault/one: Permission denied (refused by policy)" "$fob" exec --stdin "$vault/one" -- touch run/it
who=2001
# What is granted for reading stays so, though the file's mode says more.
chmod 0666 "$vault/one"
as 2001 "$fob" exec --fd "3=$vault/one" -- sh -c 'echo x >/proc/self/fd/3' 2>/dev/null
holds one one
is "nothing is run" "$(ls "$tmp/pub/run")" ""

# ---------------------------------------------------------------- the command's end, and that there is none

expect 7 "" "$fob" exec --fd "3=$vault/one" -- sh -c 'exit 7'
is "killed" "$(as 2001 "$fob" exec --fd "3=$vault/one" -- sh -c 'kill -TERM $$' 2>/dev/null; echo $?)" 143
expect 127 "fob: no-such-command: No such file or directory" "$fob" exec --stdin "$vault/one" -- no-such-command
expect 127 "fob: -x: No such file or directory" "$fob" exec -- -x
expect 126 "fob: /etc/passwd: Permission denied" "$fob" exec --stdin "$vault/one" -- /etc/passwd
expect 126 "fob: /tmp: Permission denied" "$fob" exec --stdin "$vault/one" -- /tmp
expect 127 "fob: no\\x1bsuch: No such file or directory" "$fob" exec --fd "2=$vault/log:a" --stdout "$vault/log" -- "$(printf 'no\033such')"
holds log ""
for wrong in "" "--" "--stdin" "--stdin x" "--nonsense x y" "-x y" "--fd x y" "--fd 3 y" "--fd =x y" "--fd -1=x y" "--fd 3x=y z" "--fd +3=y z" \
    "--stdin a --stdin b c" "--stdout a --append b c" "--fd 1=a --stdout b c" "--fd 3=a --fd 03=b c"; do
    # shellcheck disable=SC2086 # words
    (cd "$tmp/pub" && as 2001 "$fob" exec $wrong >/dev/null 2>"$tmp/err")
    code=$?
    if [ $code = 2 ] && grep -q 'usage: fob' "$tmp/err"; then ok; else bad "fob exec $wrong: exit status $code: $(cat "$tmp/err")"; fi
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
