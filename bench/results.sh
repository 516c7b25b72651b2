#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures the speed that the project claims, and writes the files in results/ and their part of the README.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage()
{
  cat <<'TEXT'
usage: bench/results.sh [OPTION...] [-- OPTION-OF-COMPARE...]

Takes thirteen minutes with nothing else running. What stands between the two comments in the README is written anew, unless the
machine was busy meanwhile: then the tables are in BUILD/results, and nothing else is changed. busy.py says what busy means.

  --build DIR      build folder (build, beside bench); set up if need be, and what is needed of it is built
  --out DIR        for the tables and the plot (bench/results)
  --readme FILE    with the two comments (README.md); its links are to DIR as seen from there
  --rounds N       measure everything N times, in turns (5)
  --part PART      aims, flat, tls or compare: measure that alone and take the others from DIR; may be given several times
  --quick          a short run; its figures mean nothing
  --even-if-busy   write all the same
TEXT
}

build=$here/../build out=$here/results readme=$here/../README.md rounds=5 parts='' quick='' give_up=--give-up compare=() options=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift ;;
    --out) out=$2; shift ;;
    --readme) readme=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --part) parts="$parts $2"; shift ;;
    --quick) quick=--quick ;;
    --even-if-busy) give_up='' ;;
    --measure) measure=yes ;;
    --help) usage; exit 0 ;;
    --) shift; compare=("$@"); break ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
parts=${parts:-aims flat tls compare}
for part in $parts; do
  [[ $part = @(aims|flat|tls|compare) ]] || { usage >&2; exit 2; }
done
found=$build/results

# Of this script again, so that busy.py sees it as one command.
if [ "${measure:-}" = yes ]; then
  for part in $parts; do
    if [ "$part" = compare ]; then
      "$here/compare.sh" --build "$build" --rounds "$rounds" ${quick:+--seconds 0.01} --out "$found/compare" \
        "${compare[@]}" >/dev/null
    elif [ "$part" = tls ]; then
      "$here/tls.py" --build "$build" --rounds "$rounds" $quick >"$found/tls".md
    else
      "$here/run.sh" --build "$build" --only "$part" --rounds "$rounds" --format markdown $quick >"$found/$part".md
    fi
  done
  exit
fi

if [ "$(grep -c '<!-- figures' "$readme")" != 1 ] || [ "$(grep -c '<!-- end of figures -->' "$readme")" != 1 ]; then
  echo "results.sh: $readme has no place for figures" >&2
  exit 1
fi
[ -f "$build/build.ninja" ] || meson setup "$build" "$here/.."
meson compile -C "$build" knittingd knitting-worker knitting:shared_library knit-bench knit-lane-bench knit-tls-bench \
  bench-tasks bench-tasks-many example
rm -rf "$found"
mkdir -p "$found" "$out"
status=0
"$here/busy.py" $give_up --say "$found/rest.txt" "$0" --measure "${options[@]}" || status=$?
if [ $status = 75 ] && [ -n "$give_up" ]; then
  echo "results.sh: nothing is written; what was found is in $found" >&2
  exit 75
elif [ $status != 0 ] && [ $status != 75 ]; then
  exit $status
fi
rest()
{
  printf 'When this was measured, %s.\n' "$(cat "$1")" | fold -sw 128 | sed 's/ $//'
}

# The README does not show this part: measured alone, it leaves what the README says of the machine.
[ ! -e "$found/tls".md ] || rest "$found/rest.txt" >>"$found/tls".md
[ "${parts# }" != tls ] || rm "$found/rest.txt"
cp "$found"/* "$out"
link=$(realpath --relative-to "$(dirname "$readme")" "$out")

# The tables with an empty line between them, and the plot.
section()
{
  echo
  cat "$out/aims".md
  cat "$out/compare".md
  printf '\n![calls a second](%s/compare.svg)\n\n' "$link"
  [ ! -e "$out/compare-batches.svg" ] || printf '![calls a second by batch size](%s/compare-batches.svg)\n\n' "$link"
  rest "$out/rest.txt"
  printf '\nWith more sessions, connections, tasks and workers: [flatness](%s).\nWith TLS: [beside a bare echo](%s).\n\n' \
    "$link/flat".md "$link/tls".md
}

section >"$out/section"
awk -v section="$out/section" '
  /<!-- end of figures -->/ { inside = 0 }
  !inside { print }
  /<!-- figures/ { inside = 1; while ((getline line < section) > 0) print line }' "$readme" >"$out/readme"
cat "$out/readme" >"$readme"
rm "$out/section" "$out/readme"
