# Completion of fobctl(8) for bash. Install as share/bash-completion/completions/fobctl, or source it.
# shellcheck shell=bash

# The words of the line, joined again where COMP_WORDBREAKS split them at `:` and `=`. Sets words, cword, cur.
_fobctl_words() {
    local i word rest line=$COMP_LINE
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        rest=${line#"${line%%[![:blank:]]*}"}
        if ((i)) && [[ $word && $rest == "$line" && ($word == [:=]* || ${COMP_WORDS[i - 1]} == *[:=]) ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        line=${rest#"$word"}
    done
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
}

# Nothing, not even file names. (Said outside of a completion, as tests do, it is an error without consequence.)
_fobctl_nothing() { compopt +o default +o bashdefault 2>/dev/null; }

_fobctl_choose() { # CHOICE...
    mapfile -t COMPREPLY < <(compgen -W "$*" -- "$cur")
    _fobctl_nothing
}

# Bash replaces only what stands behind the last character at which it splits.
_fobctl_cut() {
    local breaks=${COMP_WORDBREAKS//[!:=]/} split
    [[ $breaks && $cur == *["$breaks"]* ]] || return
    split=${cur%"${cur##*["$breaks"]}"}
    COMPREPLY=("${COMPREPLY[@]#"$split"}")
}

_fobctl_subject() {
    local part=${cur##*[+,]}
    local before=${cur%"$part"}
    case $part in
    user:*) mapfile -t COMPREPLY < <(compgen -P "${before}user:" -u -- "${part#user:}") ;;
    group:*) mapfile -t COMPREPLY < <(compgen -P "${before}group:" -g -- "${part#group:}") ;;
    *) mapfile -t COMPREPLY < <(compgen -P "$before" -W "any user: group:" -- "$part") ;;
    esac
    _fobctl_nothing
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *: ]]; then compopt -o nospace 2>/dev/null; fi
    _fobctl_cut
}

_fobctl_rights() {
    local part=${cur##*,} right choices=()
    local before=${cur%"$part"}
    for right in read write append create list stat; do
        [[ ,$before == *,"$right",* ]] || choices+=("$right")
    done
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "${choices[*]}" -- "$part")
    _fobctl_nothing
}

_fobctl_policies() {
    mapfile -t COMPREPLY < <(
        compgen -f -X '!*.policy' -- "$cur"
        compgen -d -- "$cur"
    )
    compopt -o filenames 2>/dev/null
}

# explain's own words: how many stand before this one, options and their values left out?
_fobctl_explain() { # FIRST
    local i n=0
    for ((i = $1; i < cword; i++)); do
        case ${words[i]} in
        -p) ((i++)) ;;
        -*) ;;
        *) ((n++)) ;;
        esac
    done
    case $n in
    0) _fobctl_subject ;;
    1) _fobctl_rights ;;
    2) ;;
    *) _fobctl_nothing ;;
    esac
}

_fobctl_options() { # COMMAND
    case $1 in
    explain) _fobctl_choose -p ;;
    print | test | diff) _fobctl_choose -p ;;
    suggest) _fobctl_choose --ceiling ;;
    status) _fobctl_choose --json --openmetrics ;;
    watch) _fobctl_choose --refused --user --json ;;
    *) _fobctl_nothing ;;
    esac
}

# What an empty COMPREPLY leaves to bash itself are file names: it knows of quotes, ~ and blanks.
_fobctl() {
    local words cword cur i=1
    _fobctl_words
    COMPREPLY=()
    while ((i < cword)) && [[ ${words[i]} == -* ]]; do
        if [[ ${words[i]} == -s ]]; then
            ((++i < cword)) || return
        fi
        ((i++))
    done
    if ((i == cword)); then
        if [[ $cur == -* ]]; then
            _fobctl_choose -s -h
        else
            _fobctl_choose check explain print test diff suggest status watch reload edit
        fi
        return
    fi
    case ${words[i]}:${words[cword - 1]} in
    watch:--user)
        mapfile -t COMPREPLY < <(compgen -u -- "$cur")
        _fobctl_nothing
        return
        ;;
    explain:-p | print:-p | test:-p | diff:-p | suggest:--ceiling) return ;;
    esac
    case ${words[i]}:$cur in
    *:-*) _fobctl_options "${words[i]}" ;;
    explain:*) _fobctl_explain $((i + 1)) ;;
    check:* | test:* | diff:* | suggest:*) ;;
    edit:*) _fobctl_policies ;;
    *) _fobctl_nothing ;;
    esac
}

complete -o bashdefault -o default -F _fobctl fobctl
