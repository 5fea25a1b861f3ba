#!/bin/sh
# soak.sh: one short round of the soak (make soak runs it for minutes): 50 users, reloads, kills, and the audit
# compared with what they saw. SOAK_SEED=N repeats one.
set -eu
: "${BUILD:?the build folder}"

if [ ! -x "$BUILD/tests/soak/soak" ]; then
    echo "skipped: no $BUILD/tests/soak/soak (make tests builds it)"
    exit 77
fi
exec sh "$(dirname "$0")/../soak/soak.sh" 0
