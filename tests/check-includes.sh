#!/bin/sh
# check-includes.sh: who may include whom. common <- policy <- broker; common <- client; of policy/ only policy.h is for
# others; client/cli (the program fob) knows fob.h alone, and fob.h nothing of ours. First the check is checked.
set -eu

# violations ROOT: prints `FILE: includes "X": why` for every include that breaks a rule.
violations() {
    (
        cd "$1"
        for file in $(find common policy broker client -name '*.[ch]' | sort); do
            sed -n 's/^[ \t]*#[ \t]*include[ \t]*"\([^"]*\)".*/\1/p' "$file" | while read -r name; do
                judge "$file" "$name"
            done
            sed -n 's/^[ \t]*#[ \t]*include[ \t]*<\(\(common\|policy\|broker\|client\)\/[^>]*\)>.*/\1/p' "$file" |
                sed "s,.*,$file: includes <&>: our own headers are included with quotes and a relative path,"
        done
    )
}

judge() { # FILE NAME
    if [ "$1" = client/fob.h ]; then
        echo "$1: includes \"$2\": a public header stands alone"
        return
    fi
    target=$(realpath -m --relative-to=. "$(dirname "$1")/$2")
    if [ ! -f "$target" ]; then
        echo "$1: includes \"$2\": no such file from there (use a path relative to the file)"
        return
    fi
    case $1:$target in
    common/*:common/*) ;;
    policy/fobctl/*:policy/fobctl/* | policy/fobctl/*:policy/policy.h | policy/fobctl/*:common/*) ;;
    policy/fobctl/*) echo "$1: includes \"$2\": fobctl sees the policy as others do, through policy.h" ;;
    policy/*:policy/fobctl/*) echo "$1: includes \"$2\": the library does not know its program" ;;
    policy/*:policy/* | policy/*:common/*) ;;
    broker/*:broker/* | broker/*:common/* | broker/*:policy/policy.h) ;;
    client/cli/*:client/cli/* | client/cli/*:client/fob.h | client/cli/*:client/trace/trace.h) ;;
    client/trace/*:client/trace/* | client/trace/*:common/* | client/trace/*:client/fob.h) ;;
    client/trace/*) echo "$1: includes \"$2\": the tracer sees what goes over the socket, not the library" ;;
    client/cli/*) echo "$1: includes \"$2\": fob is made with fob.h alone, like anybody's program" ;;
    client/*:client/cli/* | client/*:client/trace/*) echo "$1: includes \"$2\": the library does not know its program" ;;
    client/*:client/* | client/*:common/*) ;;
    *) echo "$1: includes \"$2\": ${1%%/*} may not know ${target%%/*}" ;;
    esac
}

# A tree with one forbidden include of every kind, and as many allowed ones: is each found, and nothing else?
check_the_check() {
    tree=$(mktemp -d)
    trap 'rm -rf "$tree"' EXIT
    mkdir -p "$tree/common" "$tree/policy/fobctl" "$tree/broker" "$tree/client/cli" "$tree/client/trace"
    for header in common/wire.h policy/policy.h policy/ast.h broker/audit.h client/conn.h client/fob.h client/cli/args.h client/trace/trace.h; do
        : >"$tree/$header"
    done
    # allowed
    echo '#include "wire.h"' >"$tree/common/good.c"
    printf '#include "ast.h"\n#include "../common/wire.h"\n' >"$tree/policy/good.c"
    printf '#include "audit.h"\n#include "../policy/policy.h"\n' >"$tree/broker/good.c"
    printf '#include "conn.h"\n#include "../common/wire.h"\n' >"$tree/client/good.c"
    printf '#include <errno.h>\n#include "args.h"\n#include "../fob.h"\n' >"$tree/client/cli/good.c"
    printf '#include "trace.h"\n#include "../../common/wire.h"\n' >"$tree/client/trace/good.c"
    echo '#include "../trace/trace.h"' >"$tree/client/cli/good2.c"
    # forbidden
    echo '#include "../policy/policy.h"' >"$tree/common/bad.c"
    echo '#include "../broker/audit.h"' >"$tree/policy/bad.c"
    echo '  #  include "../policy/ast.h"' >"$tree/broker/bad.c"
    echo '#include "../client/fob.h"' >"$tree/broker/bad2.c"
    echo '#include "../broker/audit.h"' >"$tree/client/bad.c"
    echo '#include "../conn.h"' >"$tree/client/cli/bad.c"
    echo '#include "../../common/wire.h"' >"$tree/client/cli/bad2.c"
    echo '#include "../conn.h"' >"$tree/client/trace/bad.c"
    echo '#include "../ast.h"' >"$tree/policy/fobctl/bad.c"
    echo '#include <common/wire.h>' >"$tree/broker/bad3.c"
    echo '#include "common/wire.h"' >"$tree/broker/bad4.c"
    echo '#include "conn.h"' >"$tree/client/fob.h"
    found=$(violations "$tree" | cut -d : -f 1 | tr '\n' ' ')
    expected="broker/bad.c broker/bad2.c broker/bad3.c broker/bad4.c client/bad.c client/cli/bad.c client/cli/bad2.c \
client/fob.h client/trace/bad.c common/bad.c policy/bad.c policy/fobctl/bad.c "
    if [ "$found" != "$expected" ]; then
        echo "check-includes: the check itself is broken: found: $found" >&2
        echo "check-includes: expected: $expected" >&2
        exit 1
    fi
}

check_the_check
bad=$(violations .)
if [ -n "$bad" ]; then
    echo "$bad"
    exit 1
fi
echo "$(find common policy broker client -name '*.[ch]' | wc -l) files include only what they may"
