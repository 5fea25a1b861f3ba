#!/bin/sh
# deps.sh install|tell SET...: are the build's needs here? Probed by using them, not by asking a package manager.
# install: as root on a Debian, what is missing is installed. tell (or not root): prints the one command to run.
# Sets: build, check, lint, clang, valgrind, plot.
set -eu

mode=$1
shift
cc=${CC:-gcc}
missing=

need() {
    case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac
}
# need_library PACKAGE HEADERS FUNCTION LIBRARY: does a program that calls it compile and link?
need_library() {
    printf '%b\nint main(void) { return (void *)%s == 0; }\n' "$2" "$3" |
        $cc -D_GNU_SOURCE -x c -o /dev/null - "-l$4" 2>/dev/null || need "$1"
}
need_command() { # PACKAGE COMMAND...: one of the commands will do
    package=$1
    shift
    for command; do
        if command -v "$command" >/dev/null 2>&1; then return; fi
    done
    need "$package"
}
llvm_tool() {
    command -v "$1" || find /usr/bin /usr/lib/llvm-*/bin -name "$1*" 2>/dev/null | sort -V | tail -n 1
}

probe() {
    case $1 in
    build)
        need_command gcc "$cc"
        need_library libcap-dev '#include <sys/capability.h>' cap_set_proc cap
        need_library libseccomp-dev '#include <seccomp.h>' seccomp_load seccomp
        ;;
    check)
        need_library libcmocka-dev \
            '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <setjmp.h>\n#include <cmocka.h>' \
            _cmocka_run_group_tests cmocka
        need_command mandoc mandoc
        need_command pkgconf pkg-config pkgconf
        need_command util-linux setpriv
        need_command php-cli php
        need_command bubblewrap bwrap
        python3 -c 'import ctypes, socket, threading, unittest' 2>/dev/null || need python3
        ;;
    lint)
        need_command clang-tidy clang-tidy
        need_command cppcheck cppcheck
        need_command shellcheck shellcheck
        need_command mandoc mandoc
        ;;
    clang)
        need_command clang clang
        [ -n "$(llvm_tool llvm-cov)" ] || need llvm
        echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d && n > 9; }' |
            clang -fsanitize=fuzzer,address,undefined -x c -o /dev/null - 2>/dev/null || { need clang; need libclang-rt-dev; }
        ;;
    valgrind) need_command valgrind valgrind ;;
    plot) need_command gnuplot-nox gnuplot ;;
    *)
        echo "deps.sh: unknown set: $1" >&2
        exit 2
        ;;
    esac
}

probe_all() {
    missing=
    for set; do probe "$set"; done
    missing=${missing# }
}

tell() {
    echo "make: needed here and missing: $missing" >&2
    if command -v apt-get >/dev/null 2>&1; then
        echo "Run this, then make again:" >&2
        echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing" >&2
    else
        echo "Install them (Debian's names) with this system's package manager, then make again." >&2
    fi
    exit 1
}

probe_all "$@"
[ -n "$missing" ] || exit 0
if [ "$mode" != install ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then tell; fi

echo "make: installing $missing"
export DEBIAN_FRONTEND=noninteractive
install_missing() {
    # shellcheck disable=SC2086 # a list of words
    apt-get install -y -q --no-install-recommends $missing </dev/null >"$log" 2>&1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A fresh machine has no lists yet, an old one has lists of versions that are gone: both need the update.
if ! install_missing; then
    if ! { apt-get update -q </dev/null >"$log" 2>&1 && install_missing; }; then
        tail -n 15 "$log" >&2
        tell
    fi
fi
probe_all "$@"
[ -z "$missing" ] || tell
