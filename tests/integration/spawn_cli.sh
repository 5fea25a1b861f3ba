#!/bin/sh
# spawn_cli.sh: fob --spawn, and fob_spawn() beneath it: a broker of one's own on a socketpair, which ends with the command.
set -u
: "${BUILD:?the build folder}"
if [ "$(id -u)" != 0 ]; then
    echo "skipped: becomes other users, so it needs root"
    exit 77
fi
passed=0 failed=0
tmp=$(mktemp -d /tmp/fob-spawn.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
chmod 755 "$tmp"
cp "$BUILD/fob" "$BUILD/fobd" "$tmp/" # the build folder may be root's alone
mkdir -p "$tmp/config/fob/policy.d" "$tmp/files"
cat >"$tmp/config/fob/policy.d/own.policy" <<END
allow user:2001 read,list,write $tmp/files/**
deny any all $tmp/files/secret
END
echo kept >"$tmp/files/notes"
echo secret >"$tmp/files/secret"
echo root >"$tmp/files/roots"
chown -R 2001:2001 "$tmp/config" "$tmp/files"
chown 0 "$tmp/files/roots"
chmod 600 "$tmp/files/roots" "$tmp/files/notes"

as() { # ARGUMENT...: fob as uid 2001
    setpriv --reuid 2001 --regid 2001 --clear-groups env -i PATH=/usr/bin:/bin XDG_CONFIG_HOME="$tmp/config" \
        HOME="$tmp" "$tmp/fob" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    status=$?
}
expect() { # WHAT STATUS PART-OF-OUTPUT [PART-OF-ERRORS]
    if [ "$status" = "$2" ] && { [ -z "$3" ] || grep -qF -e "$3" "$tmp/out"; } &&
        { [ -z "${4:-}" ] || grep -qF -e "$4" "$tmp/err"; }; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$1: exit status $status, not $2; said:"
        sed 's/^/    /' "$tmp/out" "$tmp/err"
    fi
}
none_left() { # WHAT
    for i in 1 2 3 4 5 6 7 8 9 10 x; do
        pgrep -f "^$tmp/fobd" >/dev/null || break
        sleep 0.2
    done
    if [ "$i" = x ]; then
        failed=$((failed + 1))
        echo "$1: a broker is left behind"
    else
        passed=$((passed + 1))
    fi
}

as --spawn="$tmp/fobd" cat "$tmp/files/notes"
expect cat 0 kept '"decision":"allowed"'
none_left cat
as --spawn "$tmp/fobd" cat "$tmp/files/secret" "$tmp/files/notes" /etc/passwd
expect "refused by the user's own policy" 1 kept "secret: Permission denied"
as --spawn="$tmp/fobd" cat "$tmp/files/roots"
expect "the user's own rights" 1 "" "roots: Permission denied"
as --spawn="$tmp/fobd" ping
expect ping 0 "served by a broker of its own"
as --spawn="$tmp/fobd" list
expect list 0 "read,write,list $tmp/files/**"
as --spawn="$tmp/fobd" exec --fd 7="$tmp/files/notes" -- sh -c 'cat <&7; ls /proc/self/fd | tr "\n" " "'
expect exec 0 kept
none_left exec
as --spawn="$tmp/nothing" ping
expect "no such program" 3 "" "nothing: No such file or directory (it cannot be started as a broker)"
as --spawn=/bin/false ping
expect "a program that does not serve" 3 "" "/bin/false: Connection reset by peer (it cannot be started as a broker)"
as --spawn="$tmp/fobd" -s "$tmp/sock" ping
expect "both" 2 "" "a socket or a program, not both"
as --spawn="$tmp/fobd" trace "$tmp/files/relay"
expect "trace" 2 "" "has nobody else to be traced"
# A policy with an error: said, and nothing is served.
echo nonsense >"$tmp/config/fob/policy.d/own.policy"
as --spawn="$tmp/fobd" cat "$tmp/files/notes"
expect "a bad policy" 3 "" "own.policy:1"
[ "$(grep -c "begins no statement" "$tmp/err")" = 1 ] || {
    failed=$((failed + 1))
    echo "a bad policy is said more than once, or not at all"
}
none_left "all"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
