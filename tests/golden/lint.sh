#!/bin/sh
# lint.sh: what `fobctl check` warns of, byte for byte. UPDATE=1 writes the files anew; look at the difference before it is committed.
set -u
: "${BUILD:?the build folder}"
golden=$PWD/tests/golden/lint examples=$PWD/policy/examples
passed=0 failed=0
umask 022 # what others can write is refused
tmp=$(mktemp -d /tmp/fob-lint.XXXXXX) # of one length: long lines are shown cut
tmp=$(realpath "$tmp")
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/lint"
cp "$golden"/*.policy "$tmp/lint"
cd "$tmp" || exit 1

check() { # POLICY WANT
    "$BUILD/fobctl" check "$1" >"$tmp/said" 2>&1
    echo "exit status $?" >>"$tmp/said"
    sed "s,$tmp,TMP,g" "$tmp/said" >"$tmp/got"
    if [ -n "${UPDATE:-}" ]; then
        cp "$tmp/got" "$golden/$2"
    elif ! diff -u "$golden/$2" "$tmp/got"; then
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + 1))
}

for file in lint/*.policy; do
    name=${file##*/}
    check "$file" "${name%.policy}.want"
done

# What depends on the machine: symlinks, where the policy itself lies, a directory of files.
mkdir "$tmp/real" "$tmp/policy.d"
ln -s real "$tmp/link"
ln -s missing "$tmp/nowhere"
ln -s / "$tmp/root"
ln -s policy.d "$tmp/by-another-name"
ln -s real "$tmp/$(printf 'a\033b')"
cat >"$tmp/links.policy" <<END
set @linked = $tmp/link/in-a-set
allow user:1 read $tmp/link/x $tmp/real/x
allow user:2 read $tmp/link/**/*.{a,b}
deny  user:3 read $tmp/link
allow user:4 read $tmp/{link,real}/x
allow user:5 read $tmp/nowhere/x $tmp/missing/x
allow user:6+exe:$tmp/link/program read $tmp/real/y
allow user:7 read @linked
allow user:8 read @linked
allow user:9 read $tmp/*/x
deny  user:9 read $tmp/root $tmp/root/etc/*
deny  user:9 list $tmp/real/link $tmp/l*/x
allow user:9 read "$tmp/a\\x1bb/c"
END
check "$tmp/links.policy" links.want

cat >"$tmp/policy.d/10-a.policy" <<END
allow user:1 write $tmp/*/*.policy
allow user:2 write $tmp/policy.d $tmp/other/**
allow user:3 read  /fob-lint/**
END
echo 'allow user:3 read /fob-lint/x' >"$tmp/policy.d/20-b.policy"
check "$tmp/by-another-name" directory.want
echo "allow user:1 write $tmp/[f-h]*" >"$tmp/file.policy"
check "$tmp/file.policy" file.want

# Those whose example is followed have nothing to be warned of.
for file in "$examples"/*.policy; do
    cp "$file" "$tmp/example.policy"
    check "$tmp/example.policy" clean.want
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
