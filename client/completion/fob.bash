# Completion of fob(1) for bash. Install as share/bash-completion/completions/fob, or source it.
# shellcheck shell=bash

# The words of the line, joined again where COMP_WORDBREAKS split them at `:` and `=`. Sets words, cword, cur.
_fob_words() {
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
_fob_nothing() { compopt +o default +o bashdefault 2>/dev/null; }

_fob_choose() { # CHOICE...
    mapfile -t COMPREPLY < <(compgen -W "$*" -- "$cur")
    _fob_nothing
}

# Options with their values, then a command, then what is its own.
_fob_exec() { # INDEX of the first word behind `exec`
    local i=$1
    while ((i < cword)); do
        case ${words[i]} in
        --)
            ((i++))
            break
            ;;
        --*=*) ((i++)) ;;
        -*) ((i += 2)) ;;
        *) break ;;
        esac
    done
    if ((i > cword)); then
        [[ ${words[cword - 1]} != --fd || $cur == *=* ]] || _fob_nothing
    elif ((i == cword)); then
        if [[ $cur == -* && ${words[cword - 1]} != -- ]]; then
            _fob_choose --stdin --stdout --append --fd -- -h
        else
            mapfile -t COMPREPLY < <(compgen -c -- "$cur" | sort -u)
        fi
    fi
}

# What an empty COMPREPLY leaves to bash itself are file names: it knows of quotes, ~ and blanks.
_fob() {
    local words cword cur i=1
    _fob_words
    COMPREPLY=()
    while ((i < cword)) && [[ ${words[i]} == -* ]]; do
        if [[ ${words[i]} == -s ]]; then
            ((++i < cword)) || return
        fi
        ((i++))
    done
    if ((i == cword)); then
        if [[ $cur == -* ]]; then _fob_choose -s --spawn= -h; else _fob_choose cat write exec edit check list ls ping trace; fi
        return
    fi
    case ${words[i]}:${words[cword - 1]} in
    write:-c | write:-ac)
        _fob_choose 600 640 644 660 666
        return
        ;;
    esac
    if [[ ${words[i]} == exec ]]; then
        _fob_exec $((i + 1))
        return
    fi
    case ${words[i]}:$cur in
    write:-*) _fob_choose -a -c -h ;;
    check:-*) _fob_choose -r -w -a -c -l -h ;;
    *:-*) _fob_choose -h ;;
    cat:* | write:* | edit:* | check:* | ls:* | trace:*) ;;
    *) _fob_nothing ;;
    esac
}

complete -o bashdefault -o default -F _fob fob
