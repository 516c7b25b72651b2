#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the cost of a call on this machine: floors, bare lanes, calls over each path, the aims, and whether it stays the same
# with more sessions, connections, tasks and workers.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage()
{
  cat <<'TEXT'
usage: bench/run.sh [OPTION...]

  --build DIR          build folder (build, beside bench); must be built
  --rounds N           measure everything N times, in turns (7)
  --seconds X          of each case in a round (0.2)
  --only PART          floors, lanes, calls, shapes, aims, flat or memory; may be given several times
  --format FORMAT      table, json or csv; aims and flat: markdown too
  --quick              a short run that looks at every byte; its figures mean nothing
TEXT
}

build=$here/../build rounds=7 seconds=0.2 parts='' format=table quick=''
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --only) parts="$parts $2"; shift ;;
    --format) format=$2; shift ;;
    --quick) quick=--quick rounds=1 ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
parts=${parts:-floors lanes calls shapes aims flat memory}

scratch=$(mktemp -d)
. "$here/daemon.sh"
trap finish EXIT

# Each floor comes before the cases that are compared with it.
cases()
{
  local shm task batch path target connections depth
  shm=$(url shm)
  for task in empty echo:37 echo:64 echo:101; do
    echo "--url floor:line"
    echo "--url $shm --label shm $task"
    for batch in 1 10 100 1000; do
      echo "--url $shm --label shm --batch $batch $task"
    done
  done
  for task in echo:65000 echo:1000000; do
    echo "--url $shm --label shm $task"
  done
  echo "--url $shm --label shm --rate 20 --depth 4 --seconds 1 echo:64"
  for path in unix knit; do
    target=$(url "$path")
    for connections in 1 50; do
      for depth in 1 16; do
        echo "--url floor:${path/knit/tcp} -c $connections -d $depth echo:64"
        for task in empty echo:37 echo:64; do
          echo "--url $target --label ${path/knit/tcp} -c $connections -d $depth $task"
        done
      done
    done
    echo "--url $target --label ${path/knit/tcp} --rate 5000 -c 10 -d 64 echo:64"
  done
}

# What pools of other languages measure of themselves, by one caller and one worker: each row at three distances.
shapes()
{
  local modules=$build/bench/bench-tasks.so:$build/clients/examples/example.so task batch distance
  local -A urls=([threads]=pool:threads=$modules [processes]=pool:processes=$build/fastpath/knitting-worker:$modules
    [local]=$(url shm))
  for task in empty 'add(2,3)' echo:16 echo:64 echo:1024 echo:65536 echo:1048576; do
    for batch in 1 10 100 1000; do
      # So many of the large ones have no room at once.
      case $task:$batch in echo:65536:1000 | echo:1048576:100*) continue ;; esac
      for distance in threads processes local; do
        echo "--url ${urls[$distance]} --label $distance --batch $batch $task"
      done
    done
  done
  for task in size:65536 size:1048576; do
    for distance in threads processes local; do
      echo "--url ${urls[$distance]} --label $distance $task"
    done
  done
}

# Seconds to the milliseconds that the other programs take.
ms=$(awk -v s="$seconds" 'BEGIN { printf "%d", s * 1000 }')
for part in $parts; do
  case $part in
    floors)
      "$build/bench/knit-floors" --rounds="$rounds" --ms="$ms" --format="$format" $quick ;;
    lanes)
      "$build/bench/knit-lane-bench" --rounds="$rounds" --ms=40 --format="$format" $quick ;;
    calls | shapes)
      [ -n "$daemon" ] || start_daemon
      if [ "$part" = calls ]; then cases; else shapes; fi >"$scratch/cases"
      "$build/bench/knit-bench" --cases="$scratch/cases" --rounds="$rounds" --seconds="$seconds" --warm=0.05 \
        --format="$format" $quick ;;
    aims | flat)
      "$here/$part.py" --build "$build" --rounds "$rounds" --seconds "$seconds" --format "$format" $quick ;;
    memory)
      "$build/bench/knit-memory" --module "$build/bench/bench-tasks.so" --worker "$build/fastpath/knitting-worker" ;;
    *)
      usage >&2
      exit 2 ;;
  esac
  echo
done
