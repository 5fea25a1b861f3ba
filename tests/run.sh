#!/bin/sh
# run.sh PROGRAM...: runs test programs and scripts one after the other, goes on after a failure, and ends in one line
# `N passed, N failed`. Exit status 77 of a program means skipped. A fuzzer (fuzz_NAME) gets its corpus as argument.
# $BUILD: the build folder, absolute; the programs find fobd and fob there. $WRAP: a command to run programs under.
set -u

: "${BUILD:?the build folder}"
export BUILD
logs=$BUILD/log
mkdir -p "$logs"
passed=0 failed=0 skipped=0 failures=

run_one() { # shellcheck disable=SC2086 # WRAP is words
    case $1 in
    *.sh) timeout "$limit" sh "$1" ;;
    */fuzz_*) timeout "$limit" ${WRAP:-} "$1" "tests/fuzz/corpus/${1##*/fuzz_}" ;;
    *) timeout "$limit" ${WRAP:-} "$1" ;;
    esac
}

# What a program says of itself at the end: cmocka's closing lines as they are, else its last line, indented.
closing() {
    grep -E '^\[  (PASSED|SKIPPED|FAILED) +\] ([^ ]+: )?[0-9]+ test' "$1" || tail -n 1 "$1" | sed 's/^/       /'
}

limit=${TEST_TIMEOUT:-240}
for program; do
    name=$(basename "$program")
    log=$logs/$name.log
    begin=$(date +%s%N)
    run_one "$program" >"$log" 2>&1 </dev/null
    status=$?
    # cmocka exits with the number of failures: 256 of them would read as 0, and 77 as skipped.
    if grep -q '^\[  FAILED  \]' "$log"; then status=1; fi
    took=$((($(date +%s%N) - begin) / 1000000))
    case $status in
    0) passed=$((passed + 1)) word=ok ;;
    77) skipped=$((skipped + 1)) word=skip ;;
    *) failed=$((failed + 1)) failures="$failures $name" word=FAILED ;;
    esac
    printf '%-6s %s (%d ms)\n' "$word" "$name" "$took"
    if [ "$word" != FAILED ]; then
        closing "$log"
    else
        [ "$status" != 124 ] || echo "       $name: no end after $limit seconds"
        echo "------ $log, exit status $status:"
        grep -vE '^\[( RUN      |       OK) \]' "$log" | tail -n "${TEST_LINES:-80}"
        echo "------"
    fi
done

[ -z "$failures" ] || echo "failed:$failures"
summary="$passed passed, $failed failed"
[ "$skipped" = 0 ] || summary="$summary, $skipped skipped"
echo "$summary"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
