#!/bin/sh
# demo.sh: a real fobd on a socket of its own with a policy of its own, at work for a moment, and gone without a trace.
# As root: two unprivileged users ask for root's files. As anybody else: that user's own broker. Fails when anything is
# not as it says.
set -eu

: "${BUILD:?the build folder}"
umask 022
dir=$(mktemp -d "${TMPDIR:-/tmp}/fob-demo.XXXXXX")
dir=$(cd "$dir" && pwd -P) # the policy speaks of real paths
socket=$dir/fob.sock
fobd=
if [ "$(id -u)" = 0 ]; then privileged=yes; else privileged=no; fi

finish() {
    if [ -n "$fobd" ]; then
        kill -TERM "$fobd" 2>/dev/null || true
        wait "$fobd" 2>/dev/null || true
    fi
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

say() { printf '%s\n' "$*"; }
step() { printf '\n%s\n' "$*"; }
show() { sed 's/^/    /' "$@"; }
broken() {
    printf 'demo: %s\n' "$*" >&2
    if [ -s "$dir/fobd.log" ]; then
        say "fobd said:" >&2
        cat "$dir/fobd.log" >&2
    fi
    exit 1
}

# as UID COMMAND...: as that user, without any group or privilege; without root everything is done as oneself
as() {
    uid=$1
    shift
    if [ $privileged = yes ]; then
        setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
    else
        "$@"
    fi
}

prepare() {
    chmod 0711 "$dir"
    # Others cannot look into, say, /root: they get a copy of the client where they can reach it.
    install -m 0755 "$BUILD/fob" "$dir/fob"
    mkdir -m 0700 "$dir/vault"
    echo "the quarterly figures: 12, 15, 9, 21" >"$dir/vault/report.txt"
    echo "the combination of the safe: 27-3-41" >"$dir/vault/safe.txt"
    chmod 0600 "$dir"/vault/*
    if [ $privileged = yes ]; then reader=2001 other=2002; else reader=$(id -u) other=$(id -u); fi
    cat >"$dir/demo.policy" <<POLICY
# Who may open what. Everything else is refused.
allow user:$reader  read  $dir/vault/report.txt
POLICY
    cat >"$dir/fobd.conf" <<CONFIG
socket $socket
policy $dir/demo.policy
audit  file $dir/audit.json
$([ $privileged = no ] || echo "user   64999")
CONFIG
}

start() {
    "$BUILD/fobd" -f "$dir/fobd.conf" >"$dir/fobd.log" 2>&1 </dev/null &
    fobd=$!
    tries=0
    until [ -S "$socket" ] && "$dir/fob" -s "$socket" ping >/dev/null 2>&1; do
        kill -0 "$fobd" 2>/dev/null || broken "fobd did not start"
        tries=$((tries + 1))
        [ $tries -lt 100 ] || broken "fobd serves nobody after 10 seconds"
        sleep 0.1
    done
}

# ask UID FILE: runs `fob cat`, shows what it prints; its exit status is left in $status
ask() {
    say "    \$ fob cat $2          (as uid $1)"
    status=0
    as "$1" "$dir/fob" -s "$socket" cat "$2" >"$dir/answer" 2>&1 </dev/null || status=$?
    show "$dir/answer"
}
must_be_given() { # UID FILE
    ask "$1" "$2"
    [ "$status" = 0 ] || broken "uid $1 should have been given $2"
    cmp -s "$2" "$dir/answer" || broken "what uid $1 read is not what stands in $2"
}
must_be_refused() { # UID FILE
    ask "$1" "$2"
    [ "$status" = 1 ] || broken "uid $1 should have been refused $2 with exit status 1, not $status"
    grep -q 'refused by policy' "$dir/answer" || broken "the refusal does not say its reason"
    if grep -qF "$(cat "$2")" "$dir/answer"; then broken "the file's content came with the refusal"; fi
}

field() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" 2>/dev/null | tr '\t' ' '; }
# The worker is the child of fobd that runs under seccomp and is not the sealer (CAP_SYS_ADMIN alone, reads no client).
find_worker() {
    for pid in $(children_of "$fobd"); do
        if [ "$(field "$pid" Seccomp)" = 2 ] && [ "$(field "$pid" CapEff)" != 0000000000200000 ]; then
            echo "$pid"
            return
        fi
    done
}
show_confinement() {
    worker=$(find_worker)
    [ -n "$worker" ] || broken "no confined worker was found"
    grep -E '^(Uid|Gid|Groups|CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$worker/status" | show
    [ "$(field "$worker" NoNewPrivs)" = 1 ] || broken "the worker could gain privileges"
    if [ $privileged = yes ]; then
        [ "$(field "$worker" Uid)" = "64999 64999 64999 64999" ] || broken "the worker has not the uid of the config"
        [ "$(field "$worker" CapEff)" = 0000000000000004 ] || broken "the worker has other capabilities than one"
        say "    That is: a uid of its own, one capability (4 = CAP_DAC_READ_SEARCH: this policy only reads),"
        say "    nothing to be gained by exec, and a list of system calls beyond which it is killed."
    else
        [ "$(field "$worker" CapEff)" = 0000000000000000 ] || broken "the worker has capabilities"
        say "    That is: no capability, nothing to be gained by exec, and a list of system calls beyond which"
        say "    it is killed."
    fi
}

# audit_line DECISION UID PATH: the record must stand in the audit, once. It is written after the reply: wait for it.
audit_line() {
    tries=0
    while :; do
        line=$(grep -F "\"path\":\"$3\"" "$dir/audit.json" | grep -F "\"uid\":$2," | grep -F "\"decision\":\"$1\"" || true)
        if [ -n "$line" ] || [ $tries -ge 20 ]; then break; fi
        tries=$((tries + 1))
        sleep 0.1
    done
    [ "$(printf '%s' "$line" | grep -c '^{.*}$')" = 1 ] || broken "not one audit record: $1, uid $2, $3"
    printf '%s\n' "$line" | show
}

children_of() {
    for status_file in /proc/[0-9]*/status; do
        pid=${status_file#/proc/}
        pid=${pid%/status}
        [ "$(field "$pid" PPid)" != "$1" ] || echo "$pid"
    done
}
stop() {
    children=$(children_of "$fobd")
    [ -n "$children" ] || broken "fobd has no children: what served the requests?"
    kill -TERM "$fobd"
    status=0
    wait "$fobd" || status=$?
    fobd=
    [ "$status" = 0 ] || broken "fobd ended with status $status"
    [ ! -e "$socket" ] || broken "fobd left its socket behind"
    for pid in $children; do
        [ ! -e "/proc/$pid" ] || broken "a process of fobd's ($pid) lives on"
    done
}

prepare
if [ $privileged = yes ]; then
    say "fob opens files for those who may not open them themselves, as far as a policy says."
    step "1. Two files of root's. Nobody else can open them:"
else
    say "You are not root, so this is your own broker: for programs of yours that are locked up in a sandbox."
    step "1. Two files of yours:"
fi
find "$dir/vault" -type f -printf '%M %u  %p\n' | sort | show
if [ $privileged = yes ] && as "$reader" cat "$dir/vault/report.txt" >/dev/null 2>&1; then
    broken "uid $reader can open the file without fob: this shows nothing"
fi

step "2. The policy, and the broker that keeps it:"
show "$dir/demo.policy"
say "    \$ fobd -f $dir/fobd.conf"
start

step "3. The policy names uid $reader and the report, so the broker opens it and passes the open file on:"
must_be_given "$reader" "$dir/vault/report.txt"

step "4. It says nothing of the safe:"
must_be_refused "$reader" "$dir/vault/safe.txt"
if [ $privileged = yes ]; then
    step "5. And nothing of uid $other, whom the kernel names, whatever the client says:"
    must_be_refused "$other" "$dir/vault/report.txt"
fi

step "What opens the files is shut in itself, since before it read its first byte (/proc/PID/status):"
show_confinement

step "Every decision was written down, allowed or refused, with the rule that made it:"
audit_line allowed "$reader" "$dir/vault/report.txt"
audit_line refused "$reader" "$dir/vault/safe.txt"
[ $privileged = no ] || audit_line refused "$other" "$dir/vault/report.txt"

stop
rm -rf "$dir"
[ ! -e "$dir" ] || broken "$dir is still there"
step "fobd was asked to stop and did: no process, no socket and no file of this demo is left."
