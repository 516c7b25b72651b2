#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures calls of echo:64 over each path and draws latency by percentile and throughput by depth.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage()
{
  cat <<'TEXT'
usage: bench/plots.sh [OPTION...]

  --build DIR      build folder (build, beside bench); must be built
  --rounds N       measure everything N times, in turns (5)
  --seconds X      of each case in a round (0.3)
  --out FOLDER     for calls.json, latency.svg and depth.svg (BUILD/plots)
TEXT
}

build=$here/../build rounds=5 seconds=0.3 out=''
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --out) out=$2; shift ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
mkdir -p "${out:=$build/plots}"

scratch=$(mktemp -d)
. "$here/daemon.sh"
trap finish EXIT
start_daemon
for path in shm unix knit; do
  for depth in 1 2 4 8 16 32 64 128 256; do
    echo "--url $(url $path) --label ${path/knit/tcp} -d $depth echo:64"
  done
done >"$scratch/cases"
"$build/bench/knit-bench" --cases="$scratch/cases" --rounds="$rounds" --seconds="$seconds" --warm=0.05 --percentiles \
  --format=json >"$out/calls.json"
"$here/plots.py" "$out/calls.json" "$out"
