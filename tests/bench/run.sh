#!/bin/sh
# run.sh quick|full: the measurements of fob beside its floor; full adds more rounds, 256 clients, and what rules cost.
set -eu
: "${BUILD:?the build folder}"
export BUILD
"$BUILD/tests/bench/bench" "$1"
[ "$1" = quick ] || "$BUILD/tests/bench/policy_bench"
