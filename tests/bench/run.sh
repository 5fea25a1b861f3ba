#!/bin/sh
# run.sh quick|full|tiny [SECTION...]: fob beside its peers, measured; bench.c has what the words mean.
set -eu
: "${BUILD:?the build folder}"
export BUILD
exec "$BUILD/tests/bench/bench" "$@"
