#!/bin/sh
# coverage.sh FOLDER PERCENT: what a test run that left its profiles in FOLDER/profile has executed of common, policy and
# broker. Prints a table by file and the lines never reached; fails when fewer than PERCENT of all lines were reached.
set -eu

folder=$1
wanted=$2

# The tools that belong to this clang: Debian has them with a version at the end.
llvm_tool() {
    version=$(clang -dumpversion | cut -d . -f 1)
    for name in "$1-$version" "/usr/lib/llvm-$version/bin/$1" "$1"; do
        if command -v "$name" 2>/dev/null; then return; fi
    done
    echo "coverage: $1: not found (apt-get install llvm)" >&2
    exit 1
}
profdata=$(llvm_tool llvm-profdata)
cov=$(llvm_tool llvm-cov)

count=$(find "$folder/profile" -name '*.profraw' | wc -l)
[ "$count" -gt 0 ] || { echo "coverage: no profile in $folder/profile" >&2; exit 1; }
# A process killed while it set its file up leaves a broken one: the others count.
find "$folder/profile" -name '*.profraw' >"$folder/profiles"
"$profdata" merge -sparse --failure-mode=all --input-files="$folder/profiles" -o "$folder/all.profdata" 2>"$folder/merge.log"

set --
for program in "$folder/fobd" "$folder/fob" "$folder"/tests/* "$folder"/tests/integration/*; do
    if [ -f "$program" ] && [ -x "$program" ]; then set -- "$@" -object "$program"; fi
done
shift
first=$1
shift
"$cov" export -format=lcov -instr-profile="$folder/all.profdata" "$first" "$@" >"$folder/coverage.lcov" 2>>"$folder/merge.log"

awk -v root="$(pwd -P)/" -v wanted="$wanted" -v count="$count" '
    /^SF:/ { file = substr($0, 4); sub(root, "", file); ours = file ~ /^(common|policy|broker)\/.*\.[ch]$/ }
    /^DA:/ && ours {
        split(substr($0, 4), field, ",")
        key = file SUBSEP field[1]
        if (!(key in hits)) { lines[file]++; order[file] = order[file] " " field[1] }
        hits[key] += field[2]
    }
    # "3-7 12": the lines never reached; the lines between two of them that hold no code do not part them.
    function missed(name, number, n, i, begin, end, text) {
        n = split(order[name], number, " ")
        for (i = 1; i <= n + 1; i++) {
            if (i <= n && hits[name, number[i]] == 0) {
                if (!begin) begin = number[i]
                end = number[i]
            } else if (begin) {
                text = text " " (begin == end ? begin : begin "-" end)
                begin = 0
            }
        }
        return text
    }
    END {
        for (name in lines) {
            split(order[name], number, " ")
            reached = 0
            for (i in number) reached += hits[name, number[i]] > 0
            all += lines[name]
            all_reached += reached
            printf "%6.1f %% %5d of %5d  %-28s %s\n", 100 * reached / lines[name], reached, lines[name], name,
                   missed(name) | "sort -k5"
        }
        close("sort -k5")
        if (!all) { print "coverage: nothing of common, policy or broker was measured"; exit 1 }
        percent = 100 * all_reached / all
        printf "%6.1f %% %5d of %5d lines of common, policy and broker (%d processes)\n", percent, all_reached, all, count
        if (percent < wanted) { printf "coverage: less than %d %%\n", wanted; exit 1 }
    }' "$folder/coverage.lcov"
