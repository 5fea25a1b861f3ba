#!/bin/sh
# facts.sh: every example of tests/facts stands in fob-facts(7) and every one that the page names exists; what the page
# quotes of an example is there. A quoting block stands behind `.\" test: none NAME.c`, in the item that names NAME.c; a
# line may be folded: what is indented belongs to the line before. That the facts hold, the examples say themselves.
set -u
passed=0 failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# complaints PAGE FOLDER: what is wrong, a line each
complaints() {
    sed -n 's,^\.Pa tests/facts/\([a-z0-9_]*\.c\)$,\1,p' "$1" | sort >"$tmp/named"
    (cd "$2" && ls) | grep '\.c$' | sort >"$tmp/there"
    uniq -d "$tmp/named" | sed 's/.*/&: is named twice/'
    sort -u "$tmp/named" | comm -23 - "$tmp/there" | sed 's/.*/&: is named, and there is no such example/'
    sort -u "$tmp/named" | comm -13 - "$tmp/there" | sed 's/.*/&: no fact names it/'
    awk '/^\.It$/ && items++ && !example { print "an item without an example ends in line " NR }
        /^\.It$/ { example = "" }
        /^\.Pa tests\/facts\/.*\.c$/ { example = $2; sub(/.*\//, "", example) }
        /^\.\\" test: none / && $4 != example { print $4 ": is quoted in line " NR ", in an item of " example }
        /^\.Bd -literal/ && before !~ /^\.\\" test: none / { print "line " NR " does not say what it quotes" }
        { before = $0 }
        END { if (!items || !example) print "the last item has no example" }' "$1"
    quotations "$1" >"$tmp/quotations"
    while read -r name line; do
        if [ -f "$2/$name" ]; then one_line "$2/$name" | grep -qF -- "$line" || echo "$name: has no such line: $line"; fi
    done <"$tmp/quotations"
}
# quotations PAGE: `NAME.c LINE` for each line quoted, unfolded
quotations() {
    awk '/^\.\\" test: none / { name = $4; next }
        /^\.Bd -literal/ { inside = 1; next }
        /^\.Ed/ { if (line) print name, line; inside = 0; line = ""; next }
        inside && /^[^ ]/ { if (line) print name, line; line = "" }
        inside { sub(/^ */, ""); gsub(/\\e/, "\\"); gsub(/\\&/, ""); line = line (line ? " " : "") $0 }' "$1"
}
one_line() {
    tr -s ' \n' ' ' <"$1"
}

# First the check is checked: each kind of error is found once, and nothing else.
mkdir "$tmp/examples"
printf 'int main(void)\n{\n    return f(1,\n             2);\n}\n' >"$tmp/examples/good.c"
cp "$tmp/examples/good.c" "$tmp/examples/unnamed.c"
quote() { # NAME LINE...: a block
    printf '.\\" test: none %s\n.Bd -literal\n' "$1"
    shift
    printf '%s\n' "$@" .Ed
}
{
    printf '.It\nno example\n'
    printf '.It\n.Pa tests/facts/nowhere.c\n'
    printf '.It\n.Pa tests/facts/good.c\n'
    quote good.c 'return f(1,' '    2);'
    quote good.c 'return f(1,' 'return g(2);'
    quote other.c 'x'
    printf '.Bd -literal\n.Ed\n'
} >"$tmp/page"
found=$(complaints "$tmp/page" "$tmp/examples")
if [ "$(printf '%s\n' "$found" | wc -l)" != 6 ]; then
    echo "facts.sh: the check itself is broken: of 6 errors it found:"
    printf '%s\n' "$found"
    exit 1
fi

wrong=$(complaints man/fob-facts.7 tests/facts)
[ -z "$wrong" ] || printf '%s\n' "$wrong"
failed=$(printf '%s' "$wrong" | grep -c '')
passed=$(($(wc -l <"$tmp/there") + $(wc -l <"$tmp/quotations") - failed))
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
