#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Counts system calls, context switches and processor time of caller, daemon and worker, beside those of the floors.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage()
{
  cat <<'TEXT'
usage: bench/syscalls.sh [OPTION...]

System calls, context switches and processor time of the caller, the daemon and the worker for calls of echo:64, by cores,
path and load, beside the floors of the same kind. perf counts at the kernel's tracepoints, which slows nothing down
noticeably; it needs root or kernel.perf_event_paranoid = -1. What connecting costs is in the caller's figure, divided by
the calls.

  --build DIR      build folder (build, beside bench); must be built
  --calls N        of each case (50000)
  --cores WHICH    one: all processes on the first core; free: where the scheduler has them (both)
  --only TEXT      loads whose name has TEXT: shm, unix, tcp, floor, "1 x 1"
  --sums           a line for all parties together, without the names of the system calls
TEXT
}

build=$here/../build calls=50000 cores='one free' only='' sums=''
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift ;;
    --calls) calls=$2; shift ;;
    --cores) cores=$2; shift ;;
    --only) only=$2; shift ;;
    --sums) sums=yes ;;
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
sendto timerfd_settime write writev sched_yield'
events=raw_syscalls:sys_enter,context-switches,task-clock
for name in $names; do
  events=$events,syscalls:sys_enter_$name
done
if ! perf stat -e "$events" true 2>/dev/null; then
  echo "skipped: perf cannot count system calls here" >&2
  exit 77
fi

# From perf's "count,unit,event,..." of one or several files to one line.
show()
{
  local load=$1 who=$2
  shift 2
  awk -F, -v calls="$calls" -v load="$load" -v who="$who" -v sums="$sums" '
    $3 == "raw_syscalls:sys_enter" { total += $1; next }
    $3 == "context-switches" { switches += $1; next }
    $3 == "task-clock" { ms += $1; next }
    $1 > 0 && sub(/^syscalls:sys_enter_/, "", $3) { seen += $1; text[++n] = sprintf("%s %.2f", $3, $1 / calls) }
    END {
      printf "%-26s %-7s %8.2f %8.2f %8.2f   ", load, who, ms * 1000 / calls, total / calls, switches / calls
      for (i = 1; i <= n && sums == ""; i++)
        printf "%s%s", (i > 1 ? ", " : ""), text[i]
      if (sums == "" && total - seen > calls / 100)
        printf "%sother %.2f", (n > 0 ? ", " : ""), (total - seen) / calls
      printf "\n"
    }' "$@"
}

is_wanted()
{
  [[ $1 == *"$only"* ]]
}

count()
{
  local load="$where, $1" who
  shift
  is_wanted "$load" || return 0
  perf stat -x, -o "$scratch/daemon" -e "$events" -p "$daemon" -- \
    perf stat -x, -o "$scratch/worker" -e "$events" -p "$(pgrep -P "$daemon" | head -n 1)" -- \
    perf stat -x, -o "$scratch/caller" -e "$events" -- \
    "${under[@]}" "$build/bench/knit-bench" --rounds 1 --count "$calls" --format csv "$@" echo:64 >/dev/null
  if [ -n "$sums" ]; then
    show "$load" all "$scratch/caller" "$scratch/daemon" "$scratch/worker"
    return
  fi
  for who in caller daemon worker; do
    show "$load" "$who" "$scratch/$who"
  done
}

# Both sides of a floor.
count_floor()
{
  local load="$where, floor $1"
  is_wanted "$load" || return 0
  perf stat -x, -o "$scratch/floor" -e "$events" -- \
    "${under[@]}" "$build/bench/knit-bench" --float --rounds 1 --count "$calls" --format csv -u "floor:$1" \
    "${@:2}" echo:64 >/dev/null
  show "$load${2:+ x $3}" both "$scratch/floor"
}

count_all()
{
  local path load connections depth
  for load in pipe futex unix tcp threads; do
    count_floor "$load"
  done
  for load in pipe unix threads; do
    count_floor "$load" --depth 64
  done
  count 'shm, single' --url "$(url shm)"
  count 'shm, batches of 64' --url "$(url shm)" --batch 64
  count 'shm, 64 in flight' --url "$(url shm)" -d 64
  for path in unix knit; do
    for load in '1 1' '1 16' '1 64' '50 1' '50 16'; do
      read -r connections depth <<<"$load"
      count "${path/knit/tcp}, $connections x $depth" --url "$(url $path)" -c "$connections" -d "$depth"
    done
  done
}

printf '%-26s %-7s %8s %8s %8s   %s\n' 'cores, load' 'who' 'cpu_us' 'syscalls' 'switches' 'for each call'
for where in $cores; do
  under=()
  if [ "$where" = one ]; then
    first=$(taskset -cp $$ | sed 's/.*: *\([0-9]*\).*/\1/')
    under=(taskset -c "$first")
  fi
  start_daemon
  count_all
  end_daemon
done
