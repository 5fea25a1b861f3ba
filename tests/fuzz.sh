#!/bin/sh
# fuzz.sh SECONDS FUZZER...: runs each libFuzzer program for so long, from its corpus in tests/fuzz/corpus/NAME. What is
# new and telling is kept beside the program, not in the corpus: an input that found a mistake is added there by hand.
set -u

seconds=$1
shift
status=0
[ $# -gt 0 ] || { echo "fuzz: no fuzzers in tests/fuzz" >&2; exit 1; }

for fuzzer; do
    name=${fuzzer##*/fuzz_}
    log=$fuzzer.log
    mkdir -p "$fuzzer.found"
    "$fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$fuzzer.crash-" "$fuzzer.found" "tests/fuzz/corpus/$name" >"$log" 2>&1
    result=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "$result" = 0 ] && [ "${runs:-0}" -gt 0 ]; then
        edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
        printf 'ok     %-20s %10d runs, %5d edges, %d inputs kept\n' "$name" "$runs" "${edges:-0}" \
            "$(find "$fuzzer.found" -type f | wc -l)"
    else
        status=1
        echo "FAILED $name (exit status $result), the input is in $fuzzer.crash-*:"
        tail -n 40 "$log"
    fi
done
exit $status
