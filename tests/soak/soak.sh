#!/bin/sh
# soak.sh MINUTES: fobd under mixed load from 50 uids with reloads and kills, then the audit compared with what the
# clients saw. 0: one round of some seconds. SOAK_SEED repeats a run as far as the scheduler lets it; SOAK_KEEP=1 keeps
# the files of a run that failed.
set -eu
: "${BUILD:?the build folder}"
export BUILD

minutes=${1:-0}
case $minutes in
*[!0-9]* | '')
    echo "usage: soak.sh MINUTES" >&2
    exit 2
    ;;
esac
if [ "$(id -u)" != 0 ]; then
    echo "skipped: needs root (several uids)"
    exit 77
fi
seed=${SOAK_SEED:-$(od -A n -N 4 -t u4 /dev/urandom | tr -d ' ')}
echo "soak: $minutes minutes, SOAK_SEED=$seed"
exec "$BUILD/tests/soak/soak" "$minutes" "$seed"
