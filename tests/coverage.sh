#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How many lines of what reads foreign bytes run in its unit tests and over the corpora of the fuzz targets. Fails when it is
# below 95 in a hundred for one of these files.
#
# usage: tests/coverage.sh [--lines] [BUILD_FOLDER]     --lines: name each line that did not run
set -euo pipefail
cd "$(dirname "$0")/.."

LEAST=95
lines=no
[ "${1:-}" != --lines ] || { lines=yes; shift; }
dir=${1:-build-coverage}
sources=(proto/*.c clients/lib/url.c clients/tool/base64.c clients/tool/bigint.c clients/tool/json_*.c
  fastpath/control/control.c server/config/collector_url.c server/config/command_line.c server/config/networks.c
  server/config/setting.c
  server/config/settings_file.c server/net/proxy_header.c server/rpc/method.c)
tests=('proto-*' 'fuzz-*' clients-json clients-url fastpath-control 'server-*' 'system-wire*')

[ -f "$dir/build.ninja" ] || meson setup "$dir" --native-file deploy/native/coverage.ini >/dev/null
mapfile -t programs < <(meson introspect "$dir" --tests | python3 -c '
import fnmatch, json, sys
for test in json.load(sys.stdin):
    if any(fnmatch.fnmatch(test["name"], pattern) for pattern in sys.argv[1:]):
        print(test["name"])' "${tests[@]}" | sort -u)
# What other versions of the sources have counted.
find "$dir" -name '*.gcda' -delete
meson test -C "$dir" --quiet --timeout-multiplier 3 "${programs[@]}" >"$dir/coverage.log" 2>&1 </dev/null || {
  tail -n 20 "$dir/coverage.log"
  exit 1
}

# In the build folder, where the sources have the names that the compiler was given.
counted_of()
{
  (cd "$dir" && find "$(dirname "$1")" -path '*.p/*' -name "$(basename "$1").gcda")
}

# percent SOURCE: the share of the file's lines that ran, of the object in which most did.
percent()
{
  local counted best=0 share
  while read -r counted; do
    share=$(cd "$dir" && gcov --no-output --object-directory "$counted" "$1" 2>/dev/null |
      awk -v file="$1'" '/^File / { is_it = index($0, file) } is_it && /^Lines executed:/ {
        sub(/^Lines executed:/, ""); sub(/%.*/, ""); print; exit }')
    best=$(printf '%s\n%s\n' "$best" "${share:-0}" | sort -n | tail -n 1)
  done < <(counted_of "$1")
  echo "$best"
}

# missed SOURCE: "SOURCE:LINE: text" of each line that did not run.
missed()
{
  local counted
  while read -r counted; do
    (cd "$dir" && gcov --stdout --object-directory "$counted" "$1" 2>/dev/null) |
      awk -F: -v file="$1" '/^ *-: *0:Source:/ { is_it = index($4, file) } is_it && $1 ~ /#####/ {
        gsub(/ /, "", $2); line = $2; $1 = $2 = ""; print file ":" line ":" $0 }'
  done < <(counted_of "$1")
}

status=0
for source in "${sources[@]}"; do
  share=$(percent "$source")
  printf '%6s %% %s\n' "$share" "$source"
  [ "$lines" = no ] || missed "$source"
  awk -v share="$share" -v least=$LEAST 'BEGIN { exit share < least }' || status=1
done
[ "$status" = 0 ] || echo "At least one file is below $LEAST %; --lines names what did not run."
exit "$status"
