#!/bin/sh
# run.sh quick|full: the measurements of fob beside its floor; full adds more rounds, 256 clients, what rules cost,
# and what reloads cost who asks meanwhile.
set -eu
: "${BUILD:?the build folder}"
export BUILD
"$BUILD/tests/bench/bench" "$1"
[ "$1" = full ] || exit 0
"$BUILD/tests/bench/policy_bench"
"$BUILD/tests/bench/reload"
