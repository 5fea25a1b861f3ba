#!/bin/sh
# fobctl.sh: fobctl as a program: what it prints, what it exits with, alone and against a real fobd; hostile names.
# What needs no broker is run as an ordinary user on files of that user's, and as root; the rest needs root.
# shellcheck disable=SC2016 # messages have backquotes
set -u
: "${BUILD:?the build folder}"
passed=0 failed=0
umask 022
tmp=$(mktemp -d /tmp/fob-fobctl.XXXXXX)
chmod 0755 "$tmp"
fobd='' watch='' me=$(id -u)
finish() {
    [ -z "$watch" ] || kill "$watch" 2>/dev/null
    [ -z "$fobd" ] || { kill "$fobd" && wait "$fobd"; } 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM
install -m 0755 "$BUILD/fobctl" "$BUILD/fob" "$BUILD/fobd" "$tmp/"
fobctl=$tmp/fobctl
unset FOB_CONTROL FOB_SOCKET
escape=$(printf '\033') newline='
'

as() { # UID COMMAND...
    uid=$1
    shift
    if [ "$uid" = "$me" ]; then "$@"; else setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"; fi
}
bad() {
    failed=$((failed + 1))
    printf '%s\n' "$*"
    printf '  exit status %s, standard output:\n%s\n  standard error:\n%s\n' "$code" "$out" "$err"
}
check() { # NAME CONDITION...
    name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else bad "$name: not so: $*"; fi
}
# ends STATUS COMMAND...: runs it as $user; its output is in $out and $err, and has no byte that a terminal obeys
ends() {
    want=$1 line=$*
    shift
    out=$(as "$user" "$@" 2>"$tmp/err" </dev/null)
    code=$?
    err=$(cat "$tmp/err")
    if [ "$code" = "$want" ]; then passed=$((passed + 1)); else bad "$line"; fi
    odd=$(printf '%s%s' "$out" "$err" | LC_ALL=C tr -d '\n\40-\176' | wc -c)
    check "$line: printable" [ "$odd" = 0 ]
}
has() { # TEXT PART...
    text=$1
    shift
    for part; do
        case $text in *"$part"*) passed=$((passed + 1)) ;; *) bad "$line: does not say: $part" ;; esac
    done
}
says() { has "$out" "$@"; }   # standard output
errs() { has "$err" "$@"; }   # standard error
lacks() { # PART: of standard output
    case $out in *"$1"*) bad "$line: says: $1" ;; *) passed=$((passed + 1)) ;; esac
}
is() { check "$line" [ "$out" = "$1" ]; } # the whole standard output
silent() { check "$line: silent" [ -z "$out$err" ]; }
write() { # FILE, its text on standard input
    cat >"$1"
    chown "$user" "$1" 2>/dev/null
    chmod 0644 "$1"
}

# ---------------------------------------------------------------- what needs no broker

usage() {
    p=$dir/a.policy
    for wrong in "" "nonsense" "-x" "-s" "--nonsense" "check -x" "check $p $p" "check -p" "explain" "explain any read" \
        "explain any read /x /y" "explain -x any read /x" "explain -p" "print $p" "print -x" "print -p" "test" \
        "test -p $p" "test -x $p" "test -p" "diff" "diff $p $p" "diff -x $p" "diff -p" "suggest" "suggest --nonsense x" \
        "suggest --ceiling" "status x" "status --nonsense" "status -x" "status --json x" "watch x" "watch --user" \
        "watch --nonsense" "watch --user no-such-user-here" "reload x" "reload --nonsense" "edit" "edit $p $p"; do
        # shellcheck disable=SC2086 # words
        ends 2 "$fobctl" $wrong
        check "fobctl $wrong: nothing on standard output" [ -z "$out" ]
        check "fobctl $wrong: says what is wrong" [ -n "$err" ]
    done
    ends 2 "$fobctl" "$(printf 'x\033[2J\n')"
    errs '\x1b[2J'
    ends 2 "$fobctl" watch --user "$(printf 'x\033[2J')"
    errs '\x1b[2J'
    ends 2 "$fobctl" "-$escape"
    ends 2 "$fobctl" status "--x$escape"
    ends 2 "$fobctl" check "-$escape"
    ends 2 "$fobctl" suggest "--x$escape"
    ends 0 "$fobctl" -h
    says "usage: fobctl [-s CONTROL-SOCKET] COMMAND" explain reload watch "exit status: 0 yes"
}

no_broker() {
    for command in status "status --json" "status --openmetrics" watch reload "explain any read /x"; do
        # shellcheck disable=SC2086 # words
        ends 3 "$fobctl" -s "$dir/nobody" $command
        errs "fobctl: $dir/nobody: no broker runs there"
        # shellcheck disable=SC2086 # words
        ends 3 env FOB_CONTROL="$dir/a.policy" "$fobctl" $command # no socket
        errs "fobctl: $dir/a.policy: no broker runs there"
    done
    ends 3 "$fobctl" -s "$dir/$(printf '%0200d' 0)" status
    errs "File name too long"
    ends 3 "$fobctl" -s "$dir/x$escape" status
    errs 'x\x1b: no broker'
}

check_command() {
    ends 0 "$fobctl" check "$dir/a.policy"
    silent
    ends 0 "$fobctl" check -p "$dir/a.policy"
    silent
    ends 4 "$fobctl" check "$dir/none"
    errs "$dir/none: No such file or directory"
    printf 'alow any read /x\nallow user:no-such-user-here read /x\nallow any read relative\n' | write "$dir/bad.policy"
    ends 4 "$fobctl" check "$dir/bad.policy"
    is ""
    errs "$dir/bad.policy:1:1: " 'did you mean `allow`?' "$dir/bad.policy:2:" '`no-such-user-here`' "$dir/bad.policy:3:"
    printf 'allow any read /srv/a/** as=caller\nassert allow user:2001 read /srv/b\n' | write "$dir/false.policy"
    ends 4 "$fobctl" check "$dir/false.policy"
    errs "false.policy:2:" "assertion does not hold: refused, as no rule allows it"
    printf 'allow any read /srv/a/**\nallow any read /srv/a/b\n' | write "$dir/warning.policy"
    ends 0 "$fobctl" check "$dir/warning.policy"
    says "warning.policy:2:1: warning: "
    check "$line: no errors" [ -z "$err" ]
    chmod 0666 "$dir/warning.policy"
    ends 4 "$fobctl" check "$dir/warning.policy"
    errs "others can write it"
    mkdir "$dir/empty"
    ends 0 "$fobctl" check "$dir/empty"
    rm "$dir/bad.policy" "$dir/false.policy" "$dir/warning.policy"
}

print_command() {
    mkdir "$dir/d"
    chown "$user" "$dir/d" 2>/dev/null
    write "$dir/d/10-a.policy" <<'END'
set @them = user:root group:2900
set @places = /srv/a /srv/{b,c}/**
allow @them read,write,create "/srv/x y/*" @places mode=0640 until=2036-12-31T18:00Z log=refused id=them
allow any \
  read,list "/srv/\x1b\n\"q\"" links=any seal=no type=file,fifo
allow @them+group:2901 all /srv/\[x\]/[!a-c]?/%u as=caller
deny user:2001 all /srv/%%
assert deny user:2001 read /srv/%
END
    printf 'allow any list /srv/late as=user:daemon\n' | write "$dir/d/20-b.policy"
    ends 0 "$fobctl" print -p "$dir/d"
    says "  # 10-a.policy:3$newline" "  # 10-a.policy:4$newline" "  # 20-b.policy:1" "id=them"
    lacks "@"
    printf '%s\n' "$out" | write "$dir/again.policy"
    printf '%s\n' "$out" | sed 's/  # [^ ]*:[0-9]*$//' >"$tmp/once"
    ends 0 "$fobctl" print -p "$dir/again.policy"
    printf '%s\n' "$out" | sed 's/  # [^ ]*:[0-9]*$//' >"$tmp/twice"
    check "print: again the same" cmp "$tmp/once" "$tmp/twice"
    ends 0 "$fobctl" diff -p "$dir/d" "$dir/again.policy"
    ends 4 "$fobctl" print -p "$dir/none"
    # more subjects than anybody writes down
    {
        printf 'set @a =' && seq -f ' user:%.0f' 3000000000 3000000199 | tr -d '\n' && echo
        printf 'set @b =' && seq -f ' group:%.0f' 3000000000 3000000199 | tr -d '\n' && echo
        echo 'allow @a+@b read /srv/a'
    } | write "$dir/d/30-$escape.policy"
    ends 1 "$fobctl" print -p "$dir/d"
    errs "too many subjects"
    rm -r "$dir/d" "$dir/again.policy"
}

test_command() {
    printf 'set @f = /srv/a\nassert allow user:2001 read /srv/a/x\nassert deny user:2001 write /srv/a/x\n' |
        write "$dir/good.test"
    printf 'assert deny user:2001 read /srv/a/x\nassert allow user:2001 read /srv/a/y\n' | write "$dir/false.test"
    printf 'assert allow user:2001 read\n' | write "$dir/broken.test"
    printf 'allow user:2001 read /srv/b\nassert allow user:2001 read /srv/b\n' | write "$dir/rules.test"
    ends 0 "$fobctl" test -p "$dir/a.policy" "$dir/good.test"
    is "2 passed, 0 failed"
    check "$line: no more" [ -z "$err" ]
    ends 1 "$fobctl" test -p "$dir/a.policy" "$dir/good.test" "$dir/false.test"
    is "3 passed, 1 failed"
    errs "$dir/false.test:1:" "assertion does not hold: allowed by a.policy:1: allow user:2001 "
    ends 4 "$fobctl" test -p "$dir/a.policy" "$dir/broken.test" "$dir/good.test"
    says "2 passed, "
    errs "$dir/broken.test:1:"
    ends 4 "$fobctl" test -p "$dir/a.policy" "$dir/rules.test"
    errs "$dir/rules.test:1:"
    ends 4 "$fobctl" test -p "$dir/a.policy" "$dir/none.test"
    errs "$dir/none.test: No such file or directory"
    ends 4 "$fobctl" test -p "$dir/none.policy" "$dir/good.test"
    errs "$dir/none.policy: No such file or directory"
    ends 1 "$fobctl" test -p "$dir/empty" "$dir/good.test"
    is "1 passed, 1 failed"
    rm "$dir"/*.test
}

diff_command() {
    printf 'allow user:2001 read,list /srv/a/**\n' | write "$dir/less.policy"
    printf 'allow\n' | write "$dir/bad.policy"
    ends 0 "$fobctl" diff -p "$dir/a.policy" "$dir/a.policy"
    silent
    ends 1 "$fobctl" diff -p "$dir/a.policy" "$dir/less.policy"
    check "$line: says who" [ -n "$out" ]
    ends 4 "$fobctl" diff -p "$dir/a.policy" "$dir/bad.policy"
    ends 4 "$fobctl" diff -p "$dir/bad.policy" "$dir/a.policy"
    ends 4 "$fobctl" diff -p "$dir/none" "$dir/a.policy"
    rm "$dir/less.policy" "$dir/bad.policy"
}

explains() { # STATUS SUBJECT RIGHTS PATH
    status=$1
    shift
    ends "$status" "$fobctl" explain -p "$dir/e.policy" "$@"
}
explain_file() {
    {
        echo 'allow user:2001 read,list,create /srv/a/** mode=0640 as=caller links=any id=mine'
        echo 'allow any read /srv/a/b'
        echo 'deny group:2900 all /srv/a/b id=keep-out'
        echo 'allow user:2002 read /srv/old until=2020-01-01T00:00Z'
    } | write "$dir/e.policy"
    explains 0 user:2001 read /srv/a/b
    says "allowed by e.policy:1 (mine): allow user:2001 read,list,create /srv/a/** mode=0640 as=caller links=any id=mine" \
        "${newline}    as=caller type=file,dir mode=0640 links=any seal=yes log=all$newline" \
        "also matched:$newline    e.policy:2: allow any read /srv/a/b" "asked by: uid 2001"
    explains 1 user:2001+group:2900 read /srv/a/b
    says "refused by e.policy:3 (keep-out): deny group:2900 all /srv/a/b id=keep-out" "e.policy:1 (mine): " "e.policy:2: "
    explains 1 user:2003 read /srv/a/c
    says "refused: no rule allows it" "nearest:$newline    e.policy:1 (mine): allow user:2001 " "but the subject is not who it is for"
    lacks "also matched"
    explains 1 user:2001 write /srv/a/c
    says "nearest:$newline    e.policy:1 " "but it does not give the right write"
    explains 1 user:2001 read,write,append /srv/a/c
    says "but it does not give the right write,append"
    explains 1 user:2001 create /srv/b
    says "nearest:$newline    e.policy:1 " "but the path does not match"
    explains 1 user:2002 read /srv/old
    says "nearest:$newline    e.policy:4: " "but it has ended (until=)"
    explains 1 any write /etc/passwd
    says "refused: no rule allows it" "asked by: a user whom no rule names"
    explains 2 user:no-such-user-here read /srv/a
    errs 'unknown user `no-such-user-here`'
    explains 2 group:no-such-group-here read /srv/a
    explains 2 nonsense read /srv/a
    explains 2 "" read /srv/a
    explains 2 user:2001 reed /srv/a
    errs '`reed`: no rights'
    explains 2 user:2001 "" /srv/a
    for path in a ./a /a/../b /a//b; do
        explains 2 user:2001 read "$path"
        errs "\`$path\`: not an absolute path"
    done
    ends 4 "$fobctl" explain -p "$dir/none" any read /srv/a
    # bytes that a terminal obeys, wherever they can stand
    explains 1 user:2001 read "$(printf '/srv/\033]0;x\007\n\377')"
    explains 2 user:2001 "$(printf 'read\033[2J')" /srv/a
    errs '`read\x1b[2J`: no rights'
    explains 2 user:2001 read "$(printf 'a\033[2J')"
    errs '`a\x1b[2J`: not an absolute path'
    explains 2 "$(printf 'user:\033[2J\377')" read /srv/a
    rm "$dir/e.policy"
}

hostile_names() {
    mkdir "$dir/h"
    chown "$user" "$dir/h" 2>/dev/null
    file="$dir/h/$(printf '10-\033[2J\n"\\\377\302\233').policy"
    printf 'allow user:2001 read /srv/a/** # \303\251\nallow user:2001 read /srv/a/b\n' | write "$file"
    ends 0 "$fobctl" check "$dir/h"
    says '10-\x1b[2J\n"\\\xff\xc2\x9b.policy:2:1: warning: '
    ends 0 "$fobctl" check "$file"
    ends 0 "$fobctl" print -p "$dir/h"
    ends 0 "$fobctl" explain -p "$dir/h" user:2001 read /srv/a/b
    says '10-\x1b[2J\n"\\\xff\xc2\x9b.policy:1: '
    ends 0 "$fobctl" diff -p "$dir/h" "$file"
    printf 'assert deny user:2001 read /srv/a/b\nassert "\033" \377\n' | write "$dir/$escape.test"
    ends 4 "$fobctl" test -p "$dir/h" "$dir/$escape.test"
    printf 'assert deny user:2001 read /srv/a/b\n' | write "$dir/$escape.test"
    ends 1 "$fobctl" test -p "$dir/h" "$dir/$escape.test"
    errs '\x1b.test:1:' 'allowed by 10-\x1b[2J'
    printf 'alow \033[2J\377 \001\nallow "\033" read /x\nallow user:2001 read /srv/\033[2J\n' | write "$file"
    ends 4 "$fobctl" check "$dir/h"
    errs '10-\x1b[2J\n"\\\xff\xc2\x9b.policy:1:' 'alow \x1b[2J\xff \x01'
    ends 4 "$fobctl" diff -p "$dir/h" "$dir/a.policy"
    ends 4 "$fobctl" check "$dir/h/none$escape"
    rm -r "$dir/h" "$dir/$escape.test"
}

alone() { # UID
    user=$1 dir=$tmp/files-$1
    mkdir "$dir"
    chown "$user" "$dir" 2>/dev/null
    printf 'allow user:2001 read,list /srv/a/**\nallow user:2001 write /srv/b\n' | write "$dir/a.policy"
    usage
    no_broker
    check_command
    print_command
    test_command
    diff_command
    explain_file
    hostile_names
}

alone "$me"
if [ "$me" != 0 ]; then
    echo "skipped: the rest needs root (several uids)"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
    exit
fi
alone 2001
user=2001
ends 0 "$fobctl" print -p "$tmp/files-0/a.policy" # root's are trusted
user=0
ends 4 "$fobctl" check "$tmp/files-2001/a.policy"
errs "a.policy: belongs to uid 2001"

# ---------------------------------------------------------------- against a broker

mkdir -m 0755 "$tmp/pub" "$tmp/policy.d"
printf 'one\n' >"$tmp/pub/one"
hostile=$(printf '20-\033[2J\n"\\\377').policy
shown='20-\x1b[2J\n"\\\xff.policy'
printf 'allow user:2001 read,list %s/pub/**\n' "$tmp" >"$tmp/policy.d/10-a.policy"
printf 'deny user:2001 read %s/pub/two id=keep-out\n' "$tmp" >"$tmp/policy.d/$hostile"
printf 'socket %s/sock\npolicy %s/policy.d\naudit none\nuser 64999\nworkers 1\n' "$tmp" "$tmp" >"$tmp/conf"
export FOB_CONTROL="$tmp/sock.control"
export FOB_SOCKET="$tmp/sock"

"$tmp/fobd" -f "$tmp/conf" 2>"$tmp/log" &
fobd=$!
wait_for() { # COMMAND...: until it succeeds, five seconds at most
    i=0
    until "$@" >/dev/null 2>&1 || [ $i = 100 ]; do
        i=$((i + 1))
        sleep 0.05
    done
}
wait_for "$tmp/fob" ping
cat_as_2001() { as 2001 "$tmp/fob" cat "$@" >/dev/null 2>&1; }

cat_as_2001 "$tmp/pub/one" "$tmp/pub/two" "$tmp/none"
ends 0 "$fobctl" status
says "fobd: up " "policy $tmp/policy.d: 2 rules" "decisions: 1 allowed, 2 refused, 0 allowed but failed" \
    "  10-a.policy:1$newline" "  $shown:1 keep-out" "(default: no rule)" "worker 0 " "seccomp filter"
ends 0 "$fobctl" status --json
says '"rule":"10-a.policy:1"' '"rule":"20-\u001b[2J\n\"\\\u00ff.policy:1","id":"keep-out","hits":1,' '"refused":2,'
ends 0 "$fobctl" -s "$tmp/sock.control" status --openmetrics
says 'fob_decisions_total{decision="refused"} 2' "# EOF"
ends 1 sh -c "$fobctl status >/dev/full"
errs "fobctl: standard output: No space left on device"

ends 0 "$fobctl" explain user:2001 read "$tmp/pub/one"
says "allowed by 10-a.policy:1: "
ends 1 "$fobctl" explain user:2001 read "$tmp/pub/two"
says "refused by $shown:1 (keep-out): deny " "also matched:"
ends 1 "$fobctl" explain user:2001 read "$(printf '/\033[2J')"
ends 2 "$fobctl" explain user:2001 read two
errs '`two`: not an absolute path'
ends 2 "$fobctl" explain "$(printf 'user:\033')" read /x
ends 2 "$fobctl" explain user:2001 read "/$(printf '%020000d' 0)"
errs "Argument list too long"

# ---- who may

user=2001
for command in status watch reload "explain any read /x"; do
    # shellcheck disable=SC2086 # words
    ends 1 "$fobctl" $command
    errs "fobctl: $tmp/sock.control: Permission denied (the control socket is for root, or the control-group"
done
chmod 0666 "$tmp/sock.control"
for command in status "status --json" watch reload "explain any read /x"; do
    # shellcheck disable=SC2086 # words
    ends 1 "$fobctl" $command
    errs "fobd: Permission denied (root, or the control-group of fobd.conf(5))"
    is ""
done
chmod 0600 "$tmp/sock.control"
user=0

# ---- watch

# watching OPTION...: into $tmp/watched, until told(); an open that is told says that it has begun
watching() {
    : >"$tmp/watched"
    "$fobctl" watch "$@" >"$tmp/watched" 2>"$tmp/err" &
    watch=$!
    i=0
    until [ -s "$tmp/watched" ] || [ $i = 100 ]; do
        cat_as_2001 "$tmp/begin"
        i=$((i + 1))
        sleep 0.05
    done
}
# told PART...: these come within a second
told() {
    line="watch: $*"
    for part; do
        wait_for grep -qF -- "$part" "$tmp/watched"
        out=$(cat "$tmp/watched")
        says "$part"
    done
    odd=$(LC_ALL=C tr -d '\n\40-\176' <"$tmp/watched" | wc -c)
    check "$line: printable" [ "$odd" = 0 ]
}
stop_watching() {
    : >"$tmp/watched"
    kill "$watch"
    wait "$watch" 2>/dev/null
    watch=
}
evil=$(printf '/x\n2026-01-01 allowed\033[2J\377')

watching
cat_as_2001 "$tmp/pub/one" "$tmp/pub/two" "$evil"
told " allowed uid=2001 pid=" " open read $tmp/pub/one by 10-a.policy:1 " " refused uid=2001 pid=" \
    " open read $tmp/pub/two by $shown:1 EACCES " ' open read /x\n2026-01-01 allowed\x1b[2J\xff by default EACCES '
stop_watching
watching --json
cat_as_2001 "$tmp/pub/one" "$evil"
told '"decision":"allowed",' '"path":"/x\n2026-01-01 allowed\u001b[2J\u00ff"'
stop_watching
watching --refused --user 2001
cat_as_2001 "$tmp/pub/one" "$tmp/pub/two"
told "$tmp/pub/two by $shown:1 EACCES"
lacks " allowed uid"
"$tmp/fob" cat "$tmp/root-was-here" >/dev/null 2>&1
cat_as_2001 "$tmp/the-end"
told "$tmp/the-end"
lacks root-was-here
stop_watching
watching --user 2001
kill -STOP "$fobd" # the broker goes: watch ends, and says so
kill -KILL "$fobd"
wait "$fobd" 2>/dev/null
wait "$watch"
code=$? err=$(cat "$tmp/err") watch='' line="watch, broker killed"
check "$line" [ "$code" = 3 ]
errs "$tmp/sock.control: the broker ended the connection"
ends 3 "$fobctl" status
errs "no broker runs there"
"$tmp/fobd" -f "$tmp/conf" 2>"$tmp/log" &
fobd=$!
wait_for "$tmp/fob" ping

# ---- reload

ends 0 "$fobctl" reload
is "generation 2 is in force: 2 rules"
printf 'alow \033[2J\377\n' >"$tmp/policy.d/30-b.policy"
ends 4 "$fobctl" reload
is ""
errs "30-b.policy:1:6: control character" 'alow \x1b[2J\xff' "not reloaded: the policy is not fit: see above: generation 2 goes on"
printf 'assert allow user:2001 read %s/pub/two\n' "$tmp" >"$tmp/policy.d/30-b.policy"
ends 4 "$fobctl" reload
errs "assertion does not hold: refused by $shown:1: deny user:2001 "
ends 1 "$fobctl" explain user:2001 read "$tmp/pub/two" # the old one
rm "$tmp/policy.d/$hostile"
ends 0 "$fobctl" reload
is "generation 3 is in force: 1 rules"
ends 0 "$fobctl" explain user:2001 read "$tmp/pub/two"
ends 0 "$fobctl" status
says "generation 3 of " "reloads: 2 done, 2 failed"
line="fobd's end" out='' err=''
kill "$fobd" && wait "$fobd"
code=$? fobd=
check "$line" [ "$code" = 0 ]
check "$line: the control socket is gone" [ ! -e "$tmp/sock.control" ]

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
