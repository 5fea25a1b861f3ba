#!/bin/sh
# trace.sh: messages of both protocols as `fob trace` prints them, byte for byte. UPDATE=1 writes the files anew; look at the
# difference before it is committed. tests/unit/test_trace.c reads the .msg files and says what they are made of.
set -u
: "${BUILD:?the build folder}"
decoder=$BUILD/tests/test_trace
if [ ! -x "$decoder" ]; then
    echo "skipped: $decoder is not built (make tests)"
    exit 77
fi
passed=0 failed=0
tmp=$(mktemp -d /tmp/fob-trace.XXXXXX)
trap 'rm -rf "$tmp"' EXIT

for file in tests/golden/trace/*.msg; do
    want=${file%.msg}.want
    "$decoder" --decode "$file" >"$tmp/got" 2>&1
    echo "exit status $?" >>"$tmp/got"
    if [ -n "${UPDATE:-}" ]; then
        cp "$tmp/got" "$want"
    elif ! diff -u "$want" "$tmp/got"; then
        failed=$((failed + 1))
        continue
    fi
    passed=$((passed + 1))
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
