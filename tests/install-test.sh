#!/bin/sh
# install-test.sh: `make install` into a temporary folder: paths and modes, a program compiled against it by pkg-config
# (shared and static), what the libraries export, how the programs are hardened; `make uninstall` leaves nothing.
set -eu

: "${BUILD:?the build folder}"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
root=$dir/root
errors=0

fail() {
    echo "install-test: $*"
    errors=$((errors + 1))
}
# The caller's variables (CC=..., DEV=1) come by MAKEFLAGS; its job server is not ours to use.
MAKEFLAGS=$(printf '%s' "${MAKEFLAGS:-}" | sed -E 's/(^| )(-j[0-9]*|--jobserver-[a-z]*=[^ ]*)//g')
export MAKEFLAGS
do_make() {
    make -s --no-print-directory "$@" BUILD="$BUILD" DESTDIR="$root" PREFIX=/usr sysconfdir=/etc
}

expected_files() {
    printf '%s\n' "755 /usr/sbin/fobd" "755 /usr/bin/fob" "644 /usr/lib/libfob.so.1" "777 /usr/lib/libfob.so" \
        "644 /usr/lib/libfob.a" "644 /usr/lib/pkgconfig/libfob.pc" "644 /usr/include/fob.h"
    [ ! -e "$BUILD/fobctl" ] || echo "755 /usr/sbin/fobctl"
    for name in fob fobctl; do
        echo "644 /usr/share/bash-completion/completions/$name"
        echo "644 /usr/share/zsh/site-functions/_$name"
    done
    for client in client/python/*.py; do echo "644 /usr/lib/python3/dist-packages/${client##*/}"; done
    for client in client/php/*.php; do [ ! -e "$client" ] || echo "644 /usr/share/php/${client##*/}"; done
    for example in policy/examples/*.policy; do
        echo "644 /usr/share/doc/fob/examples/${example##*/}"
    done
    for page in man/*.[1-8]; do
        [ ! -e "$page" ] || echo "644 /usr/share/man/man${page##*.}/${page##*/}"
    done
}
check_files() {
    (cd "$root" && find . ! -type d -printf '%m /%P\n') | sort >"$dir/got"
    expected_files | sort >"$dir/expected"
    diff -u "$dir/expected" "$dir/got" || fail "installed files or modes are not as expected"
    [ -z "$(find "$root" -type d ! -perm 755)" ] || fail "a folder is not 0755"
    [ -d "$root/etc/fob/policy.d" ] || fail "sysconfdir=/etc did not make /etc/fob/policy.d"
    [ "$(readlink "$root/usr/lib/libfob.so")" = libfob.so.1 ] || fail "libfob.so does not point at libfob.so.1"
}

# Ten lines of somebody's own, with a name that is internal to us: static linking must not clash with it.
program() {
    cat <<'PROGRAM'
#include <errno.h>
#include <fob.h>
#include <stdio.h>
int wire_decode_header(void) { return 7; }
int main(void)
{
    struct fob *fob = fob_connect("/nonexistent/fob.sock");
    printf("%d %d %d\n", fob != NULL, errno == ENOENT, wire_decode_header());
    return fob != NULL;
}
PROGRAM
}
check_compile() {
    export PKG_CONFIG_SYSROOT_DIR="$root" PKG_CONFIG_LIBDIR="$root/usr/lib/pkgconfig"
    # shellcheck disable=SC2046 # flags are words
    set -- $(pkg-config --cflags --libs libfob)
    pkg-config --exists 'libfob >= 0.1' || fail "pkg-config does not know libfob's version"
    program >"$dir/program.c"
    ${CC:-cc} -Wall -Wextra -Werror -o "$dir/shared" "$dir/program.c" "$@" || fail "does not compile against libfob.so"
    readelf -d "$dir/shared" | grep -q 'NEEDED.*libfob\.so\.1' || fail "the shared program does not need libfob.so.1"
    out=$(LD_LIBRARY_PATH=$root/usr/lib "$dir/shared" || true)
    [ "$out" = "0 1 7" ] || fail "the shared program said: $out"

    ${CC:-cc} -Wall -Wextra -Werror -o "$dir/static" "$dir/program.c" -I"$root/usr/include" "$root/usr/lib/libfob.a" ||
        fail "does not compile against libfob.a"
    out=$("$dir/static" || true)
    [ "$out" = "0 1 7" ] || fail "the static program said: $out"
}
check_header_alone() { # in strict C, and in C++ where there is a compiler
    echo '#include <fob.h>' | ${CC:-cc} -std=c99 -pedantic -Wall -Wextra -Werror -I"$root/usr/include" -fsyntax-only -x c - ||
        fail "fob.h does not compile alone"
    if command -v g++ >/dev/null 2>&1; then
        echo '#include <fob.h>' | g++ -Wall -Wextra -Werror -I"$root/usr/include" -fsyntax-only -x c++ - ||
            fail "fob.h does not compile as C++"
    fi
}

# Every function that fob.h declares, by the compiler's reading of it.
declared() {
    ${CC:-cc} -E -P -I"$root/usr/include" -include fob.h - </dev/null | grep -oE '\bfob_[a-z_]+ ?\(' | tr -d ' (' | sort -u
}
check_exports() {
    declared >"$dir/declared"
    [ "$(wc -l <"$dir/declared")" -ge 10 ] || fail "fob.h declares too little for this test to mean anything"
    nm -D --defined-only "$root/usr/lib/libfob.so.1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$dir/so"
    nm -g --defined-only "$root/usr/lib/libfob.a" | awk 'NF == 3 { print $3 }' | sort >"$dir/a"
    diff -u "$dir/declared" "$dir/so" || fail "libfob.so.1 does not export what fob.h declares"
    diff -u "$dir/declared" "$dir/a" || fail "libfob.a does not export what fob.h declares"
    nm -D --defined-only "$root/usr/lib/libfob.so.1" | awk '$2 != "A" && $3 !~ /@@FOB_1$/ { bad = 1 } END { exit bad }' ||
        fail "a symbol of libfob.so.1 has no version FOB_1"
    readelf -d "$root/usr/lib/libfob.so.1" | grep -q 'SONAME.*\[libfob\.so\.1\]' || fail "the soname is not libfob.so.1"
}

check_hardening() {
    for file in usr/sbin/fobd usr/bin/fob usr/lib/libfob.so.1; do
        headers=$(readelf -Wldh "$root/$file")
        has() { printf '%s\n' "$headers" | grep -qE "$1" || fail "$file: $2"; }
        has 'Type: +DYN' "is not position independent"
        has 'GNU_RELRO' "has no RELRO"
        has 'BIND_NOW|FLAGS_1.*NOW' "does not bind now"
        has 'GNU_STACK .* RW ' "has an executable stack, or none declared"
        if printf '%s\n' "$headers" | grep -qE 'TEXTREL|R(UN)?PATH'; then fail "$file: has TEXTREL or a run path"; fi
        if printf '%s\n' "$headers" | grep -qE 'LOAD .* RWE '; then fail "$file: has memory writable and executable"; fi
    done
    for file in usr/sbin/fobd usr/bin/fob; do
        readelf -Wd "$root/$file" | grep -q 'FLAGS_1.*PIE' || fail "$file: is no PIE"
        readelf -Ws "$root/$file" | grep -q '__stack_chk_fail' || fail "$file: has no stack protector"
    done
    needed=$(readelf -Wd "$root/usr/sbin/fobd" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | sort | tr '\n' ' ')
    [ "$needed" = "libc.so.6 libcap.so.2 libseccomp.so.2 " ] || fail "fobd needs other libraries: $needed"
    needed=$(readelf -Wd "$root/usr/bin/fob" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | tr '\n' ' ')
    case $needed in "" | "libc.so.6 ") ;; *) fail "fob needs other libraries than libc: $needed" ;; esac
    # The mark itself is missing wherever libc's own start files have none (Debian): so the code is looked at.
    if [ "$(uname -m)" = x86_64 ]; then
        [ "$(objdump -d "$root/usr/sbin/fobd" | grep -c endbr64)" -gt 10 ] || fail "fobd: is not made for CET"
    fi
}

check_setuid() {
    do_make install SETUID=1
    [ "$(stat -c %a "$root/usr/sbin/fobd")" = 4755 ] || fail "SETUID=1 did not make fobd set-user-ID"
    [ "$(readlink "$root/usr/sbin/openfile")" = fobd ] || fail "SETUID=1 made no openfile"
}

check_uninstall() {
    echo 'deny any all /**' >"$root/etc/fob/policy.d/own.policy"
    do_make uninstall
    left=$(find "$root" ! -type d ! -name own.policy)
    [ -z "$left" ] || fail "left behind by uninstall: $left"
    [ -f "$root/etc/fob/policy.d/own.policy" ] || fail "uninstall took a policy away"
    rm "$root/etc/fob/policy.d/own.policy"
    do_make uninstall
    [ ! -d "$root/etc/fob" ] || fail "uninstall left an empty /etc/fob"
}

umask 077 # an administrator's umask must not matter
do_make install
check_files
check_compile
check_header_alone
check_exports
check_hardening
check_setuid
check_uninstall
[ "$errors" = 0 ] || exit 1
echo "installed, used, measured and uninstalled: as promised"
