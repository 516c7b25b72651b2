#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Takes the picture of the live page that the README shows: deploy/doc/screenshot.sh [BUILD [PICTURE [CHROMIUM OPTION...]]]
# Starts a daemon on private addresses, lets callers call for some seconds, and has Chromium (Debian: chromium) look at it.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build} picture=$(realpath -m "${2:-deploy/doc/page.png}")
shift $(($# < 2 ? $# : 2))
folder=$(mktemp -d)
pids=()

finish()
{
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$folder"
}
trap finish EXIT

"$build/server/knittingd" --config /dev/null --listen 127.0.0.1:0 --socket "$folder/k.sock" --ready-file "$folder/ready" \
  --admin 127.0.0.1:0 --worker-program "$build/fastpath/knitting-worker" --module "$build/clients/examples/example.so" \
  --workers 4 2>"$folder/log" &
pids+=($!)
for _ in $(seq 100); do
  [ -e "$folder/ready" ] && break
  sleep 0.1
done
knit=$build/clients/tool/knit tcp=$(sed -n 's/^url=knit:/knit:/p' "$folder/ready")

# As long as the picture takes: callers by all ways, short tasks and long ones, and some that fail.
keep()
{
  while [ -e "$folder/ready" ]; do "$@" >/dev/null 2>&1 || true; done
}
(yes '[1, 2]' | head -n 100000000 | "$knit" -u "$tcp" batch add >/dev/null 2>&1) &
pids+=($!)
(yes '["to be or not to be"]' | head -n 100000000 | "$knit" -u "unix://$folder/k.sock" batch word_count >/dev/null 2>&1) &
pids+=($!)
keep "$knit" -u "unix://$folder/k.sock" call sleep 700 &
pids+=($!)
keep "$knit" -u "shm://$folder/k.sock" call sha256 @/usr/bin/env &
pids+=($!)
keep "$knit" -u "$tcp" call fail &
pids+=($!)
chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$folder/chromium" --virtual-time-budget=900000 \
  --window-size=1180,1010 "$@" --screenshot="$picture" "$(sed -n 's/^admin=//p' "$folder/ready")" 2>"$folder/chromium.log" ||
  { cat "$folder/chromium.log"; exit 1; }
