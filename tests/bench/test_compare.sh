#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# compare.sh with pools made up here: one that works, a package that works, one that answers with something else, one that
# is not there. The first two are in the table with a ratio, the others are skipped and are in no ratio.
set -euo pipefail

build=$1
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v node >/dev/null; then
  echo "skipped: there is no node"
  exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir "$scratch/package"
echo '{"name": "package", "exports": {".": {"import": "./main.mjs"}}}' >"$scratch/package/package.json"
cat >"$scratch/package/main.mjs" <<'JS'
export const task = ({f}) => f;
export const createPool = () => (tasks) => ({call: {echo: async (value) => tasks.echo(value)}, shutdown: () => {}});
JS
echo 'export const call = async (bytes) => bytes;' >"$scratch/works.mjs"
echo 'export const call = async (bytes) => new Uint8Array(bytes.length).fill(255);' >"$scratch/wrong.mjs"

compare=$here/../../bench/compare.sh
out=$scratch/out
pools=()
for name in package works.mjs wrong.mjs absent.mjs; do
  pools+=(--js "$scratch/$name" --only "${name%.mjs}")
done
"$compare" --build "$build" --work "$scratch/work" --out "$out" --rounds 2 --seconds 0.01 "${pools[@]}" \
  >"$scratch/says" || { cat "$scratch/says"; exit 1; }

expect()
{
  if ! grep -qE "$1" "$2"; then
    echo "expected in $(basename "$2"): $1"
    cat "$2"
    exit 1
  fi
}

for own in tcp unix shm; do
  expect "^\| knitting-$own \| ~?[0-9.]+[kM]? us \([0-9.]+[kM]?/s\) \| " "$out".md
done
for name in package works; do
  expect "^\| $name \(threads\) \| ~?[0-9.]+[kM]? us \([0-9.]+[kM]?/s\), .*, \*\*[0-9.]+x\*\* \|" "$out".md
  expect ">$name \(threads\)<" "$out".svg
done
for name in wrong absent; do
  expect "^\| $name \| skipped \| skipped \| skipped \| skipped \|$" "$out".md
  expect "^$name was skipped: " "$out".md
  expect "\"$name\": " "$out".json
done
expect '^\| calls in a batch \| 1 \| 4 \| 16 \| 64 \| 256 \| 1000 \|$' "$out".md
expect '^\| works \(threads\)( \| ~?[0-9.]+[kM]?/s, \*\*[0-9.]+x\*\*){6} \|$' "$out".md
if grep -qE '"name": "(wrong|absent)"|^\| (wrong|absent).*x\*\*' "$out".json "$out".md; then
  echo "a peer that was skipped has figures"
  exit 1
fi
cmp "$scratch/says" "$out".md
if "$compare" --build "$build" --work "$scratch/work" --only nobody 2>"$scratch/says"; then
  echo "an unknown peer is accepted"
  exit 1
fi
expect "there is no peer nobody" "$scratch/says"
