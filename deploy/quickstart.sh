#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Knitting from source to result: builds it, starts a daemon on private addresses, runs real tasks on real files over each path
# by which it can be called, compares the answers with the system's own tools, and stops it. Writes only into the build folder
# and one folder under $TMPDIR. The exit status is 0 when every check held.
set -euo pipefail
cd "$(dirname "$0")/.."

usage()
{
  cat <<'TEXT'
usage: deploy/quickstart.sh [--no-install] [--keep]

Builds Knitting in build/ and shows it at work. What is missing from Debian's packages is installed first.

  --no-install  never install packages; say what is missing and fail
  --keep        leave the daemon running at the end; the last lines are then url=... for each way to call it, and pid=...
  --help        this text
TEXT
}

install=yes keep=no
while [ $# -gt 0 ]; do
  case $1 in
    --no-install) install=no ;;
    --keep) keep=yes ;;
    --help) usage; exit 0 ;;
    *) echo "deploy/quickstart.sh: $1 is not known" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

# Debian's Python is the one with Debian's msgpack.
export PATH=/usr/bin:/bin:$PATH
. deploy/packages.sh
packages_need "$install" "${PACKAGES_BUILD[@]}" "${PACKAGES_QUICKSTART[@]}"

say()
{
  printf '\n-- %s\n' "$*"
}

# Only what is used here, without the tests.
targets=(server/knittingd fastpath/knitting-worker clients/tool/knit clients/examples/example.so
  clients/examples/batched bench/knit-bench)

build()
{
  local log=$run/build.log
  if { [ -f build/build.ninja ] || meson setup build; } </dev/null >"$log" 2>&1 &&
    ninja -C build "${targets[@]}" </dev/null >>"$log" 2>&1; then
    return 0
  fi
  tail -n 30 "$log" >&2
  return 1
}

checks=0 failures=0

# held WHAT GOT EXPECTED: one check.
held()
{
  checks=$((checks + 1))
  if [ "$2" = "$3" ]; then
    printf '   ok    %s\n' "$1"
  else
    failures=$((failures + 1))
    printf '   WRONG %s\n         got      %s\n         expected %s\n' "$1" "$2" "$3"
  fi
}

# stats EXPRESSION: prints the expression; s is the output of `knit stats`.
stats()
{
  "$knit" stats | python3 -c "import json, sys; s = json.load(sys.stdin); print($1)"
}

stop()
{
  local status=0
  trap - EXIT
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" || status=$?
    [ "$status" = 0 ] || { echo "knittingd ended with status $status, its log:" >&2; tail -n 20 "$run/log" >&2; }
    daemon=
  fi
  rm -rf "$run"
  return "$status"
}

run=$(mktemp -d "${TMPDIR:-/tmp}/knitting.XXXXXX")
daemon=
trap 'stop || true' EXIT
trap 'exit 130' INT TERM
trap 'echo "deploy/quickstart.sh: line $LINENO did not work" >&2' ERR
started_s=$SECONDS

# ---- Build ----

say 'Building in build/'
build
knit=build/clients/tool/knit
echo "   $(build/server/knittingd --version), built in $((SECONDS - started_s)) s"

# ---- Start ----

cat >"$run/knittingd.conf" <<CONF
[server]
listen = 127.0.0.1:0
socket = $run/socket
admin = 127.0.0.1:0
[pool]
modules = $PWD/build/clients/examples/example.so
worker_program = $PWD/build/fastpath/knitting-worker
workers = auto
CONF
# A session of its own, so that a Ctrl-C here, or a terminal that closes after --keep, does not reach it.
setsid build/server/knittingd --config "$run/knittingd.conf" --ready-file "$run/ready" </dev/null >"$run/log" 2>&1 &
daemon=$!
for _ in $(seq 200); do
  if [ -e "$run/ready" ] || ! kill -0 "$daemon" 2>/dev/null; then break; fi
  sleep 0.05
done
[ -e "$run/ready" ] || { echo 'knittingd did not start:' >&2; cat "$run/log" >&2; exit 1; }
mapfile -t urls < <(sed -n 's/^url=//p' "$run/ready")

say 'A daemon of our own, and three ways to call it'
printf '   %s\n' "${urls[@]}"
for url in "${urls[@]}"; do
  [ "${url%%:*}" = shm ] && export KNITTING_URL=$url
  [ "${url%%:*}" = unix ] && beside=$url
done
"$knit" tasks | sed 's/^/   /'
page=$(sed -n 's/^admin=//p' "$run/ready")

say 'To watch it while it runs'
printf '   %s in a browser\n   %s -u %s top in another terminal\n' "$page" "$knit" "$beside"

# ---- Real files ----

say 'sha256 of files of this system, compared with sha256sum'
# One of each size that takes another path: in a cell, in an arena, in many reads.
files=(/etc/hostname /etc/passwd)
for size in -8k -200k +1024k; do
  # Its largest file that fits one call.
  files+=("$({ find -L /usr/bin /usr/lib -maxdepth 2 -type f -readable -size "$size" -printf '%s %p\n' 2>/dev/null || true; } |
    sort -n | awk '$1 < 8000000 { file = $2 } END { print file }')")
done
for file in "${files[@]}"; do
  [ -f "$file" ] || continue
  expected=$(sha256sum "$file" | cut -d ' ' -f 1)
  for url in "${urls[@]}"; do
    held "$(printf '%-5s %9d bytes  %s' "${url%%:*}" "$(stat -L -c %s "$file")" "$file")" \
      "$("$knit" -u "$url" call sha256 "@$file" 2>&1)" "\"$expected\""
  done
done

say 'The ten most frequent words of a licence, compared with tr, sort and uniq'
text=/usr/share/common-licenses/GPL-3
expected=$(LC_ALL=C tr -cs 'A-Za-z0-9\200-\377' '\n' <"$text" | LC_ALL=C tr '[:upper:]' '[:lower:]' | LC_ALL=C sort | uniq -c |
  awk 'NF == 2 { print $2, $1 }' | LC_ALL=C sort -k2,2nr -k1,1 | awk 'NR <= 10' | paste -sd,)
for url in "${urls[@]}"; do
  got=$("$knit" -u "$url" call word_count "@$text" 10 2>&1 |
    python3 -c 'import json, sys; print(",".join(f"{k} {v}" for k, v in json.load(sys.stdin).items()))' || true)
  held "$(printf '%-5s %s' "${url%%:*}" "$text")" "$got" "$expected"
done
echo "         $expected"

# ---- All workers at once ----

say 'How many primes lie below a number, compared with factor; then twelve such calls, one by one and in one batch'
expected=$(seq 2 100000 | factor | awk 'NF == 2' | wc -l)
held 'primes below 100000' "$("$knit" call primes_below 100000 2>&1)" "$expected"
for size in 1 12; do
  if build/clients/examples/batched "$KNITTING_URL" primes_below 12 "$size" 10000000 >"$run/out" 2>&1; then got=0; else got=$?; fi
  held "$(cat "$run/out")" "$got" 0
done
held 'every worker took part' "$(stats 'all(lane["calls"] > 0 for lane in s["lanes"])')" True
echo "         calls so far of each of the workers: $(stats '*[lane["calls"] for lane in s["lanes"]]')"

# ---- Watching ----

say 'What runs, as knit top and the live page show it; and an operator who ends it'
"$knit" call sleep 600000 >"$run/out" 2>&1 &
watched=$!
for _ in $(seq 600); do
  "$knit" -u "$beside" top --once >"$run/top"
  if grep -q ' running .* sleep$' "$run/top"; then break; fi
  sleep 0.05
done
sed -n '1,6s/^/         /p' "$run/top"
held 'the live page shows it too' \
  "$(python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1] + "calls").read().count(b"\"sleep\""))' "$page")" 1
"$knit" -u "$beside" stop "$(awk '/ running .* sleep$/ { print $1 }' "$run/top")" | sed 's/^/         /'
wait "$watched" && got=0 || got=$?
held "its caller is told: $(cat "$run/out")" "$got" 130

# ---- Failing ----

say 'A task that fails and one that crashes, while another goes on'
"$knit" call sleep 1500 >"$run/slept" 2>&1 &
sleeper=$!
if "$knit" call fail 7 '"on purpose"' '{"why": "to show it"}' >"$run/out" 2>&1; then got=success; else got=error; fi
held 'fail ends in an error' "$got" error
sed 's/^/         /' "$run/out"
if "$knit" call crash >"$run/out" 2>&1; then got=success; else got=error; fi
held 'crash ends in an error' "$got" error
sed 's/^/         /' "$run/out"
for url in "${urls[@]}"; do
  held "$(printf '%-5s add goes on working' "${url%%:*}")" "$("$knit" -u "$url" call add 20 22 2>&1)" 42
done
wait "$sleeper" && got=0 || got=$?
held 'the call that ran all the while ended well' "$got $(cat "$run/slept")" '0 null'
held 'one worker died and was replaced' "$(stats 's["pool"]["deaths"], s["pool"]["lanes"] - s["pool"]["lanes_serving"]')" '1 0'

say 'Plain MessagePack-RPC from another language'
for url in "${urls[@]}"; do
  case $url in
    shm:*) continue ;;
    *) python3 clients/examples/caller.py "$url" >"$run/out" 2>&1 || true ;;
  esac
  held "$(printf '%-5s add from Python' "${url%%:*}")" "$(head -n 1 "$run/out")" 'add = 5'
done
sed 's/^/         /' "$run/out"

# ---- Speed ----

say 'Calls a second, echo of 64 bytes (short runs on a machine that does other things: an order of magnitude)'
for url in "${urls[@]}"; do
  for how in '-d 1' '-d 64' '-b 1000'; do
    echo "--url=$url $how echo:64"
  done
done >"$run/cases"
build/bench/knit-bench --cases="$run/cases" --seconds=0.5 --warm=0.1 2>&1 | sed 's/^/   /'

# ---- Stop ----

if [ "$keep" = no ]; then
  say 'Stopping'
  if stop; then got=0; else got=$?; fi
  held 'knittingd drained and left' "$got" 0
  held 'nothing is left of it' "$([ ! -e "$run" ] || echo "$run")" ''
fi
printf '\nquickstart: %d checks, %d wrong, %d s\n' "$checks" "$failures" "$((SECONDS - started_s))"
if [ "$keep" = yes ]; then
  trap - EXIT
  printf '\nThe daemon goes on, with its files in %s. To end it: kill %s; rm -r %s\n' "$run" "$daemon" "$run"
  cat "$run/ready"
fi
[ "$failures" = 0 ]
