#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# results.sh on a README made up here: what stands between the two comments is replaced, once and again, and nothing else; while
# something else runs, nothing is.
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
  "$here/../../bench/results.sh" --build "$build" --quick --rounds 1 --even-if-busy --readme "$readme" --out "$scratch/results" "$@"
}

printf 'before\n<!-- figures: here -->\nold figures\n<!-- end of figures -->\nafter\n' >"$readme"
measure -- --work "$scratch/work" --only bare --only fork-pool --only thread-pool --only multiprocessing
for expected in 'before' '<!-- figures: here -->' '<!-- end of figures -->' 'after' '!\[calls a second\](results/compare.svg)'; do
  [ "$(grep -cx -- "$expected" "$readme")" = 1 ] || fail "not there once: $expected"
done
grep -q '^| shm, empty, one at a time | us | ' "$readme" || fail "no aims"
grep -q '^| knitting-tcp | ' "$readme" || fail "no comparison"
for peer in 'bare (no worker)' 'fork-pool (pipes)' 'thread-pool (threads)' 'multiprocessing (pipes)'; do
  [ "$(grep -c "^| $peer | .*x\*\* |$" "$readme")" = 2 ] || fail "$peer is not in both tables"
done
grep -q '^| floor (two counters, both spin) | ' "$readme" || fail "no floor of batches"
grep -q '^When this was measured, the machine was ' "$readme" || fail "nothing of the machine"
grep -q '^| shm: sessions | ' "$scratch/results/flat".md || fail "nothing of flatness"
grep -q '^| full, 1 at once | ' "$scratch/results/tls".md || fail "nothing of handshakes"
grep -q '^When this was measured, the machine was ' "$scratch/results/tls".md || fail "nothing of the machine beside TLS"
! grep -q 'old figures' "$readme" || fail "old figures stay"
[ "$(sed -n '1p' "$readme")" = before ] && [ "$(tail -n 1 "$readme")" = after ] || fail "the rest is not what it was"

lines=$(wc -l <"$readme")
measure --part aims
measure --part tls
[ "$(wc -l <"$readme")" = "$lines" ] || fail "the second time it grew or shrank"

cp "$readme" "$scratch/before"
cp "$scratch/results/aims".md "$scratch/aims"
while :; do :; done &
other=$!
status=0
"$here/../../bench/results.sh" --build "$build" --quick --rounds 1 --readme "$readme" --out "$scratch/results" --part aims \
  2>"$scratch/says" || status=$?
kill "$other"
wait "$other" 2>/dev/null || true
[ "$status" = 75 ] || fail "a busy machine is not noticed: status $status, $(cat "$scratch/says")"
grep -q 'the machine was busy (before, others took [0-9]* %' "$scratch/says" || fail "$(cat "$scratch/says")"
cmp "$readme" "$scratch/before" && cmp "$scratch/results/aims".md "$scratch/aims" || fail "it was written on a busy machine"

echo 'no place' >"$readme"
if measure --part aims 2>"$scratch/says"; then
  fail "a README without a place for figures is taken"
fi
grep -q 'has no place for figures' "$scratch/says" || fail "$(cat "$scratch/says")"
[ "$(cat "$readme")" = 'no place' ] || fail "it was written to nevertheless"
