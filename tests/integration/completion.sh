#!/bin/sh
# completion.sh: what the shells offer for fob and fobctl, and that it is what the programs' own help says.
set -u
: "${BUILD:?the build folder}"
command -v bash >/dev/null || { echo "skipped: no bash"; exit 77; }
top=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
passed=0 failed=0
tmp=$(mktemp -d /tmp/fob-completion.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "$*"
}

# complete.sh FILE FUNCTION LINE [nocolon]: calls the function as bash does after LINE and TAB: words split at blanks, `:`
# and `=` (not with nocolon, as some have it). Prints what is offered, in one line.
cat >"$tmp/complete.sh" <<'END'
source "$1" || exit 1
line=$3
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
[[ ${4-} != nocolon ]] || COMP_WORDBREAKS=$' \t\n"\'><;|&('
COMP_WORDS=() COMP_LINE=$line COMP_POINT=${#line}
read -ra pieces <<<"$line"
for piece in "${pieces[@]}"; do
    while [[ ${4-} != nocolon && $piece =~ ^([^:=]*)([:=]+)(.*)$ ]]; do
        [[ -z ${BASH_REMATCH[1]} ]] || COMP_WORDS+=("${BASH_REMATCH[1]}")
        COMP_WORDS+=("${BASH_REMATCH[2]}")
        piece=${BASH_REMATCH[3]}
    done
    [[ -z $piece ]] || COMP_WORDS+=("$piece")
done
[[ $line != *' ' ]] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMPREPLY=(left over)
"$2" "$2" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
echo "${COMPREPLY[*]}"
END

offered() { # LINE [nocolon]
    case $1 in
    fobctl*) bash "$tmp/complete.sh" "$top/policy/completion/fobctl.bash" _fobctl "$@" ;;
    *) bash "$tmp/complete.sh" "$top/client/completion/fob.bash" _fob "$@" ;;
    esac 2>&1
}
offers() { # LINE OFFERED [nocolon]
    got=$(cd "$tmp/files" && offered "$1" ${3+"$3"})
    if [ "$got" = "$2" ]; then ok; else bad "$1 TAB ${3-}: offers \`$got\`, not \`$2\`"; fi
}
files() { # LINE: left to bash, which offers file names
    offers "$1" ""
}

mkdir -p "$tmp/files/web.d"
: >"$tmp/files/10-web.policy"
: >"$tmp/files/notes"
fob_commands="cat write exec edit check list ls ping trace"
fobctl_commands="check explain print test diff suggest status watch reload edit"

# ---------------------------------------------------------------- fob

offers "fob " "$fob_commands"
offers "fob c" "cat check"
offers "fob -s /run/x " "$fob_commands"
offers "fob -s /run/a:b/sock l" "list ls"
offers "fob -" "-s --spawn= -h"
offers "fob --" "--spawn="
files "fob --spawn=/usr/sbin/f"
offers "fob --spawn=/x l" "list ls"
files "fob exec --stdin "
offers "fob exec -" "--stdin --stdout --append --fd -- -h"
files "fob edit "
files "fob trace "
offers "fob nonsense " ""
files "fob -s "
files "fob cat "
files "fob cat /etc/pa"
files "fob cat one two"
files "fob write -a /var/l"
files "fob check -rw /e"
files "fob check -r "
files "fob cat /a:-"
files "fob ls "
offers "fob write -" "-a -c -h"
offers "fob write -c " "600 640 644 660 666"
offers "fob write -c 64" "640 644"
files "fob write -c 640 "
offers "fob check -" "-r -w -a -c -l -h"

# ---------------------------------------------------------------- fobctl

users=$(bash -c 'compgen -u' | tr '\n' ' ')
groups=$(bash -c 'compgen -g' | tr '\n' ' ')
offers "fobctl " "$fobctl_commands"
offers "fobctl re" "reload"
offers "fobctl -s /run/c s" "suggest status"
offers "fobctl -" "-s -h"
files "fobctl -s "
files "fobctl check "
files "fobctl test -p "
files "fobctl test a.txt "
files "fobctl diff -p old "
files "fobctl suggest --ceiling "
files "fobctl suggest --ceiling x /var/log/fo"
offers "fobctl explain " "any user: group:"
offers "fobctl explain u" "user:"
offers "fobctl explain user:" "${users% }"
offers "fobctl explain group:" "${groups% }"
offers "fobctl explain user:daem" "daemon"
offers "fobctl explain user:daem" "user:daemon" nocolon
offers "fobctl explain group:www-d" "www-data"
offers "fobctl explain user:daemon+" "daemon+any daemon+user: daemon+group:"
offers "fobctl explain user:daemon+gr" "daemon+group:"
offers "fobctl explain user:daemon+group:back" "backup"
offers "fobctl explain user:daemon+group:back" "user:daemon+group:backup" nocolon
offers "fobctl explain any,user:daem" "daemon"
offers "fobctl explain user:daemon " "read write append create list stat"
offers "fobctl explain user:daemon+group:adm re" "read"
offers "fobctl explain user:daemon read," "read,write read,append read,create read,list read,stat"
offers "fobctl explain user:daemon read,write,c" "read,write,create"
offers "fobctl explain -p /etc/p:q user:daem" "daemon"
offers "fobctl explain -p /x user:daemon rea" "read"
files "fobctl explain -p "
files "fobctl explain user:daemon read "
files "fobctl explain user:daemon read /etc/pa"
offers "fobctl explain user:daemon read /etc/passwd " ""
offers "fobctl explain -" "-p"
offers "fobctl status -" "--json --openmetrics"
offers "fobctl status --o" "--openmetrics"
offers "fobctl watch -" "--refused --user --json"
offers "fobctl watch --user daem" "daemon"
offers "fobctl watch --json --user " "${users% }"
offers "fobctl edit " "10-web.policy web.d"
offers "fobctl edit no" ""

# Where nothing is offered, bash looks for file names.
cat >"$tmp/registered" <<'END'
source "$1" && complete -p "$2"
END
for program in fob:client fobctl:policy; do
    got=$(bash "$tmp/registered" "$top/${program#*:}/completion/${program%:*}.bash" "${program%:*}")
    want="complete -o bashdefault -o default -F _${program%:*} ${program%:*}"
    if [ "$got" = "$want" ]; then ok; else bad "registered: $got"; fi
done

# ---------------------------------------------------------------- as the programs' help has it

# helped PROGRAM: `COMMAND ARGUMENTS` for each line of its help, without what is said of it
helped() { "$BUILD/$1" -h 2>&1 | sed -n -e "s/^  *$1 /  /" -e 's/^  *\([a-z].*\)/\1/p' | sed 's/   *.*//'; }
# Letters together, -rwacl, are single options.
options_of() {
    printf '%s\n' "$1" | sed 's/[][| ]/\n/g' | sed -n '/^-/p' |
        sed -e '/^--/!{' -e 's/^-//' -e 's/./-&\n/g' -e '}' | sed '/^$/d' | sort -u
}
compare_help() { # PROGRAM COMMANDS
    helped "$1" >"$tmp/help"
    got=$(cut -d ' ' -f 1 "$tmp/help" | sort -u | tr '\n' ' ')
    # shellcheck disable=SC2086 # words
    want=$(printf '%s\n' $2 | sort | tr '\n' ' ')
    if [ "$got" = "$want" ]; then ok; else bad "$1 -h has the commands: $got; completion has: $want"; fi
    while read -r command arguments; do
        offered "$1 $command -" | tr ' ' '\n' | sort -u >"$tmp/offered"
        options_of "$arguments" >"$tmp/options"
        while read -r option; do
            case $option in
            -h) continue ;; # each has it, no line says so
            -*) ;;
            *) continue ;; # no options: file names, or commands
            esac
            if grep -qx -- "$option" "$tmp/options"; then ok; else bad "$1 $command: completion has $option, -h has not"; fi
        done <"$tmp/offered"
        while read -r option; do
            if grep -qx -- "$option" "$tmp/offered"; then ok; else bad "$1 $command: -h has $option, completion has not"; fi
        done <"$tmp/options"
    done <"$tmp/help"
}
compare_help fob "$fob_commands"
if [ -x "$BUILD/fobctl" ]; then compare_help fobctl "$fobctl_commands"; fi

# ---------------------------------------------------------------- zsh

compare_zsh() { # FILE COMMANDS
    if command -v zsh >/dev/null; then
        if said=$(zsh -n "$1" 2>&1) && [ -z "$said" ]; then ok; else bad "zsh -n $1: $said"; fi
    fi
    got=$(sed -n "s/^ *'\([a-z]*\):.*/\1/p" "$1" | sort | tr '\n' ' ')
    # shellcheck disable=SC2086 # words
    want=$(printf '%s\n' $2 | sort | tr '\n' ' ')
    if [ "$got" = "$want" ]; then ok; else bad "$1 describes: $got; not: $want"; fi
    for command in $2; do # and has a branch of its own
        if grep -q "^ *\([a-z]* | \)*$command\( | [a-z]*\)*) *" "$1"; then ok; else
            bad "$1: nothing about the arguments of $command"
        fi
    done
}
compare_zsh "$top/client/completion/_fob" "$fob_commands"
compare_zsh "$top/policy/completion/_fobctl" "$fobctl_commands"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
