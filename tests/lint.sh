#!/bin/sh
# lint.sh: every analyser over every source; goes on after findings and fails at the end when there were any.
set -u

: "${BUILD:?the build folder}"
logs=$BUILD/lint
mkdir -p "$logs"
findings=0
flags="-std=c11 -D_GNU_SOURCE"
# shellcheck disable=SC2046
set -- $(find common policy broker client tests -name '*.c' | sort)

step() { # NAME COMMAND...: findings are what it prints
    name=$1
    shift
    if "$@" >"$logs/$name" 2>&1 && ! [ -s "$logs/$name" ]; then
        echo "ok     $name"
    else
        findings=$((findings + 1))
        echo "FAILED $name:"
        cat "$logs/$name"
    fi
}

tidy() { # the checks are in .clang-tidy; on stderr it only counts what it suppressed in system headers
    printf '%s\0' "$@" | xargs -0 -n 4 -P "$(nproc)" sh -c "clang-tidy --quiet \"\$@\" -- $flags 2>/dev/null" tidy
}
check_cpp() {
    cppcheck --quiet --std=c11 -D_GNU_SOURCE -D__linux__ --enable=warning,performance,portability --inline-suppr \
        --suppress=missingIncludeSystem --error-exitcode=1 -j "$(nproc)" "$@"
}
# Leaks are the sanitizers' matter: gcc 12 takes what a struct keeps for lost.
analyzer() {
    # shellcheck disable=SC2086
    printf '%s\0' "$@" | xargs -0 -n 1 -P "$(nproc)" gcc $flags -O1 -fanalyzer -Wno-analyzer-malloc-leak \
        -Wall -Wextra -Wno-unused-result -c -o /dev/null
}
shell_scripts() {
    find tests .ci -name '*.sh' -exec shellcheck -s sh {} + && shellcheck .ci/run
}
man_pages() {
    for page in man/*.[1-8]; do
        if [ -e "$page" ]; then mandoc -T lint -W warning "$page"; fi
    done
}

step clang-tidy tidy "$@"
step cppcheck check_cpp "$@"
# shellcheck disable=SC2046
step gcc-analyzer analyzer $(find common policy broker client -name '*.c')
step shellcheck shell_scripts
step mandoc man_pages
[ "$findings" = 0 ]
