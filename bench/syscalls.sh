#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Counts system calls and context switches of caller, daemon and worker for a thousand calls.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage()
{
  cat <<'TEXT'
usage: bench/syscalls.sh [OPTION...]

System calls and context switches of the caller, the daemon and the worker for a thousand calls of echo:64, by path and
load. perf counts them at the kernel's tracepoints, which slows nothing down noticeably; it needs root or
kernel.perf_event_paranoid = -1. What connecting costs is in the caller's figure, divided by the calls.

  --build DIR      build folder (build, beside bench); must be built
  --calls N        of each case (50000)
TEXT
}

build=$here/../build calls=50000
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift ;;
    --calls) calls=$2; shift ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

scratch=$(mktemp -d)
. "$here/daemon.sh"
trap finish EXIT

# All system calls on the path of a call. Others in the total are "other".
names='epoll_wait epoll_pwait epoll_pwait2 epoll_ctl futex futex_waitv ppoll poll read readv recvfrom recvmsg sendmsg
sendto timerfd_settime write writev'
events=raw_syscalls:sys_enter,context-switches
for name in $names; do
  events=$events,syscalls:sys_enter_$name
done
if ! perf stat -e "$events" true 2>/dev/null; then
  echo "skipped: perf cannot count system calls here" >&2
  exit 77
fi

# From perf's "count,unit,event,..." to one line.
show()
{
  awk -F, -v calls="$calls" -v load="$1" -v who="$2" '
    $3 == "raw_syscalls:sys_enter" { total = $1; next }
    $3 == "context-switches" { switches = $1; next }
    $1 > 0 && sub(/^syscalls:sys_enter_/, "", $3) { seen += $1; text[++n] = sprintf("%s %.1f", $3, $1 * 1000 / calls) }
    END {
      printf "%-24s %-7s %9.1f %9.1f   ", load, who, total * 1000 / calls, switches * 1000 / calls
      for (i = 1; i <= n; i++)
        printf "%s%s", (i > 1 ? ", " : ""), text[i]
      if (total - seen > calls / 10000)
        printf "%sother %.1f", (n > 0 ? ", " : ""), (total - seen) * 1000 / calls
      printf "\n"
    }' "$scratch/$2"
}

count()
{
  local load=$1
  shift
  perf stat -x, -o "$scratch/daemon" -e "$events" -p "$daemon" -- \
    perf stat -x, -o "$scratch/worker" -e "$events" -p "$(pgrep -P "$daemon" | head -n 1)" -- \
    perf stat -x, -o "$scratch/caller" -e "$events" -- \
    "$build/bench/knit-bench" --rounds 1 --count "$calls" --format csv "$@" echo:64 >/dev/null
  show "$load" caller
  show "$load" daemon
  show "$load" worker
}

start_daemon
printf '%-24s %-7s %9s %9s   %s\n' 'load' 'who' 'syscalls' 'switches' 'per 1000 calls'
count 'shm, single' --url "$(url shm)"
count 'shm, batches of 64' --url "$(url shm)" --batch 64
count 'shm, 64 in flight' --url "$(url shm)" -d 64
for path in unix knit; do
  for load in '1 1' '1 16' '1 64' '50 1' '50 16'; do
    read -r connections depth <<<"$load"
    count "${path/knit/tcp}, $connections x $depth" --url "$(url $path)" -c "$connections" -d "$depth"
  done
done
