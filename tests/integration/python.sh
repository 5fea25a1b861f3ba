#!/bin/sh
# python.sh: client/python/fob.py against a real, confined fobd, by packets and by a stream, as real users; against brokers that lie;
# and against one of somebody else's.
set -u
: "${BUILD:?the build folder}"
if [ "$(id -u)" != 0 ]; then
    echo "skipped: needs root (several uids)"
    exit 77
fi
as() { # UID COMMAND...
    uid=$1
    shift
    setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
}
# One that other users can run too: root's own may lie in its home.
python=
for candidate in python3 /usr/bin/python3; do
    if as 2001 "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "skipped: no python3 (3.9 or later) that an ordinary user can run"
    exit 77
fi

passed=0 failed=0
tmp=$(mktemp -d /tmp/fob-python.XXXXXX)
chmod 0755 "$tmp"
fobd='' server=''
finish() {
    [ -z "$fobd" ] || { kill "$fobd" && wait "$fobd"; } 2>/dev/null
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM
install -m 0755 "$BUILD/fobd" "$BUILD/fob" "$tmp/"
mkdir -m 0755 "$tmp/python"
install -m 0644 client/python/fob.py tests/integration/python_client.py "$tmp/python/"
unset FOB_SOCKET FOB_SERVER

# run UID ARGUMENTS...: adds what it counts. Warnings are errors; of what Python can only mention, nothing may be said.
run() {
    uid=$1
    shift
    as "$uid" env PYTHONDONTWRITEBYTECODE=1 "$python" -X dev -W error "$tmp/python/python_client.py" "$@" >"$tmp/out" 2>&1 </dev/null
    status=$?
    last=$(tail -n 1 "$tmp/out")
    case $last in
    *" passed, "*" failed")
        passed=$((passed + ${last%% *}))
        last=${last#* passed, }
        failed=$((failed + ${last%% *}))
        sed '$d' "$tmp/out"
        ;;
    *)
        failed=$((failed + 1))
        cat "$tmp/out"
        ;;
    esac
    if grep -qE 'Warning|Exception ignored' "$tmp/out" || [ $status -gt 1 ]; then
        failed=$((failed + 1))
        echo "$*: exit status $status, or warnings"
    fi
}

cd_files() {
    mkdir -m 0755 pub pub/sub many
    mkdir -m 0700 secret vault drop own own/dir fake
    chown 2001:2001 own own/dir fake
    printf 'pub a\n' >pub/a
    : >pub/sub/c
    : >pub/sub/d
    : >pub/denied
    printf 'there\n' >own/there
    chown 2001 own/there
    : >vault/log
    : >secret/f
    chmod 0600 pub/a secret/f vault/log
    chmod 0711 drop
    i=0
    while [ $i -lt 600 ]; do
        echo $i >many/$i
        i=$((i + 1))
    done
    chmod 0700 many
}
(cd "$tmp" && cd_files)
{
    echo "allow user:2001 read,list $tmp/pub/** $tmp/many/*"
    echo "allow user:2001 read,write,append,create $tmp/own/**"
    echo "allow user:2001 write,append $tmp/vault/*"
    echo "allow user:2001 create,append $tmp/drop/*"
    echo "deny any all $tmp/pub/denied"
} >"$tmp/policy"
{
    printf 'socket %s/sock\nstream-socket %s/stream\npolicy %s/policy\naudit file %s/audit\n' "$tmp" "$tmp" "$tmp" "$tmp"
    printf 'user 64999\nworkers 2\n'
} >"$tmp/conf"
"$tmp/fobd" -f "$tmp/conf" 2>"$tmp/log" &
fobd=$!
i=0
until "$tmp/fob" -s "$tmp/sock" ping >/dev/null 2>&1 || [ $i = 50 ]; do
    i=$((i + 1))
    sleep 0.1
done

run 2001 real "$tmp"
run 2001 fake "$tmp/fake"

# Somebody else's, in a directory of everybody's. (Not by as(): of a function in the background $! is the shell.)
mkdir -m 1777 "$tmp/everybody"
setpriv --reuid 2002 --regid 2002 --clear-groups -- "$python" "$tmp/python/python_client.py" serve "$tmp/everybody/sock" >"$tmp/ready" 2>&1 &
server=$!
i=0
until grep -q ready "$tmp/ready" 2>/dev/null || [ $i = 50 ]; do
    i=$((i + 1))
    sleep 0.1
done
run 2001 refused "$tmp/everybody/sock"
run 0 refused "$tmp/everybody/sock"

kill "$fobd"
wait "$fobd"
status=$?
fobd=
if [ $status = 0 ]; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    echo "fobd: exit status $status"
    cat "$tmp/log"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
