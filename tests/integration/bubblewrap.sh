#!/bin/sh
# bubblewrap.sh: programs in real sandboxes, which have of the host nothing but the broker's socket and themselves: fob,
# the Python client and a program with libfob get their files; the broker knows who they are, whatever they are called inside; a
# directory that they got leads nowhere; and whom they believe to be the broker.
set -u
: "${BUILD:?the build folder}"
skip() {
    echo "skipped: $*"
    exit 77
}
[ "$(id -u)" = 0 ] || skip "needs root (several uids)"
command -v bwrap >/dev/null || skip "no bwrap (Debian's package bubblewrap)"
bwrap --unshare-all --ro-bind / / true 2>/dev/null || skip "bwrap makes no sandbox here"
as() { # UID COMMAND...
    uid=$1
    shift
    setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
}
# As an ordinary user too, where the kernel lets one have a user namespace.
uids=0
if as 2001 bwrap --unshare-all --ro-bind / / true 2>/dev/null; then
    uids="0 2001"
else
    echo "not tested: sandboxes of ordinary users: no user namespaces for them here"
fi

passed=0 failed=0
tmp=$(mktemp -d /tmp/fob-bwrap.XXXXXX)
chmod 0755 "$tmp"
fobd='' server=''
stop() { # PID
    [ -z "$1" ] || { kill "$1" && wait "$1"; } 2>/dev/null
}
finish() {
    stop "$fobd"
    stop "$server"
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM
ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    printf '%s\n' "$*"
}

# ---- what is bound in: programs, their libraries, nothing else ----

mkdir -m 0755 "$tmp/bin"
install -m 0755 "$BUILD/fobd" "$BUILD/fob" "$BUILD/tests/programs/sandbox" "$tmp/bin/" || exit 1
libraries() { # PROGRAM...: --ro-bind arguments
    for program; do
        ldd "$program" 2>/dev/null | grep -o '/[^ ]*'
    done | sort -u | sed 's,.*,--ro-bind & &,'
}
of_programs="$(libraries "$tmp/bin/fob" "$tmp/bin/sandbox") --ro-bind $tmp/bin/fob /bin/fob --ro-bind $tmp/bin/sandbox /bin/sandbox"
# Sanitizers want to see their own process.
[ -z "${FOB_SANITIZE-}" ] || of_programs="$of_programs --proc /proc"

# The interpreter with the standard library that it comes with.
python='' of_python=''
for candidate in python3 /usr/bin/python3; do
    if as 2001 "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
        # shellcheck disable=SC2016 # Python's
        python=$("$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))')
        break
    fi
done
if [ -n "$python" ]; then
    library=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
    ctypes=$("$python" -c 'import _ctypes; print(_ctypes.__file__)' 2>/dev/null)
    of_python="$(libraries "$python" "$ctypes") --ro-bind $python $python --ro-bind $library $library"
    install -m 0644 client/python/fob.py "$tmp/bin/"
    of_python="$of_python --ro-bind $tmp/bin/fob.py /lib/fob.py --setenv PYTHONPATH /lib --setenv PYTHONDONTWRITEBYTECODE 1"
else
    echo "not tested: the Python client: no python3 (3.9 or later) that an ordinary user can run"
fi

# box UID OPTIONS... -- COMMAND...: in a sandbox made by that user
box() {
    uid=$1
    shift
    # shellcheck disable=SC2086 # lists of words
    as "$uid" env -u FOB_SOCKET -u FOB_SERVER bwrap --unshare-all --die-with-parent --new-session $of_programs $of_python "$@"
}
# expect STATUS OUTPUT UID OPTIONS... -- COMMAND...: both streams together
expect() {
    status=$1 want=$2
    shift 2
    got=$(box "$@" 2>&1 </dev/null)
    code=$?
    if [ "$code" = "$status" ] && [ "$got" = "$want" ]; then ok; else
        failed=$((failed + 1))
        printf '%s\n  exit status %s, not %s\n  said:   %s\n  wanted: %s\n' "$*" "$code" "$status" "$got" "$want"
    fi
}

# ---- a broker, and what it has ----

mkdir -m 0700 "$tmp/vault" "$tmp/drop" "$tmp/other"
mkdir -m 0755 "$tmp/run" "$tmp/vault/dir" "$tmp/vault/dir/sub" # whoever is in there may go on
printf 'kept\n' >"$tmp/vault/f"
printf 'hidden\n' >"$tmp/other/secret"
: >"$tmp/vault/dir/a"
: >"$tmp/vault/dir/b"
chmod 0600 "$tmp/vault/f" "$tmp/other/secret"
{
    echo "allow user:0,user:2001 read,list $tmp/vault/**"
    echo "allow user:0,user:2001 write,append,create $tmp/drop/**"
    echo "allow user:4242 read $tmp/other/secret"
} >"$tmp/policy"
{
    printf 'socket %s/run/fob.sock\nstream-socket %s/run/stream.sock\npolicy %s/policy\naudit file %s/audit\n' "$tmp" "$tmp" "$tmp" "$tmp"
    printf 'user 64999\nworkers 1\n'
} >"$tmp/conf"
"$tmp/bin/fobd" -f "$tmp/conf" 2>"$tmp/log" &
fobd=$!
wait_for() { # COMMAND...
    i=0
    until "$@" >/dev/null 2>&1 || [ $i = 50 ]; do
        i=$((i + 1))
        sleep 0.1
    done
}
wait_for "$tmp/bin/fob" -s "$tmp/run/fob.sock" ping

# audited UID PATH: the last record is of that user, by a process that has a number outside
audited() {
    sleep 0.1
    record=$(tail -n 1 "$tmp/audit")
    case $record in
    *"\"uid\":$1,\"gid\":$1,\"pid\":"[1-9]*"\"path\":\"$2\""*) ok ;;
    *) bad "not audited as uid $1, path $2: $record" ;;
    esac
}

# confined WAYS UID OPTIONS... -- COMMAND...: at least so many ways were tried, none led out
confined() {
    ways=$1
    shift
    got=$(box "$@" 2>&1 </dev/null)
    last=$(printf '%s\n' "$got" | tail -n 1)
    if [ "${last%% ways*}" -ge "$ways" ] 2>/dev/null && [ "${last#* ways, }" = "0 led out" ]; then ok; else bad "$*: $got"; fi
}

dir=$tmp/vault/dir
sock="--ro-bind $tmp/run/fob.sock /run/fob/fob.sock"
f=$tmp/vault/f
for uid in $uids; do
    # shellcheck disable=SC2086 # words
    for inside in "" "--uid 0 --gid 0" "--uid 4242 --gid 4242" "--uid 65534 --gid 65534" "--proc /proc" "--uid 0 --cap-add ALL"; do
        expect 0 kept "$uid" $inside $sock -- /bin/fob cat "$f"
        audited "$uid" "$f"
        expect 0 kept "$uid" $inside $sock -- /bin/sandbox read "$f"
        audited "$uid" "$f"
        # A policy for 4242 is not for who calls itself so.
        expect 1 "fob: $tmp/other/secret: Permission denied (refused by policy)" "$uid" $inside $sock -- \
            /bin/fob cat "$tmp/other/secret"
        audited "$uid" "$tmp/other/secret"
        if [ -n "$python" ]; then
            expect 0 kept "$uid" $inside $sock -- "$python" -c "import fob; print(fob.open('$f').read(), end='')"
            audited "$uid" "$f"
            expect 0 "[13, kept]" "$uid" $inside --ro-bind "$tmp/run/stream.sock" /run/fob/fob.sock -- "$python" -c "
import fob
with fob.Broker() as b:
    refused, file = b.open_many(['$tmp/other/secret', '$f'])
    print('[%d, %s]' % (refused.errno, file.read().strip()))"
            audited "$uid" "$f"
        fi
    done
    # The host's files are not there, and yet the program has one of them.
    # shellcheck disable=SC2046,SC2086
    expect 1 "" "$uid" $sock $(libraries /bin/sh) --ro-bind /bin/sh /bin/sh -- /bin/sh -c "test -e $f || test -e /etc/passwd"
    # shellcheck disable=SC2086
    echo new | box "$uid" $sock -- /bin/fob write -c 644 "$tmp/drop/of-$uid" || bad "fob write -c: exit status $?"
    if [ "$(stat -c %u "$tmp/drop/of-$uid")" = "$uid" ] && [ "$(cat "$tmp/drop/of-$uid")" = new ]; then ok; else
        bad "created: $(stat "$tmp/drop/of-$uid" 2>&1)"
    fi
    if "$BUILD/fob" exec -h >/dev/null 2>&1; then
        # shellcheck disable=SC2086
        expect 0 kept "$uid" $sock -- /bin/fob exec --stdin "$f" -- /bin/sandbox copy
        audited "$uid" "$f"
        # shellcheck disable=SC2086
        expect 1 "fob: $tmp/other/secret: Permission denied (refused by policy)" "$uid" $sock -- \
            /bin/fob exec --stdin "$tmp/other/secret" -- /bin/sandbox copy
        # shellcheck disable=SC2086
        confined 9 "$uid" $sock -- /bin/fob exec --fd "7=$dir:l" -- /bin/sandbox escape 7 "a b sub "
    else
        echo "not tested: fob exec: there is none"
    fi
done

# ---- a directory leads nowhere ----

for uid in $uids; do
    # shellcheck disable=SC2086 # words
    {
        confined 9 "$uid" $sock -- /bin/sandbox directory "$dir" "a b sub "
        confined 13 "$uid" $sock --proc /proc -- /bin/sandbox directory "$dir" "a b sub "
        confined 21 "$uid" $sock --proc /proc --uid 0 --cap-add ALL --tmpfs /tmp -- /bin/sandbox directory "$dir" "a b sub "
        got=$(box "$uid" $sock --proc /proc --uid 0 --cap-add ALL --tmpfs /tmp -- /bin/sandbox directory "$dir" "a b sub " 2>&1)
        case $got in *"in a chroot"*) ok ;; *) bad "no chroot was tried: $got" ;; esac
        # With the whole host there is more to be reached, by other ways than this descriptor.
        confined 13 "$uid" --ro-bind / / --proc /proc --tmpfs /run --ro-bind "$tmp/run/fob.sock" /run/fob/fob.sock -- \
            "$tmp/bin/sandbox" directory "$dir" "a b sub "
    }
done
# Would it be noticed? A descriptor of the host, as a careless program leaves one open in a sandbox, leads out.
got=$(box 0 --proc /proc -- /bin/sandbox escape 7 "a b sub " 7<"$dir" 2>&1)
case $got in
*".. led to dir f "*"/proc/self/fd/N/.. led to dir f "*) ok ;;
*) bad "a plain descriptor leads nowhere: $got" ;;
esac

# ---- who serves ----

strange="not believed: who serves it cannot be told from inside this user namespace"
# believed UID OPTIONS... -- SOCKET: by fob, by the Python client
believed() {
    expect 0 kept "$@" /bin/fob cat "$f"
    [ -z "$python" ] || expect 0 kept "$@" "$python" -c "import fob; print(fob.open('$f').read(), end='')"
}
# not_believed ERRNO TEXT UID OPTIONS... --
not_believed() {
    errno=$1 text=$2
    shift 2
    got=$(box "$@" /bin/fob cat "$f" 2>&1)
    code=$?
    case $code:$got in 3:"fob: "*": $text"*) ok ;; *) bad "fob $*: exit status $code: $got" ;; esac
    [ -n "$python" ] || return 0
    got=$(box "$@" "$python" -c "
import errno, fob
try:
    fob.open('$f')
except OSError as error:
    print(errno.errorcode[error.errno])" 2>&1)
    if [ "$got" = "$errno" ]; then ok; else bad "python $*: $got"; fi
}
at() { # SOCKET: as it is said to the programs
    echo "--setenv FOB_SOCKET $1 --"
}
# A false broker, of another user. (Not by as(): of a function in the background $! is the shell.)
mkdir -m 0755 "$tmp/mallory"
chown 2002:2002 "$tmp/mallory"
printf 'allow any read %s/mallory/**\n' "$tmp" >"$tmp/mallory/policy"
chown 2002 "$tmp/mallory/policy"
setpriv --reuid 2002 --regid 2002 --clear-groups -- "$tmp/bin/fobd" -p "$tmp/mallory/policy" -s "$tmp/mallory/sock" 2>"$tmp/mallory.log" &
server=$!
wait_for test -S "$tmp/mallory/sock"
for uid in $uids; do
    # shellcheck disable=SC2046,SC2086 # words
    {
        # Bound by itself, to any place that is nobody else's; or its directory, at the default place.
        believed "$uid" --ro-bind "$tmp/run/fob.sock" /s $(at /s)
        believed "$uid" --ro-bind "$tmp/run/fob.sock" /a/b/s $(at /a/b/s)
        believed "$uid" --ro-bind "$tmp/run" /run/fob --
        [ "$uid" != 0 ] || continue
        # Not: through a symlink, in a directory of everybody's, in one that was bound as a whole, on the host itself.
        not_believed EREMOTE "$strange" "$uid" --ro-bind "$tmp/run/fob.sock" /b --symlink /b /s $(at /s)
        not_believed EREMOTE "$strange" "$uid" --perms 1777 --dir /t --ro-bind "$tmp/run/fob.sock" /t/s $(at /t/s)
        not_believed EREMOTE "$strange" "$uid" --ro-bind "$tmp/run" /else $(at /else/fob.sock)
        not_believed EREMOTE "$strange" "$uid" --ro-bind "$tmp/mallory" /else $(at /else/sock)
        not_believed EREMOTE "$strange" "$uid" --ro-bind "$tmp" "$tmp" $(at "$tmp/mallory/sock")
        not_believed EREMOTE "$strange" "$uid" --uid 65534 --ro-bind "$tmp" "$tmp" $(at "$tmp/mallory/sock")
        not_believed EREMOTE "$strange" "$uid" --uid 0 --ro-bind "$tmp" "$tmp" $(at "$tmp/run/fob.sock")
        # What is said not to be told apart: whose socket it was that was bound.
        got=$(box "$uid" --ro-bind "$tmp/mallory/sock" /run/fob/fob.sock -- /bin/fob ping 2>&1)
        case $got in *"served by pid 0 of uid 65534") ok ;; *) bad "mallory's, bound: $got" ;; esac
        # Unless one says so.
        believed "$uid" --ro-bind "$tmp/run" /else --setenv FOB_SERVER 65534 $(at /else/fob.sock)
    }
done
# Outside, the kernel tells.
got=$(as 2001 "$tmp/bin/fob" -s "$tmp/mallory/sock" cat "$f" 2>&1)
case $?:$got in 3:*"not believed: neither root nor you serve it"*) ok ;; *) bad "mallory's, outside: $got" ;; esac

stop "$fobd"
status=$?
fobd=
if [ $status = 0 ]; then ok; else
    bad "fobd: exit status $status"
    cat "$tmp/log"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
