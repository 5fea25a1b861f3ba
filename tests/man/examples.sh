#!/bin/sh
# examples.sh: runs every example of the manual. A literal block stands behind a line `.\" test: KIND NAME`:
#   policy   loads, its assertions hold          config   is read by fobd -n
#   shell    runs without an error               session  prints what it says ($ lines are typed)
#   admin    the same, with a broker of its own: `root# ` and `daemon$ ` say who types
#   libfob, raw   C, compiled and run against a broker     bytes   are what a client sends
#   none     no example (the grammar)
# Then what the pages say and no example shows.
set -u
umask 022
: "${BUILD:?the build folder}"
root=$(pwd)
tmp=/tmp/t
passed=0 failed=0
if [ "$(id -u)" != 0 ]; then
    echo "skipped: needs root (other users, and a directory of that name)"
    exit 77
fi
[ ! -e $tmp ] || { echo "skipped: $tmp exists"; exit 77; }
command -v setpriv >/dev/null || { echo "skipped: no setpriv (util-linux)"; exit 77; }
mkdir -m 0755 $tmp
fobd='' admin=''
finish() {
    [ -z "$admin" ] || { kill "$admin" && wait "$admin"; } 2>/dev/null
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
wait_for() { # COMMAND...
    i=0
    until "$@" >/dev/null 2>&1 || [ $i = 50 ]; do
        i=$((i + 1))
        sleep 0.1
    done
}
"$BUILD/fobd" -f $tmp/test.conf -p $tmp/test.policy -s $tmp/sock >$tmp/fobd.log 2>&1 &
fobd=$!
export FOB_SOCKET=$tmp/sock
wait_for "$BUILD/fob" ping

compile() { # BLOCK PROGRAM ARGUMENTS...
    src=$1 program=$2
    shift 2
    tail -n +2 "$src" >"$program.c"
    # shellcheck disable=SC2086 # nothing, or flags
    ${CC:-cc} ${FOB_SANITIZE:+-fsanitize=address,undefined} -D_GNU_SOURCE -Wall -Wextra -Werror -I "$root/client" -o "$program" "$program.c" "$@" >$tmp/out 2>&1
}
as_daemon() {
    setpriv --reuid daemon --regid daemon --clear-groups -- "$@"
}
run_line() { # What is typed at the prompt. A job in the background, and the audit, get a moment.
    case $1 in
    '$ '*) sh -c "${1#*[$] }" ;;
    'root# '*) sh -c "${1#*# }" ;;
    'daemon$ '*)
        as_daemon sh -c "PATH=$tmp/bin:\$PATH; ${1#*[$] }"
        sleep 0.2
        ;;
    *) return 0 ;;
    esac
    case $1 in *'&') sleep 1 ;; esac
}
without_times() { # FILE
    sed -e 's/[0-9-]*T[0-9:.]*Z/TIME/' -e 's/pid=[0-9]*/pid=N/' -e 's/ [0-9]*us$/ Nus/' "$1"
}
run_session() { # BLOCK DIRECTORY: what is typed is run, what is printed compared
    tail -n +2 "$1" >$tmp/want
    rm -f $tmp/got # a job of the session before may say that the broker ended
    (
        cd "$2" || exit 1
        while IFS= read -r line; do
            case $line in
            [$]\ * | root#\ * | daemon[$]\ *) printf '%s\n' "$line" ;;
            esac
            run_line "$line" 2>&1 </dev/null
        done <$tmp/want
    ) >$tmp/got
    without_times $tmp/want >$tmp/want.plain
    without_times $tmp/got >$tmp/got.plain
    diff $tmp/want.plain $tmp/got.plain >$tmp/out
}
# A broker with a control socket, a policy directory and an audit file, all in $tmp/admin; as it is before each example.
mkdir $tmp/bin
install -m 0755 "$BUILD/fob" "$BUILD/fobctl" "$BUILD/fobd" $tmp/bin/
printf 'apples,3\n' >$tmp/report.csv
chmod 0600 $tmp/report.csv
start_admin() {
    rm -rf $tmp/admin
    mkdir $tmp/admin $tmp/admin/policy.d
    printf 'remember the milk\n' >$tmp/notes.txt
    printf 'allow user:daemon read %s/notes.txt\n' $tmp >$tmp/admin/policy.d/10-notes.policy
    {
        printf 'user 64999\nworkers 1\npolicy %s/policy.d\n' $tmp/admin
        printf 'socket %s/sock\naudit file %s/audit.json\n' $tmp/admin $tmp/admin
    } >$tmp/admin/fobd.conf
    "$BUILD/fobd" -f $tmp/admin/fobd.conf >$tmp/admin/log 2>&1 &
    admin=$!
    export FOB_SOCKET=$tmp/admin/sock FOB_CONTROL=$tmp/admin/sock.control
    wait_for "$BUILD/fob" ping
}
stop_admin() {
    kill $admin && wait $admin
    status=$?
    admin=''
    export FOB_SOCKET=$tmp/sock
    unset FOB_CONTROL
    return $status
}
run_admin() { # BLOCK
    start_admin
    run_session "$1" $tmp/admin
    same=$?
    stop_admin && return $same
}
run_shell() { # BLOCK: by root where the system's own files are used, with nothing left running
    {
        # shellcheck disable=SC2016 # the script's own: what it started in the background ends with it
        echo 'trap '\''[ -z "${!-}" ] || kill $!'\'' EXIT'
        tail -n +2 "$1"
    } >$tmp/script
    cp $tmp/notes.txt $tmp/shell/ 2>/dev/null
    (cd $tmp/shell && FOB_SOCKET='' timeout 20 sh -eu $tmp/script >$tmp/out 2>&1)
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
    session) run_session "$block" $tmp ;;
    admin) run_admin "$block" ;;
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

# ---------------------------------------------------------------- what no example shows

says() { # WHAT STATUS TEXT COMMAND...: the exit status, and a part of what is printed
    what=$1 want=$2 text=$3
    shift 3
    "$@" >$tmp/out 2>&1 </dev/null
    got=$?
    [ $got = "$want" ] && { [ -z "$text" ] || grep -qF -- "$text" $tmp/out; }
    result $? "$what: exit status $got, wanted $want, and \`$text\`"
}
is() { # WHAT GOT WANTED
    printf '%s\n  not:\n%s\n' "$2" "$3" >$tmp/out
    [ "$2" = "$3" ]
    result $? "$1"
}
fobctl=$BUILD/fobctl
cat_as_daemon() {
    as_daemon $tmp/bin/fob cat "$1"
    status=$?
    sleep 0.2
    return $status
}

# fobctl(8) has the commands and options of fobctl -h.
"$fobctl" -h | sed -n 's/^  \([a-z]*\) .*/\1/p' | sort >$tmp/usage
sed -n 's/^\.It Cm \([a-z]*\).*/\1/p' man/fobctl.8 | sort >$tmp/page
is "fobctl(8): commands" "$(cat $tmp/page)" "$(cat $tmp/usage)"
"$fobctl" -h | grep -oE -- '--[a-z]+' | sort -u >$tmp/usage
grep -oE '^\.It Cm.*|^\.Op.*' man/fobctl.8 | grep -oE 'Fl -[a-z]+|[|] -[a-z]+' | sed 's/.* -/--/' | sort -u >$tmp/page
is "fobctl(8): options" "$(cat $tmp/page)" "$(cat $tmp/usage)"

# fobd.conf(5): where the control socket is.
printf '' >$tmp/empty.conf
printf 'socket %s/other\n' $tmp >$tmp/other.conf
printf 'control-socket %s/mine mode=0640\n' $tmp >$tmp/mine.conf
place_is() { # WANTED ARGUMENTS OF FOBD...
    want=$1
    shift
    is "control socket: fobd $*" "$("$BUILD/fobd" -n "$@" | grep '^control-socket')" "control-socket \"$want"
}
place_is '/run/fob/control.sock" mode=0600' -f $tmp/empty.conf
place_is "$tmp/other.control\" mode=0600" -f $tmp/other.conf
place_is "$tmp/mine\" mode=0640" -f $tmp/mine.conf
place_is "$tmp/s.control\" mode=0640" -f $tmp/mine.conf -s $tmp/s
place_is '/run/fob/control.sock" mode=0600' -f $tmp/other.conf -s /run/fob/fob.sock

says "a user's own broker" 0 'control-socket "/run/user/1/fob/fob.sock.control" mode=0600' \
    as_daemon env XDG_RUNTIME_DIR=/run/user/1 HOME=/ $tmp/bin/fobd -n

# fobctl(8), EXIT STATUS
start_admin
cd $tmp/admin || exit 1
says "no such command" 2 "no such command" "$fobctl" nonsense
says "no broker" 3 "no broker runs there" "$fobctl" -s $tmp/nobody status
says "an ordinary user" 1 "the control socket is for root" as_daemon $tmp/bin/fobctl status
says "a policy with errors" 4 "begins no statement" "$fobctl" check $tmp/admin/fobd.conf
says "no such policy" 4 "No such file" "$fobctl" check $tmp/nowhere
echo 'allow user:daemon read /**' >wide.policy
says "a warning" 0 "warning: \`**\` at the root" "$fobctl" check wide.policy
says "something changes" 1 "+ user:daemon read /**" "$fobctl" diff -p policy.d wide.policy
says "nothing changes" 0 "" "$fobctl" diff -p policy.d policy.d
is "nothing changes: nothing is said" "$(cat $tmp/out)" ""
echo 'assert deny user:daemon read /tmp/t/notes.txt' >tests
chown daemon tests
says "a false assertion" 1 "0 passed, 1 failed" "$fobctl" test -p policy.d tests
says "what decided instead" 1 "allowed by 10-notes.policy:1" "$fobctl" test -p policy.d tests
says "rules in a test file" 4 "holds assertions and sets, no rules" "$fobctl" test -p policy.d wide.policy
printf 'set @us = user:daemon user:bin\nallow @us read /srv/{a,b}/** as=caller\n' >sets.policy
"$fobctl" print -p sets.policy >printed.policy
says "printed again" 0 "" "$fobctl" diff -p sets.policy printed.policy

# fobctl(8), RELOAD
echo 'nonsense' >>fobd.conf
says "the configuration is not read anew" 0 "generation 2 is in force" "$fobctl" reload
mv audit.json audit.old
says "before" 0 "remember the milk" cat_as_daemon $tmp/notes.txt
says "reload" 0 "generation 3" "$fobctl" reload
says "after" 0 "remember the milk" cat_as_daemon $tmp/notes.txt
is "the audit file is opened anew" "$(grep -c '"generation":2' audit.old) $(grep -c '"generation":3' audit.json)" "1 1"
mv policy.d away.d
says "a policy that vanished" 4 "No such file" "$fobctl" reload
says "the old one goes on" 0 "remember the milk" cat_as_daemon $tmp/notes.txt
mv away.d policy.d
echo 'allow user:daemon read /tmp/t/report.csv' >policy.d/20-report.policy
says "explain asks the broker" 1 "no rule allows it" "$fobctl" explain user:daemon read $tmp/report.csv
kill -HUP $admin
wait_for sh -c "'$fobctl' explain user:daemon read $tmp/report.csv"
says "SIGHUP" 0 "apples" cat_as_daemon $tmp/report.csv
echo 'allow user:daemon read /tmp/t/mnt/**' >policy.d/30-mnt.policy
mkdir $tmp/mnt
says "reload" 0 "is in force" "$fobctl" reload
if mount -t tmpfs tmpfs $tmp/mnt 2>/dev/null; then
    echo mounted >$tmp/mnt/file
    i=0
    until [ "$(cat_as_daemon $tmp/mnt/file 2>/dev/null)" = mounted ] || [ $i = 50 ]; do
        i=$((i + 1))
        sleep 0.1
    done
    says "a mount made later" 0 "mounted" cat_as_daemon $tmp/mnt/file
    umount -l $tmp/mnt
fi

# fobctl(8), STATUS: every key and every metric stands in the page, and every key of the page is there.
"$fobctl" status --json >status.json
grep -oE '"[a-z][a-z_0-9.]*":' status.json | tr -d '":' | sort -u >$tmp/usage
while IFS= read -r key; do
    says "fobctl(8): $key of status --json" 0 "$key" sed -n '/^\.Sh STATUS/,/^\.Sh ENV/p' "$root/man/fobctl.8"
done <$tmp/usage
sed -n '/^\.Sh STATUS/,/^\.Sh ENV/s/^\.It //p' "$root/man/fobctl.8" | tr -d ' ' | tr ',' '\n' | sort >$tmp/page
is "fobctl(8): what is no key of status --json" "$(comm -23 $tmp/page $tmp/usage)" ""
"$fobctl" status --openmetrics | sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' | sort >$tmp/usage
grep -oE 'fob_[a-z_]+' "$root/man/fobctl.8" | sort >$tmp/page
is "fobctl(8): metrics" "$(cat $tmp/page)" "$(cat $tmp/usage)"

# fobctl(8), watch: not what log= leaves out; by user; and with `audit none` too.
echo 'allow user:daemon read /tmp/t/quiet.txt log=none' >policy.d/40-quiet.policy
echo 'quiet' >$tmp/quiet.txt
says "reload" 0 "is in force" "$fobctl" reload
"$fobctl" watch >seen 2>seen.end &
watcher=$!
"$fobctl" watch --json --user bin >seen.bin 2>&1 &
watcher_of_bin=$!
"$fobctl" -s $tmp/sock.control watch --json >seen.none 2>&1 &
watcher_of_none=$!
sleep 1
cat_as_daemon $tmp/quiet.txt >/dev/null
cat_as_daemon $tmp/notes.txt >/dev/null
cat_as_daemon $tmp/secret.txt >/dev/null 2>&1
FOB_SOCKET=$tmp/sock "$BUILD/fob" cat $tmp/notes.txt >/dev/null
sleep 0.3
is "watch" "$(cut -d' ' -f2,7 seen)" "allowed $tmp/notes.txt
refused $tmp/secret.txt"
is "watch --user" "$(cat seen.bin)" ""
is "watch --json, audit none" "$(grep -c '"decision":"allowed"' seen.none)" 1
stop_admin
kill $watcher_of_none
wait $watcher_of_bin
wait $watcher
is "watch ends with the broker" "$? $(grep -c 'ended the connection' seen.end)" "3 1"
is "fobd(8): nothing is left of the sockets" "$(find $tmp/admin -type s)" ""

# fobd(8), Service managers: what they are told of a reload, whether it is one or not.
if perl -MSocket -e 1 2>/dev/null; then
    # shellcheck disable=SC2016 # perl's own
    perl -MSocket -e 'socket(S, AF_UNIX, SOCK_DGRAM, 0) && bind(S, sockaddr_un($ARGV[0])) || die; $| = 1;
        while (defined recv(S, $m, 4096, 0)) { print "$m\n" }' $tmp/notify >$tmp/told &
    manager=$!
    wait_for test -S $tmp/notify
    export NOTIFY_SOCKET=$tmp/notify
    start_admin
    says "reload" 0 "is in force" "$fobctl" reload
    echo nonsense >$tmp/admin/policy.d/20-nonsense.policy
    says "no reload" 4 "generation 2 goes on" "$fobctl" reload
    stop_admin
    unset NOTIFY_SOCKET
    kill $manager
    wait $manager 2>/dev/null
    is "the service manager" "$(sed 's/^MONOTONIC_USEC=[0-9][0-9]*$/MONOTONIC_USEC=N/' $tmp/told | tr '\n' ' ')" \
        "READY=1 RELOADING=1 MONOTONIC_USEC=N READY=1 RELOADING=1 MONOTONIC_USEC=N READY=1 STOPPING=1 "
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
