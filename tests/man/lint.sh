#!/bin/sh
# lint.sh: the manual pages are well formed, and say the same as the programs: options, commands, directives and their defaults.
set -u
: "${BUILD:?the build folder}"
passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "$*"
}
holds() { # WHAT COMMAND...
    what=$1
    shift
    if "$@" >/dev/null 2>&1; then ok; else bad "$what"; fi
}

command -v mandoc >/dev/null || { echo "skipped: mandoc is not installed"; exit 77; }
for page in man/*.[1-8]; do
    if said=$(mandoc -T lint -W warning "$page" 2>&1) && [ -z "$said" ]; then ok; else bad "$said"; fi
done

# Every option of a usage text stands in its page, and every option of the page in the usage.
same_options() { # PROGRAM PAGE
    "$BUILD/$1" -h | grep -oE '(^|[[ ])-[a-z]+' | tr -d '[ ' | sed 's/^-\([a-z]\)\(.\)/-\1\n-\2/' | grep -E '^-[a-z]' |
        grep -oE '^-[a-z]' | sort -u >"$tmp/usage"
    grep -oE '(Fl|-width "-)[ ]?[a-zA-Z]+' "$2" | sed -n 's/^Fl //p' | sed 's/^\(.\).*/-\1/' | sort -u >"$tmp/page"
    for option in $(comm -23 "$tmp/usage" "$tmp/page"); do bad "$1 has $option, $2 has not"; done
    for option in $(comm -13 "$tmp/usage" "$tmp/page"); do
        case $1$option in fob-w | fob-l | fob-r) continue ;; esac # in -[rwacl]
        bad "$2 has $option, $1 -h has not"
    done
    ok
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
same_options fobd man/fobd.8
same_options fob man/fob.1

for command in cat write exec edit check list ls ping trace; do
    holds "fob -h does not name $command" sh -c "$BUILD/fob -h | grep -q 'fob $command'"
    holds "fob(1) does not describe $command" grep -q "^.It Cm $command" man/fob.1
done

# Directives: those that -n prints are those of the page, with the defaults that the page names.
printf 'control-group 0\n' >"$tmp/empty.conf" # which has no default
"$BUILD/fobd" -n -f "$tmp/empty.conf" | sed 's,^# ,,' >"$tmp/defaults"
sed -n 's/^\.It Ic \([a-z-]*\).*/\1/p' man/fobd.conf.5 | sort -u >"$tmp/page"
cut -d' ' -f1 "$tmp/defaults" | sort -u >"$tmp/printed"
[ "$(id -u)" = 0 ] && holds "directives differ: $(comm -3 "$tmp/page" "$tmp/printed" | tr '\n' ' ')" cmp "$tmp/page" "$tmp/printed"
default() { # DIRECTIVE VALUE: as printed, and as the page says
    holds "fobd -n: $1 is not $2" grep -qE "^$1 \"?$2" "$tmp/defaults"
    sed -n "/^\.It Ic $1/,/^\.It /p" man/fobd.conf.5 | tr '\n' ' ' >"$tmp/item"
    holds "fobd.conf(5): the default of $1 is not $2" grep -q -- "$3" "$tmp/item"
}
if [ "$(id -u)" = 0 ]; then
    default socket /run/fob/fob.sock '/run/fob/fob.sock with mode 0666'
    default policy /etc/fob/policy.d '/etc/fob/policy.d'
    default user fob 'default .Ql fob'
    default audit syslog 'default .Cm syslog'
fi
default workers 0 '0 or'
default audit-required no 'default .Cm no'
default max-connections 0 '0, the default'
default max-connections-per-user 256 'Default 256'
default max-requests-per-second-per-user 0 'Default 0: no limit'
default open-timeout 5 'default 5'
default slow-openers 32 'default 32'
default busy-poll 0 'Default 0: it sleeps'
default require-confinement no 'default .Cm no'

# Every error that libfob(3) names is one that the protocol page, or open(2), has; every function of fob.h stands in libfob(3).
# shellcheck disable=SC2013 # names have no blanks
for function in $(sed -n 's/^.*[ *]\(fob_[a-z_]*\)(.*/\1/p' client/fob.h | sort -u); do
    holds "libfob(3) does not describe $function" grep -q "^\.Fn $function" man/libfob.3
done
for reason in $(grep -ohE '((reason = |, |reason\) = )"[a-z]+"\)?;|reason = "[a-z]+")' broker/opener.c broker/verify.c broker/request.c broker/connection.c broker/park.c |
    grep -oE '"[a-z]+"' | tr -d '"' | sort -u); do
    holds "fobd(8) does not name the reason $reason" grep -q "^\.Ql $reason\|, .*$reason" man/fobd.8
done
# fob(7): every promise and non-promise names tests, and every test that it names exists and is run.
sed -n '/^\.Sh SECURITY/,$p' man/fob.7 >"$tmp/security"
awk '/^\.It/ { item = NR } / in test_[a-z_]*\.c/ { item = 0 }
    (/^\.It/ || /^\.El/) && last { print last } { last = item }' "$tmp/security" >"$tmp/untested"
holds "fob(7): without a test: item $(tr '\n' ' ' <"$tmp/untested")of SECURITY CONSIDERATIONS" test ! -s "$tmp/untested"
sed -n 's/^Tests*: //; s/;$//; s/, / /g; s/^\(test_.*\) in \(test_[a-z_]*\.c\)$/\2 \1/p' "$tmp/security" >"$tmp/named"
holds "fob(7) names no tests" test -s "$tmp/named"
while read -r file names; do
    for name in $names; do
        holds "fob(7): there is no $name in $file" grep -q "^static void $name(void" "tests/integration/$file"
        holds "fob(7): $file does not run $name" grep -q "^ .*[(]${name}[,)]" "tests/integration/$file"
    done
done <"$tmp/named"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
