#!/bin/sh
# policy.sh: what fobd says about policies and configurations with mistakes, byte for byte. UPDATE=1 writes the files anew; look at the
# difference before it is committed.
set -u
: "${BUILD:?the build folder}"
cd tests/golden || exit 1
passed=0 failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod go-w policy/* config/* 2>/dev/null

compare() { # WANT, what was said in $tmp/got
    if [ -n "${UPDATE:-}" ]; then
        cp "$tmp/got" "$1"
    elif ! diff -u "$1" "$tmp/got"; then
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + 1))
}

printf 'user 64999\n' >"$tmp/conf"
for file in policy/*.policy; do
    "$BUILD/fobd" -t -f "$tmp/conf" -p "$file" >"$tmp/got" 2>&1
    echo "exit status $?" >>"$tmp/got"
    compare "${file%.policy}.err"
done
for file in config/*.conf; do
    "$BUILD/fobd" -n -f "$file" >"$tmp/got" 2>&1
    echo "exit status $?" >>"$tmp/got"
    compare "${file%.conf}.err"
done

# A policy directory named by a symlink: fine, but for one that somebody else could turn.
mkdir "$tmp/real.d"
printf 'allow user:0 read /srv/x\n' >"$tmp/real.d/a.policy"
ln -s real.d "$tmp/link.d"
"$BUILD/fobd" -t -f "$tmp/conf" -p "$tmp/link.d" >"$tmp/got" 2>&1
echo "exit status $?" >>"$tmp/got"
if [ "$(id -u)" = 0 ]; then
    chown -h 2001 "$tmp/link.d"
    "$BUILD/fobd" -t -f "$tmp/conf" -p "$tmp/link.d" 2>&1 | sed "s,$tmp/,," >>"$tmp/got"
    compare policy/symlink.err
fi

# Files that come and go while the directory is read: each time it loads whole, or says what is missing.
mkdir "$tmp/busy.d"
printf 'allow user:0 read /srv/x\n' >"$tmp/busy.d/a.policy"
(while [ -d "$tmp/busy.d" ]; do
    printf 'allow user:0 read /srv/y\n' >"$tmp/busy.d/b.policy"
    rm -f "$tmp/busy.d/b.policy"
done) 2>/dev/null &
busy=$!
i=0
while [ $i -lt 200 ]; do
    i=$((i + 1))
    if "$BUILD/fobd" -t -f "$tmp/conf" -p "$tmp/busy.d" >"$tmp/got" 2>&1; then
        [ ! -s "$tmp/got" ] || break
    else
        [ "$(sed "s,$tmp/,," "$tmp/got")" = "busy.d/b.policy: No such file or directory" ] || break
    fi
done
kill "$busy" 2>/dev/null
wait "$busy" 2>/dev/null
if [ $i = 200 ]; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "a file that vanished: neither loaded nor said:"
    cat "$tmp/got"
fi

# Every message of the source must have been said: the longest piece of each text that has no % in it.
cat policy/*.err config/*.err >"$tmp/said"
grep -ohE '(parse_error|message_error|fail|fail_at|complain)\([^;]*' ../../policy/parse*.c ../../policy/lex.c ../../policy/load.c ../../broker/config_read.c |
    grep -oE '"([^"\\]|\\.)*"' >"$tmp/texts"
sed -n 's/^ *\(why\|return\)[^"]*\("\([^"\\]\|\\.\)*"\).*/\2/p' ../../policy/lex.c >>"$tmp/texts"
sed -e 's/^"//' -e 's/"$//' -e 's/%%/%/g' "$tmp/texts" | awk '
    { n = split($0, part, /%[-.*0-9l]*[a-z]|\\./); best = ""
      for (i = 1; i <= n; i++) if (length(part[i]) > length(best)) best = part[i]
      if (length(best) > 12) print best }' | sort -u >"$tmp/pieces"
while IFS= read -r piece; do
    if grep -qF -- "$piece" "$tmp/said"; then
        passed=$((passed + 1))
    elif grep -qxF -- "$piece" unsaid.txt; then
        :
    else
        failed=$((failed + 1))
        echo "no golden file makes fobd say: $piece"
    fi
done <"$tmp/pieces"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
