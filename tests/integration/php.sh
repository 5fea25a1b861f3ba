#!/bin/sh
# php.sh: client/php/Fob.php against a real, confined fobd, by packets, by a stream and by datagrams, as real users; against brokers that lie,
# and where somebody else can have put a socket. Then the examples of fob-languages(7), and what it says of Node.js.
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
# shellcheck disable=SC2016 # PHP's
have='foreach (["sockets", "pcntl", "posix"] as $e) extension_loaded($e) || exit("no ext-$e"); exit(PHP_VERSION_ID < 70400 ? "too old" : 0);'
if ! why=$(as 2001 php -r "$have" 2>&1) || [ -n "$why" ]; then
    echo "skipped: no php (7.4 or later, with ext-sockets, ext-pcntl and ext-posix) that an ordinary user can run: $why"
    exit 77
fi

python=
for candidate in python3 /usr/bin/python3; do
    if [ -z "$python" ] && as 2001 "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then python=$candidate; fi
done
[ -n "$python" ] || echo "not tested: brokers that lie in datagrams, and the example in Python: no python3 (3.9 or later) here"
export FOB_PYTHON="$python"

passed=0 failed=0
tmp=$(mktemp -d /tmp/fob-php.XXXXXX)
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
mkdir -m 0755 "$tmp/bin" "$tmp/php"
install -m 0755 "$BUILD/fobd" "$BUILD/fob" "$tmp/bin/"
install -m 0644 client/php/Fob.php tests/integration/php_client.php "$tmp/php/"
unset FOB_SOCKET FOB_SERVER
ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    printf '%s\n' "$*"
}

# counted COMMAND...: adds what it counts. PHP may say nothing of its own.
counted() {
    "$@" >"$tmp/out" 2>&1 </dev/null
    count $? "$*"
}
count() { # STATUS WHAT
    status=$1
    shift
    last=$(tail -n 1 "$tmp/out")
    case $last in
    *" passed, "*" failed")
        passed=$((passed + ${last%% *}))
        last=${last#* passed, }
        failed=$((failed + ${last%% *}))
        sed -e '$d' -e '/^ready$/d' "$tmp/out"
        ;;
    *)
        failed=$((failed + 1))
        cat "$tmp/out"
        ;;
    esac
    if grep -qE '^(PHP )?(Warning|Notice|Deprecated|Fatal)' "$tmp/out" || [ "$status" -gt 1 ]; then
        bad "$*: exit status $status, or warnings"
    fi
}
run() { # UID ARGUMENTS...
    uid=$1
    shift
    counted as "$uid" php "$tmp/php/php_client.php" "$@"
}

cd_files() {
    mkdir -m 0755 pub pub/sub many srv srv/app
    mkdir -m 0700 secret vault drop own own/dir fake
    chown 2001:2001 own own/dir fake
    printf 'pub a\n' >pub/a
    : >pub/denied
    printf 'there\n' >own/there
    chown 2001 own/there
    : >vault/log
    : >secret/f
    printf 'remember the milk\n' >srv/app/notes.txt
    : >srv/app/log
    chmod 0600 pub/a secret/f vault/log srv/app/*
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
    echo "allow user:2001 read $tmp/srv/app/notes.txt"
    echo "allow user:2001 append $tmp/srv/app/log"
    echo "allow user:0 read $tmp/secret/f"
    echo "deny any all $tmp/pub/denied"
} >"$tmp/policy"
{
    printf 'socket %s/sock\nstream-socket %s/stream\ndgram-socket %s/dgram\n' "$tmp" "$tmp" "$tmp"
    printf 'policy %s/policy\naudit file %s/audit\nuser 64999\nworkers 2\n' "$tmp" "$tmp"
} >"$tmp/conf"
wait_for() { # COMMAND...
    i=0
    until "$@" >/dev/null 2>&1 || [ $i = 50 ]; do
        i=$((i + 1))
        sleep 0.1
    done
}
start() {
    "$tmp/bin/fobd" -f "$tmp/conf" 2>>"$tmp/log" &
    fobd=$!
    wait_for "$tmp/bin/fob" -s "$tmp/sock" ping
}
start

run 2001 real "$tmp"
run 2001 fake "$tmp/fake"
run 2001 places "$tmp/fake"
run 0 elevated "$tmp"
counted as 2001 prlimit --nofile=24 php "$tmp/php/php_client.php" few "$tmp"

mkfifo "$tmp/go"
setpriv --reuid 2001 --regid 2001 --clear-groups -- php "$tmp/php/php_client.php" restart "$tmp" <"$tmp/go" >"$tmp/out" 2>&1 &
client=$!
exec 3>"$tmp/go"
wait_for grep -q ready "$tmp/out"
stop "$fobd"
start
echo go >&3
exec 3>&-
wait "$client"
count $? restart

# Somebody else's, in a directory of everybody's. (Not by as(): of a function in the background $! is the shell.)
mkdir -m 1777 "$tmp/everybody"
setpriv --reuid 2002 --regid 2002 --clear-groups -- php "$tmp/php/php_client.php" serve "$tmp/everybody/sock" >"$tmp/ready" 2>&1 &
server=$!
wait_for grep -q ready "$tmp/ready"
run 2001 refused "$tmp/everybody/sock"
run 0 refused "$tmp/everybody/sock"

# The broker's own socket, but in a directory of somebody else's.
mkdir -m 0755 "$tmp/holder" "$tmp/theirs"
ln "$tmp/sock" "$tmp/holder/fob.sock"
ln "$tmp/sock" "$tmp/holder/other.sock"
ln "$tmp/sock" "$tmp/theirs/sock"
chown 2002 "$tmp/theirs"
run 2001 place "$tmp/holder/fob.sock" good
run 2001 place "$tmp/theirs/sock" EPERM

# In a sandbox, where root has no name.
if command -v bwrap >/dev/null && as 2001 bwrap --unshare-user --ro-bind / / true 2>/dev/null; then
    hidden() { # SOCKET WANTED OPTION...
        socket=$1 want=$2
        shift 2
        counted as 2001 bwrap --unshare-user --ro-bind / / "$@" php "$tmp/php/php_client.php" place "$socket" "$want"
    }
    hidden "$tmp/sock" EREMOTE # /tmp is everybody's
    hidden "$tmp/sock" EREMOTE --ro-bind "$tmp/sock" "$tmp/sock"
    hidden "$tmp/sock" good --setenv FOB_SERVER 65534
    hidden /mnt/fob/fob.sock good --tmpfs /mnt --ro-bind "$tmp/sock" /mnt/fob/fob.sock
    hidden /mnt/fob/fob.sock EREMOTE --tmpfs /mnt --ro-bind "$tmp/holder" /mnt/fob
    hidden /run/fob/fob.sock good --tmpfs /run --ro-bind "$tmp/holder" /run/fob
    hidden /run/fob/other.sock EREMOTE --tmpfs /run --ro-bind "$tmp/holder" /run/fob
else
    echo "not tested: a user namespace: none for ordinary users here, or no bwrap"
fi

# ---- the examples of fob-languages(7) ----

export FOB_SOCKET="$tmp/sock"
mkdir -m 0755 "$tmp/examples"
awk -v out="$tmp/examples/" '
    /^\.\\" test: none / { file = out $4 }
    /^\.Bd -literal/ { inside = 1; next }
    /^\.Ed/ { inside = 0 }
    inside { gsub(/\\e/, "\\"); gsub(/\\&/, ""); print > file }' man/fob-languages.7
sed -i "s,/srv/,$tmp/srv/,g" "$tmp"/examples/*
# example NAME OUTPUT COMMAND...: prints that, and adds a line to the log
example() {
    name=$1 want=$2
    shift 2
    : >"$tmp/srv/app/log"
    got=$(cd "$tmp/examples" && PATH=$tmp/bin:$PATH as 2001 "$@" 2>&1 </dev/null)
    code=$?
    if [ $code = 0 ] && [ "$got" = "$want" ] && [ "$(cat "$tmp/srv/app/log")" = read ]; then ok; else
        bad "example $name: exit status $code, said: $got, wrote: $(cat "$tmp/srv/app/log")"
    fi
}
milk='remember the milk'
example php "$milk
Permission denied" php -d include_path="$tmp/php" php

if [ -n "$python" ]; then
    install -m 0644 client/python/fob.py "$tmp/php/"
    example python "$milk
Permission denied" env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$tmp/php" "$python" python
fi

node=
for candidate in node /usr/bin/node; do
    if [ -z "$node" ] && as 2001 "$candidate" -e 0 2>/dev/null; then node=$candidate; fi
done
if [ -n "$node" ]; then
    ln -s "$(command -v "$node")" "$tmp/bin/node" 2>/dev/null
    example node "$milk" sh node
    example later.js "$milk
fob: /etc/shadow: Permission denied (refused by policy)" node later.js

    # A request by hand: the reply says that there is a descriptor, and none is there.
    cat >"$tmp/examples/net.js" <<'EOF'
const fs = require('node:fs'), net = require('node:net');
const [, , socket, path] = process.argv, name = Buffer.from(path);
const request = Buffer.alloc(16 + 12 + Math.ceil(name.length / 4) * 4);
const le = require('node:os').endianness() === 'LE';
const u32 = (v, at) => le ? request.writeUInt32LE(v, at) : request.writeUInt32BE(v, at);
const u16 = (v, at) => le ? request.writeUInt16LE(v, at) : request.writeUInt16BE(v, at);
request.write('FOB1');
u32(request.length, 4); u16(1, 8); u16(1, 10); u32(7, 12); // OPEN, one entry
u32(1, 16); u16(name.length, 24); name.copy(request, 28);  // READ
const file = fs.statSync(path);
const isHere = () => fs.readdirSync('/proc/self/fd').some((fd) => {
    try { const open = fs.fstatSync(+fd); return open.ino === file.ino && open.dev === file.dev; } catch { return false; }
});
const connection = net.connect(socket, () => connection.write(request));
connection.on('error', (error) => { console.log(error.code); });
connection.on('data', (reply) => {
    console.log('error', reply.readInt32LE(16), 'descriptor', reply.readUInt32LE(24), isHere());
    connection.end();
});
EOF
    says() { # WHAT WANTED ARGUMENTS OF NODE...
        what=$1 want=$2
        shift 2
        got=$(as 2001 "$node" "$@" 2>&1 </dev/null)
        if [ "$got" = "$want" ]; then ok; else bad "$what: $got"; fi
    }
    says "node:net, a stream" "error 0 descriptor 0 false" "$tmp/examples/net.js" "$tmp/stream" "$tmp/srv/app/notes.txt"
    says "node:dgram" ERR_SOCKET_BAD_TYPE -e "try { require('node:dgram').createSocket('unix_dgram') } catch (error) { console.log(error.code) }"
    says "node:net, packets" EPROTOTYPE "$tmp/examples/net.js" "$tmp/sock" "$tmp/srv/app/notes.txt"

    # The channel of child_process takes no file.
    cat >"$tmp/examples/fork.js" <<'EOF'
const fs = require('node:fs'), { spawn } = require('node:child_process');
const file = fs.openSync('/dev/null');
if (process.argv[2] === 'child') {
    process.on('message', (message, handle) => { console.log(message, handle); process.disconnect(); });
} else {
    const child = spawn(process.execPath, [__filename, 'child'], { stdio: ['inherit', 'inherit', 'inherit', 'ipc'] });
    try { child.send('file', fs.createReadStream('', { fd: file })); } catch (error) { console.log(error.code); child.disconnect(); }
}
EOF
    says "node:child_process, a file" ERR_INVALID_HANDLE_TYPE "$tmp/examples/fork.js"
else
    echo "not tested: what is said of Node.js: no node that an ordinary user can run"
fi

kill "$fobd"
wait "$fobd"
status=$?
fobd=
if [ $status = 0 ]; then ok; else
    bad "fobd: exit status $status"
    cat "$tmp/log"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
