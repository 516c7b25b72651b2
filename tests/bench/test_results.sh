#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# results.sh on a README made up here: what stands between the two comments is replaced, once and again, and nothing else.
set -euo pipefail

build=$1
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
readme=$scratch/README

fail()
{
  echo "$1"
  cat "$readme"
  exit 1
}

measure()
{
  "$here/../../bench/results.sh" --build "$build" --quick --rounds 1 --readme "$readme" --out "$scratch/results" "$@"
}

printf 'before\n<!-- figures: here -->\nold figures\n<!-- end of figures -->\nafter\n' >"$readme"
measure -- --work "$scratch/work" --only bare
for expected in 'before' '<!-- figures: here -->' '<!-- end of figures -->' 'after' '!\[calls a second\](results/compare.svg)'; do
  [ "$(grep -cx -- "$expected" "$readme")" = 1 ] || fail "not there once: $expected"
done
grep -q '^| shm, empty, one at a time | us | ' "$readme" || fail "no aims"
grep -q '^| knitting-tcp | ' "$readme" || fail "no comparison"
grep -q '^| bare (no worker) | ' "$readme" || fail "no peer"
grep -q '^| shm: sessions | ' "$scratch/results/flat".md || fail "nothing of flatness"
! grep -q 'old figures' "$readme" || fail "old figures stay"
[ "$(sed -n '1p' "$readme")" = before ] && [ "$(tail -n 1 "$readme")" = after ] || fail "the rest is not what it was"

lines=$(wc -l <"$readme")
measure --part aims
[ "$(wc -l <"$readme")" = "$lines" ] || fail "the second time it grew or shrank"

echo 'no place' >"$readme"
if measure --part aims 2>"$scratch/says"; then
  fail "a README without a place for figures is taken"
fi
grep -q 'has no place for figures' "$scratch/says" || fail "$(cat "$scratch/says")"
[ "$(cat "$readme")" = 'no place' ] || fail "it was written to nevertheless"
