#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures the speed that the project claims, and writes the files in results/ and their part of the README.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage()
{
  cat <<'TEXT'
usage: bench/results.sh [OPTION...] [-- OPTION-OF-COMPARE...]

Takes ten minutes with nothing else running. What stands between the two comments in the README is written anew.

  --build DIR      build folder (build, beside bench); must be built
  --out DIR        for the tables and the plot (bench/results)
  --readme FILE    with the two comments (README.md); its links are to DIR as seen from there
  --rounds N       measure everything N times, in turns (7)
  --part PART      aims, flat or compare: measure that alone and take the others from DIR; may be given several times
  --quick          a short run; its figures mean nothing
TEXT
}

build=$here/../build out=$here/results readme=$here/../README.md rounds=7 parts='' quick='' compare=()
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift ;;
    --out) out=$2; shift ;;
    --readme) readme=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --part) parts="$parts $2"; shift ;;
    --quick) quick=--quick ;;
    --help) usage; exit 0 ;;
    --) shift; compare=("$@"); break ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
mkdir -p "$out"
link=$(realpath --relative-to "$(dirname "$readme")" "$out")

for part in ${parts:-aims flat compare}; do
  case $part in
    aims | flat)
      "$here/run.sh" --build "$build" --only "$part" --rounds "$rounds" --format markdown $quick >"$out/$part.new"
      mv "$out/$part.new" "$out/$part".md ;;
    compare)
      "$here/compare.sh" --build "$build" --rounds "$rounds" ${quick:+--seconds 0.01} --out "$out/compare" \
        "${compare[@]}" >/dev/null ;;
    *) usage >&2; exit 2 ;;
  esac
done

# The tables with an empty line between them, and the plot.
section()
{
  echo
  cat "$out/aims".md
  cat "$out/compare".md
  printf '\n![calls a second](%s/compare.svg)\n\n' "$link"
  printf 'With more sessions, connections, tasks and workers: [flatness](%s).\n\n' "$link/flat".md
}

section >"$out/section"
awk -v section="$out/section" '
  /<!-- end of figures -->/ { inside = 0; ends++ }
  !inside { print }
  /<!-- figures/ { inside = 1; begins++; while ((getline line < section) > 0) print line }
  END { exit begins == 1 && ends == 1 ? 0 : 1 }' "$readme" >"$out/readme" ||
  { echo "results.sh: $readme has no place for figures" >&2; rm "$out/section" "$out/readme"; exit 1; }
cat "$out/readme" >"$readme"
rm "$out/section" "$out/readme"
