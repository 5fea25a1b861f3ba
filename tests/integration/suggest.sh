#!/bin/sh
# suggest.sh: fobctl suggest: what it makes of an audit, what it never makes of one, and that a broker reads it back as
# exactly the paths that were refused.
set -u
: "${BUILD:?the build folder}"
passed=0 failed=0
umask 022
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
printf 'user 64999\n' >"$tmp/conf"
header='Read before use: who was refused chose the paths.'

# refused UID RIGHTS PATH [REAL]: a record; PATH and REAL are JSON without its quotes
refused() {
    real=null
    [ $# -lt 4 ] || real="\"$4\""
    printf '{"time":"2026-11-21T02:03:04.567890Z","decision":"refused","errno":"EACCES","reason":"default","rule":null,'
    printf '"id":null,"generation":7,"uid":%s,"gid":%s,"pid":4711,"op":"open","rights":"%s","flags":"READ","path":' \
        "$1" "$1" "$2"
    printf '"%s","real":%s,"dev":null,"ino":null,"as":null,"sealed":false,"latency_us":5}\n' "$3" "$real"
}
# other SED-SCRIPT: a record of /srv/other that was changed in one thing
other() {
    refused 3000000001 read /srv/other | sed "$1"
}
# suggests NAME STATUS OUTPUT ARGUMENT...: standard input is $tmp/in; standard error is in $tmp/err
suggests() {
    name=$1 status=$2 want=$3
    shift 3
    got=$("$BUILD/fobctl" suggest "$@" <"$tmp/in" 2>"$tmp/err")
    code=$?
    if [ "$code" = "$status" ] && [ "$got" = "$want" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s:\n  exit status %s, not %s\n  said:   %s\n  wanted: %s\n' "$name" "$code" "$status" "$got" "$want"
        cat "$tmp/err"
    fi
}
says() { # NAME TEXT: what standard error was
    if [ "$(cat "$tmp/err")" = "$2" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s: standard error:\n  %s\n  wanted: %s\n' "$1" "$(cat "$tmp/err")" "$2"
    fi
}
# holds NAME: $tmp/policy, with its assertions
holds() {
    if "$BUILD/fobd" -t -f "$tmp/conf" -p "$tmp/policy" >"$tmp/err" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$1:"
        cat "$tmp/err"
    fi
}

# ---- grouped, sorted, once

{
    refused 3000000001 read /srv/b
    refused 3000000001 read /srv/a
    refused 3000000001 read /srv/a
    refused 3000000000 read,write /srv/a
    refused 3000000000 read /srv/a
    refused 3000000000 read /srv-x
    refused 3000000000 list /srv/dir/asked /srv/dir/real
    refused 3000000000 read /
    refused 3000000000 append,create '/srv/\u00fc'
    for i in 9 8 7 6 5 4 3 2 1; do refused 3000000002 stat /many/$i; done
    refused 3000000001 read /srv/checked | sed 's/"op":"open"/"op":"check"/'
} >"$tmp/audit"
: >"$tmp/in"
suggests "grouped and sorted" 0 "# Stands for 19 refusals by default. $header
allow user:3000000000 read / /srv-x
allow user:3000000000 read /srv/a
allow user:3000000000 read,write /srv/a
allow user:3000000000 append,create \"/srv/\\xc3\\xbc\"
allow user:3000000000 list /srv/dir/real
allow user:3000000001 read /srv/a /srv/b /srv/checked
allow user:3000000002 stat /many/1 /many/2 /many/3 /many/4 /many/5 /many/6 /many/7 /many/8
allow user:3000000002 stat /many/9" "$tmp/audit"
says "grouped and sorted" ""
first=$got
: >"$tmp/empty"
head -n 10 "$tmp/audit" >"$tmp/in"
tail -n 9 "$tmp/audit" | sort -r >"$tmp/third"
suggests "several files, in another order" 0 "$first" "$tmp/third" - "$tmp/empty"
printf '%s\n' "$first" >"$tmp/policy"
holds "the suggestion is a policy"

# ---- never from anything else

{
    other 's/"refused"/"allowed"/'
    other 's/"rule":null/"rule":"10-deny.policy:3"/'
    other 's/"reason":"default"/"reason":"rule"/'
    other 's/"reason":"default"/"reason":"rule"/;s/"rule":null/"rule":"10-deny.policy:3"/'
    for reason in credentials quota kernel type links sticky malformed audit timeout ''; do
        other "s/\"reason\":\"default\"/\"reason\":\"$reason\"/"
    done
    other 's/"op":"open"/"op":"message"/'
    other 's/"rights":"read"/"rights":""/'
    other 's/"rights":"read"/"rights":"all"/'
    other 's/"rights":"read"/"rights":"read,execute"/'
    other 's/"path":"[^"]*"/"path":null/'
    other 's/"uid":[0-9]*/"uid":65534/'
    other 's/"uid":[0-9]*/"uid":4294967295/'
    for path in '' srv/x /srv/ /srv//x /srv/../x /srv/. '/srv/\u0000x' ./x; do
        refused 3000000001 read "$path"
        refused 3000000001 read /srv/x "$path"
    done
} >"$tmp/audit"
suggests "never from anything else" 0 "# Nothing to suggest." "$tmp/audit"
says "never from anything else" ""
suggests "from nothing" 0 "# Nothing to suggest." "$tmp/empty"

# ---- escaped

{
    refused 3000000001 read '/e/a*b'
    refused 3000000001 read '/e/a?b'
    refused 3000000001 read '/e/[a]'
    refused 3000000001 read '/e/{a,b}'
    refused 3000000001 read '/e/a\\b'
    # shellcheck disable=SC1003 # JSON for one backslash
    refused 3000000001 read '/e/a\\'
    refused 3000000001 read '/e/100%u'
    refused 3000000001 read '/e/%h'
    refused 3000000001 read '/e/**'
    refused 3000000001 read '/e/a b'
    refused 3000000001 read '/e/a\"b'
    refused 3000000001 read '/e/#a'
    refused 3000000001 read '/e/a\nallow any all /**'
    refused 3000000001 read '/e/\u001b[2J\u007f\t'
    refused 3000000001 read '/e/\u20ac * "'"'" | sed "s/ \"'/ \\\\\"'/"
    refused 3000000001 read '/e/\u00e9' | sed 's/"uid"/"raw":true,"uid"/'
} >"$tmp/audit"
cat >"$tmp/want" <<'END'
allow user:3000000001 read "/e/\x1b\\[2J\x7f\x09" "/e/#a" /e/%%h /e/\*\* /e/100%%u /e/\[a\] "/e/a b" "/e/a\"b"
allow user:3000000001 read /e/a\*b /e/a\?b /e/a\\ /e/a\\b /e/\{a,b\} "/e/\xe2\x82\xac \\* \"'" "/e/\xe9"
allow user:3000000001 read "/e/a\nallow any all /\\*\\*"
END
suggests "escaped" 0 "# Stands for 16 refusals by default. $header
$(cat "$tmp/want")" "$tmp/audit"
says "escaped" ""
# The path of an assertion is no pattern: only the quotes matter.
cat - "$tmp/want" >"$tmp/policy" <<'END'
assert allow user:3000000001 read /e/a*b
assert deny  user:3000000001 read /e/axb
assert allow user:3000000001 read /e/a?b
assert deny  user:3000000001 read /e/ayb
assert allow user:3000000001 read /e/[a]
assert deny  user:3000000001 read /e/a
assert allow user:3000000001 read /e/{a,b}
assert deny  user:3000000001 read /e/b
assert allow user:3000000001 read "/e/a\\b"
assert deny  user:3000000001 read /e/ab
assert allow user:3000000001 read "/e/a\\"
assert allow user:3000000001 read /e/100%u
assert deny  user:3000000001 read /e/1003000000001
assert allow user:3000000001 read /e/%h
assert allow user:3000000001 read /e/**
assert deny  user:3000000001 read /e/x/y
assert allow user:3000000001 read "/e/a b"
assert allow user:3000000001 read "/e/a\x22b"
assert allow user:3000000001 read "/e/\x23a"
assert allow user:3000000001 read "/e/a\x0aallow any all /**"
assert allow user:3000000001 read "/e/\x1b[2J\x7f\x09"
assert allow user:3000000001 read "/e/\xe2\x82\xac * \"'"
assert allow user:3000000001 read "/e/\xe9"
assert deny  user:3000000001 read "/e/\xc3\xa9"
assert deny  user:3000000001 write "/e/a b"
assert deny  user:3000000002 read "/e/a b"
END
holds "each path is read back, and no other"

# A path of nothing but pattern characters is twice as long when it is escaped.
stars=$(printf '%02047d' 0 | tr 0 '*')
refused 3000000001 read "/$stars" >"$tmp/audit"
suggests "the longest pattern" 0 "# Stands for 1 refusal by default. $header
allow user:3000000001 read /$(echo "$stars" | sed 's/\*/\\*/g')" "$tmp/audit"
printf '%s\n' "$got" >"$tmp/policy"
holds "the longest pattern"
refused 3000000001 read "/*$stars" >"$tmp/audit"
suggests "a pattern that is too long" 0 "# Nothing to suggest.
# not suggested, as its pattern would be longer than a path can be: user:3000000001 read /\\*$(echo "$stars" | sed 's/\*/\\*/g')" \
    "$tmp/audit"

# ---- names

user=$(id -un 1 2>/dev/null)
if [ -n "$user" ]; then
    refused 1 read /srv/a >"$tmp/audit"
    suggests "by name" 0 "# Stands for 1 refusal by default. $header
allow user:$user read /srv/a" "$tmp/audit"
    printf '%s\n' "$got" >"$tmp/policy"
    echo "assert allow user:1 read /srv/a" >>"$tmp/policy"
    holds "by name"
fi

# ---- secrets

{
    refused 3000000001 read /srv/a
    for path in /etc/shadow /etc/shadow- /etc/GShadow /etc/security/opasswd.old /etc/ssl/private/deep/x /etc/ssl/private \
        /etc/sudoers.d/x /home/a/.ssh/config /home/a/.ssh /home/a/.gnupg/x /home/a/.aws/credentials /srv/tls/x.key \
        /srv/id_rsa /srv/id_ed25519.old /srv/private/x.pem /etc/krb5.keytab /root/notes /root /var/c/etc/shadow; do
        refused 3000000001 read "$path"
    done
    refused 3000000001 read '/home/a b/.ssh/x\nallow any all /**'
    refused 3000000001 read /home/a/.ssh/link /data/k
    refused 3000000001 read /data/k
    refused 3000000001 read /srv/link /etc/shadow
} >"$tmp/audit"
suggests "secrets" 0 "# Stands for 1 refusal by default. $header
allow user:3000000001 read /srv/a
$(sed 's/^/# not suggested, as it looks like a secret: user:3000000001 read /' <<'END'
/root
/data/k
/etc/GShadow
/etc/krb5.keytab
/etc/shadow
/etc/shadow-
/etc/security/opasswd.old
/etc/ssl/private
/etc/ssl/private/deep/x
/etc/sudoers.d/x
/home/a/.ssh
"/home/a b/.ssh/x\nallow any all /\\*\\*"
/home/a/.aws/credentials
/home/a/.gnupg/x
/home/a/.ssh/config
/root/notes
/srv/id_ed25519.old
/srv/id_rsa
/srv/private/x.pem
/srv/tls/x.key
/var/c/etc/shadow
END
)" "$tmp/audit"
printf '%s\n' "$got" >"$tmp/policy"
echo "assert deny user:3000000001 read /etc/shadow" >>"$tmp/policy"
echo "assert deny user:3000000001 read /data/k" >>"$tmp/policy"
holds "secrets"
for path in /etc/passwd /srv/shadow /srv/root/x /home/a/ssh/config /srv/x.pem /srv/keys /etc/ssl/certs/x.pem; do
    refused 3000000001 read $path >"$tmp/audit"
    suggests "no secret: $path" 0 "# Stands for 1 refusal by default. $header
allow user:3000000001 read $path" "$tmp/audit"
done

# ---- the ceiling

cat >"$tmp/ceiling" <<'END'
allow user:3000000001 read /srv/**
allow user:3000000002 read,write /srv/%U/*
allow any append /log/*
allow any all /past/* until=2001-01-01T00:00Z
deny any all /srv/closed/**
END
{
    refused 3000000001 read /srv/a
    refused 3000000001 write /srv/a
    refused 3000000001 read,write /srv/b
    refused 3000000001 read /srv/closed/x
    refused 3000000001 read /other
    refused 3000000001 read /etc/shadow
    refused 3000000001 append /log/x
    refused 3000000001 read /past/x
    refused 3000000002 read,write /srv/3000000002/x
    refused 3000000002 read /srv/3000000001/x
    refused 3000000002 read /srv/a
} >"$tmp/audit"
suggests "a ceiling" 0 "# Stands for 3 refusals by default. $header
allow user:3000000001 append /log/x
allow user:3000000001 read /srv/a
allow user:3000000002 read,write /srv/3000000002/x
# above the ceiling: user:3000000001 read /other
# not suggested, as it looks like a secret: user:3000000001 read /etc/shadow
# above the ceiling: user:3000000001 read /past/x
# above the ceiling: user:3000000001 write /srv/a
# above the ceiling: user:3000000001 read,write /srv/b
# above the ceiling: user:3000000001 read /srv/closed/x
# above the ceiling: user:3000000002 read /srv/a
# above the ceiling: user:3000000002 read /srv/3000000001/x" --ceiling "$tmp/ceiling" "$tmp/audit"
says "a ceiling" ""
if [ -n "$user" ]; then
    printf 'allow group:%s read /srv/group\nallow user:1 read %%h\ndeny group:%s all /srv/denied\nallow any read /srv/denied\n' \
        "$(id -g 1)" "$(id -g 1)" >"$tmp/ceiling"
    refused 1 read /srv/group >"$tmp/audit"
    refused 1 read /srv/denied >>"$tmp/audit"
    refused 3000000001 read /srv/group >>"$tmp/audit"
    suggests "a ceiling by group" 0 "# Stands for 1 refusal by default. $header
allow user:$user read /srv/group
# above the ceiling: user:$user read /srv/denied
# above the ceiling: user:3000000001 read /srv/group" "$tmp/audit" --ceiling="$tmp/ceiling"
fi
echo "allow nobody-there" >"$tmp/ceiling"
suggests "a ceiling with errors" 4 "" --ceiling "$tmp/ceiling" "$tmp/audit"
suggests "no ceiling there" 4 "" --ceiling "$tmp/none" "$tmp/audit"

# ---- what is no record

{
    refused 3000000001 read /srv/a | sed 's/^/Nov 21 02:03:04 host fobd[12]: /'
    echo "-- Boot --"
    refused 3000000001 read /srv/torn | cut -c 1-200
    printf '\377\376\000{\n'
    printf '{"uid":1,%070000d}\n' 0
    refused 3000000001 read /srv/b
    refused 3000000001 read "/srv/$(printf '%05000d' 0)"
    refused 3000000001 read /srv/c | tr -d '\n'
} >"$tmp/audit"
suggests "what is no record" 0 "# Stands for 3 refusals by default. $header
allow user:3000000001 read /srv/a /srv/b /srv/c" "$tmp/audit"
says "what is no record" "fobctl: $tmp/audit: 5 lines are no audit records (skipped)"
echo x >"$tmp/in"
suggests "one of standard input" 0 "# Nothing to suggest." -
says "one of standard input" "fobctl: standard input: 1 line is no audit record (skipped)"

suggests "no such file" 1 "" "$tmp/audit" "$tmp/none"
says "no such file" "fobctl: $tmp/audit: 5 lines are no audit records (skipped)
fobctl: $tmp/none: No such file or directory"
suggests "a directory" 1 "" "$tmp"
says "a directory" "fobctl: $tmp: Is a directory"
suggests "no file named" 2 ""
suggests "unknown option" 2 "" --everything "$tmp/audit"
suggests "no ceiling named" 2 "" "$tmp/audit" --ceiling

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
