#!/bin/sh
# check-style.sh: sizes and shape of the sources. No function over 100 lines (median at most 15), no .c file over 500
# lines, 110 columns in .c files, no tabs, no blanks at the end of a line, a newline at the end of the file.
set -eu

# function_sizes FILE...: `LINES FILE:LINE` for each function: from a brace in column 1 to the next closing one.
function_sizes() {
    awk 'FNR == 1 { inside = 0 }
         /^{/ { inside = 1; begin = FNR }
         /^}/ && inside { print FNR - begin + 1, FILENAME ":" begin; inside = 0 }' "$@"
}

# shape FILE...: complaints about lines and files
shape() {
    awk '
    FNR == 1 && last != "" { file_ends() }
    FNR == 1 { last = FILENAME }
    { lines = FNR }
    /\t/ { complain("a tab") }
    /[ \t]$/ { complain("blanks at the end of the line") }
    FILENAME ~ /\.c$/ && length($0) > 110 { complain("longer than 110 columns") }
    function complain(what) { printf "%s:%d: %s\n", FILENAME, FNR, what }
    function file_ends() { if (last ~ /\.c$/ && lines > 500) printf "%s: %d lines: no .c file over 500\n", last, lines }
    END { if (last != "") file_ends() }' "$@"
    for file; do
        if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then echo "$file: no newline at the end"; fi
    done
}

oversized() {
    function_sizes "$@" | awk '$1 > 100 { printf "%s: a function of %d lines: none over 100\n", $2, $1 }'
}

expect() { # COUNT WHAT OUTPUT
    [ "$(printf '%s' "$3" | grep -c .)" = "$1" ] && return
    echo "check-style: the check itself is broken: $2: expected $1, got:" >&2
    printf '%s\n' "$3" >&2
    exit 1
}

check_the_check() {
    bad=$(mktemp -d)
    trap 'rm -rf "$bad"' EXIT
    {
        echo 'int f(void)' && echo '{'
        seq -f '    g(%g);' 99
        echo '}' && printf 'int\tx;\nint y; \n'
        seq -f '/* %g */' 401
        printf '/* %0110d */\nint z;' 0
    } >"$bad/bad.c"
    printf 'int f(void)\n{\n    return 0;\n}\n' >"$bad/good.c"
    expect 1 "size of a function" "$(oversized "$bad/bad.c" "$bad/good.c")"
    expect 5 "shape" "$(shape "$bad/bad.c" "$bad/good.c")"
    expect 0 "good shape" "$(shape "$bad/good.c")"
}

# The middle and the upper tenth, of the product alone.
statistics() {
    function_sizes "$@" | sort -n | awk '
        { size[NR] = $1 }
        END { if (NR) printf "%d functions: median %d lines, 90 %% within %d, longest %d\n", NR, size[int((NR + 1) / 2)],
              size[int((NR * 9 + 9) / 10)], size[NR] }'
}

check_the_check
product=$(find common policy broker client -name '*.[ch]' | sort)
tests=$(find tests -name '*.[ch]' | sort)
# shellcheck disable=SC2086 # lists of names without blanks
complaints=$(shape $product $tests && oversized $product $tests)
# shellcheck disable=SC2086
summary=$(statistics $product)
median=$(printf '%s' "$summary" | sed -n 's/.*median \([0-9]*\).*/\1/p')
if [ "${median:-0}" -gt 15 ]; then
    complaints="$complaints
the median function has $median lines: at most 15"
fi
if [ -n "$complaints" ]; then
    printf '%s\n' "$complaints"
    exit 1
fi
echo "${summary:-no functions yet}"
