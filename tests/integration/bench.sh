#!/bin/sh
# bench.sh: does the bench work still? One round of a few samples: every row is there, the JSON can be read, the curves can
# be drawn by what reads them; and nothing is left, even when it is told to end. What it measures here says nothing.
set -u
: "${BUILD:?the build folder}"
if [ "$(id -u)" != 0 ]; then
    echo "skipped: needs root (several uids)"
    exit 77
fi
passed=0 failed=0
tmp=$(mktemp -d /tmp/fob-test.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
chmod 0755 "$tmp"
export TMPDIR="$tmp" BENCH_JSON="$tmp/bench.json"
bench=$BUILD/tests/bench/bench

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    printf '%s\n' "$*"
}
holds() { # WHAT COMMAND...
    what=$1
    shift
    if "$@" >"$tmp/out" 2>&1; then ok; else bad "$what: $(cat "$tmp/out")"; fi
}
has() { # TEXT: in the JSON
    holds "$1" grep -qF "$1" "$BENCH_JSON"
}
nothing_is_left() {
    left=$(find "$tmp" -name 'fob-bench.*')
    holds "left: $left" [ -z "$left" ]
    left=$(grep -l "$tmp/[f]ob-bench" /proc/[0-9]*/cmdline 2>/dev/null)
    holds "left: $left" [ -z "$left" ]
}

if "$bench" tiny single parts whole users >"$tmp/table" 2>&1; then ok; else bad "bench: $(cat "$tmp/table")"; fi
nothing_is_left
if command -v python3 >/dev/null; then
    holds "the JSON" python3 -m json.tool "$BENCH_JSON"
fi
for measure in 'one open: p50' 'batch of 64: a descriptor' 'connect, open, close' 'all of these together' \
    'fob cat FILE, whole process' 'as=caller, one user in a row'; do
    has "\"measure\":\"$measure\""
done
has '"curve":"users"'
holds "a section failed: $(cat "$tmp/table")" [ "$(grep -c 'failed: see above' "$tmp/table")" = 0 ]

"$bench" full single >"$tmp/ended" 2>&1 &
pid=$!
i=0
until grep -qs "one open" "$tmp/ended" || [ $i = 100 ]; do
    i=$((i + 1))
    sleep 0.1
done
kill "$pid" || bad "it has ended by itself: $(cat "$tmp/ended")"
wait "$pid"
holds "told to end" [ $? = 1 ]
nothing_is_left

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
