#!/bin/sh
# diff.sh: what fobctl diff says about pairs of policies, byte for byte. UPDATE=1 writes the files anew; look at the
# difference before it is committed.
set -u
: "${BUILD:?the build folder}"
cd tests/golden/diff || exit 1
passed=0 failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

for old in *.old; do
    name=${old%.old}
    # Copies: who checked the tree out may let others write it, which a policy must not.
    (umask 022 && cp "$old" "$tmp/old.policy" && cp "$name.new" "$tmp/new.policy" && chmod 0644 "$tmp"/*.policy)
    "$BUILD/fobctl" diff -p "$tmp/old.policy" "$tmp/new.policy" >"$tmp/got" 2>&1
    echo "exit status $?" >>"$tmp/got"
    if [ -n "${UPDATE:-}" ]; then
        cp "$tmp/got" "$name.want"
    elif ! diff -u "$name.want" "$tmp/got"; then
        failed=$((failed + 1))
        continue
    fi
    passed=$((passed + 1))
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
