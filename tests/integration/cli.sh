#!/bin/sh
# cli.sh: fob against a real fobd: what it prints, what it exits with, what it refuses; a policy directory; a user's own broker.
set -u
: "${BUILD:?the build folder}"
if [ "$(id -u)" != 0 ]; then
    echo "skipped: needs root (several uids)"
    exit 77
fi
passed=0 failed=0
tmp=$(mktemp -d /tmp/fob-cli.XXXXXX)
chmod 0755 "$tmp"
fobd=
finish() {
    [ -z "$fobd" ] || { kill "$fobd" && wait "$fobd"; } 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM
install -m 0755 "$BUILD/fob" "$BUILD/fobd" "$tmp/"

as() { # UID COMMAND...
    uid=$1
    shift
    setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
}
ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "$*"
}
# expect STATUS OUTPUT COMMAND...: runs it as uid 2001 in $tmp/pub; both streams together are compared
expect() {
    status=$1 want=$2
    shift 2
    got=$(cd "$tmp/pub" && as 2001 "$@" 2>&1 </dev/null)
    code=$?
    if [ "$code" = "$status" ] && [ "$got" = "$want" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s\n  exit status %s, not %s\n  said:   %s\n  wanted: %s\n' "$*" "$code" "$status" "$got" "$want"
    fi
}
wait_for() { # SOCKET
    i=0
    until "$tmp/fob" -s "$1" ping >/dev/null 2>&1 || as 2001 "$tmp/fob" -s "$1" ping >/dev/null 2>&1 || [ $i = 50 ]; do
        i=$((i + 1))
        sleep 0.1
    done
}

mkdir -m 0755 "$tmp/pub" "$tmp/policy.d" "$tmp/pub/sub"
mkdir -m 0700 "$tmp/vault"
printf 'one\n' >"$tmp/pub/one"
printf 'two\n' >"$tmp/pub/two"
printf 'kept\n' >"$tmp/vault/log"
chmod 0600 "$tmp/pub/one" "$tmp/pub/two" "$tmp/vault/log"
: >"$tmp/pub/sub/.hidden"
: >"$tmp/pub/sub/b"
: >"$tmp/pub/sub/a"
printf 'allow user:2001 read,list %s/pub %s/pub/**\n' "$tmp" "$tmp" >"$tmp/policy.d/10-read.policy"
printf 'allow user:2001 write,append,create %s/vault/*\n' "$tmp" >"$tmp/policy.d/20-write.policy"
printf 'deny any all %s/pub/two\n' "$tmp" >"$tmp/policy.d/30-deny.policy"
printf 'this is not read\n' >"$tmp/policy.d/README"
printf 'socket %s/sock\npolicy %s/policy.d\naudit file %s/audit\nuser 64999\nworkers 1\n' "$tmp" "$tmp" "$tmp" >"$tmp/conf"

fob="$tmp/fob"
expect 3 "fob: $tmp/sock: No such file or directory (is fobd running?)" "$fob" -s "$tmp/sock" ping
"$tmp/fobd" -f "$tmp/conf" 2>"$tmp/log" &
fobd=$!
wait_for "$tmp/sock"
export FOB_SOCKET="$tmp/sock"

expect 0 one "$fob" cat one
expect 0 one "$fob" cat "$tmp/pub/one"
expect 0 one "$fob" -s "$tmp/sock" cat ./one
expect 0 "one
one" "$fob" cat one one
expect 1 "fob: $tmp/pub/two: Permission denied (refused by policy)
one" "$fob" cat two one
expect 1 "fob: $tmp/pub/none: No such file or directory" "$fob" cat none
expect 1 "fob: $tmp/pub/sub: Is a directory" "$fob" cat sub
expect 1 "fob: ../vault/log: Invalid argument" "$fob" cat ../vault/log
expect 1 "fob: /x\\n\\x1b[2J: Permission denied (refused by policy)" "$fob" cat "$(printf '/x\n\033[2J')"
expect 0 ".hidden
a
b" "$fob" ls sub
expect 1 "fob: $tmp/vault: Permission denied (refused by policy)" "$fob" ls "$tmp/vault"
expect 0 "$tmp/pub/one: allowed
$tmp/pub/new: allowed" "$fob" check one new
expect 1 "$tmp/pub/one: refused" "$fob" check -w one
expect 1 "$tmp/pub/one: refused" "$fob" check -rw one
expect 0 "$tmp/vault/x: allowed" "$fob" check -c "$tmp/vault/x"
expect 0 "$tmp/pub/sub: allowed" "$fob" check -l sub
expect 0 "read,list $tmp/pub
read,list $tmp/pub/**
write,append,create $tmp/vault/*
deny read,write,append,create,list,stat $tmp/pub/two" "$fob" list
expect 0 "" sh -c "echo more | $fob write -a $tmp/vault/log"
expect 0 "" sh -c "umask 027; echo new | $fob write -c 666 $tmp/vault/new"
expect 1 "fob: $tmp/vault/none: No such file or directory" sh -c "echo x | $fob write $tmp/vault/none"
if [ "$(cat "$tmp/vault/log")" = "kept
more" ]; then ok; else bad "write -a did not append"; fi
if [ "$(stat -c '%u %a' "$tmp/vault/new")" = "2001 640" ]; then ok; else bad "$(stat "$tmp/vault/new")"; fi
expect 1 "fob: standard output: No space left on device" sh -c "$fob cat one >/dev/full"
for wrong in "" nonsense "cat" "write" "write a b" "write -c 9 x" "check" "check -x a" "ls" "ls a b" "list x" "ping x" "-x cat"; do
    # shellcheck disable=SC2086 # words
    (cd "$tmp/pub" && as 2001 "$fob" $wrong >/dev/null 2>"$tmp/err")
    code=$?
    if [ $code = 2 ] && grep -q usage "$tmp/err"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "fob $wrong: exit status $code, not 2, or no usage"
    fi
done
got=$(as 2001 "$fob" ping)
case $got in "protocol 1, policy generation 1, "*"served by pid $fobd of uid 0") ok ;; *) bad "ping: $got" ;; esac

# many files in few messages
mkdir "$tmp/pub/many"
i=0
while [ $i -lt 600 ]; do
    echo $i >"$tmp/pub/many/$i"
    i=$((i + 1))
done
# shellcheck disable=SC2046 # words
got=$(cd "$tmp/pub/many" && as 2001 "$fob" cat $(seq 0 599) | sha256sum)
if [ "$got" = "$(seq 0 599 | sha256sum)" ]; then ok; else bad "600 files differ"; fi
# more than this process may have open, and less room than half of that: the shell's descriptors are in the way
for limit in 256 16; do
    # shellcheck disable=SC2046 # words
    got=$(
        # shellcheck disable=SC3045 # both dash and bash have it
        ulimit -n $limit
        exec 3</dev/null 4<&3 5<&3 6<&3 7<&3 8<&3 9<&3
        cd "$tmp/pub/many" && as 2001 "$fob" cat $(seq 0 599) 2>&1 | sha256sum
    )
    if [ "$got" = "$(seq 0 599 | sha256sum)" ]; then ok; else bad "600 files with $limit descriptors differ"; fi
done
# in order, whatever becomes of each; some are read by hand, some go through sendfile(2)
seq 100000 >"$tmp/pub/many/large"
got=$(cd "$tmp/pub/many" && as 2001 "$fob" cat 0 ../x 1 none 2 "" large /proc/version 3 2>&1 | sha256sum)
want=$({
    printf '0\nfob: ../x: Invalid argument\n1\nfob: %s: No such file or directory\n2\n' "$tmp/pub/many/none"
    printf 'fob: : No such file or directory\n'
    seq 100000
    printf 'fob: /proc/version: Permission denied (refused by policy)\n3\n'
} | sha256sum)
if [ "$got" = "$want" ]; then ok; else bad "what is said and what is printed is not in order"; fi
kill "$fobd" && wait "$fobd"
fobd=

# A user's own broker: directories are sealed in a user namespace, or refused.
printf 'allow user:2001 read,list %s/own/**\n' "$tmp" >"$tmp/own.policy"
mkdir -m 0700 "$tmp/own" "$tmp/own/d" "$tmp/run"
printf 'mine\n' >"$tmp/own/f"
: >"$tmp/own/d/x"
chown -R 2001:2001 "$tmp/own" "$tmp/own.policy" "$tmp/run"
setpriv --reuid 2001 --regid 2001 --clear-groups -- "$tmp/fobd" -p "$tmp/own.policy" -s "$tmp/run/sock" 2>"$tmp/own.log" &
fobd=$!
export FOB_SOCKET="$tmp/run/sock"
wait_for "$FOB_SOCKET"
expect 0 mine "$fob" cat "$tmp/own/f"
if grep -q 'not in force: sealed-mounts' "$tmp/own.log"; then
    expect 1 "fob: $tmp/own/d: Permission denied (refused by policy)" "$fob" ls "$tmp/own/d"
else
    expect 0 x "$fob" ls "$tmp/own/d"
fi
kill "$fobd"
wait "$fobd"
status=$?
fobd=
if [ $status = 0 ] && [ ! -e "$FOB_SOCKET" ]; then ok; else bad "own broker: status $status"; fi

# Policy files that cannot be trusted, each named, all at once.
ln -s 10-read.policy "$tmp/policy.d/40-link.policy"
mkfifo "$tmp/policy.d/50-fifo.policy"
printf 'allow any read /x\n' >"$tmp/policy.d/60-open.policy"
chmod 0666 "$tmp/policy.d/60-open.policy"
chown 2001 "$tmp/policy.d/20-write.policy"
got=$("$tmp/fobd" -t -f "$tmp/conf" 2>&1)
code=$?
for part in "40-link.policy: is a symlink" "50-fifo.policy: is not a regular file" "60-open.policy: others can write it (chmod go-w)" \
    "20-write.policy: belongs to uid 2001"; do
    case $got in *"$part"*) ok ;; *) bad "fobd -t does not say: $part" ;; esac
done
if [ $code = 1 ]; then ok; else bad "fobd -t: exit status $code"; fi
chmod 0777 "$tmp/policy.d"
got=$("$tmp/fobd" -t -f "$tmp/conf" 2>&1)
case $got in *"policy.d: others can write it"*) ok ;; *) bad "$got" ;; esac

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
