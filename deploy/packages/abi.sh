#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whether programs that were linked with libknitting.so.0 of the last tag run with that of this folder: abidiff (Debian:
# abigail-tools) compares the two, as far as the installed headers go. What is added breaks no program.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
tag=$(git -C "$source" describe --tags --abbrev=0 2>/dev/null) ||
  { echo "deploy/packages/abi.sh: there is no tag yet, and so no library to compare with"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# library SOURCES NAME: builds it in a folder of that name, with what abidiff reads.
library()
{
  if ! { meson setup "$folder/$2" "$1" -Dbuildtype=debug -Dtests=false -Dbench=false &&
    meson compile -C "$folder/$2" knitting:shared_library; } >"$folder/log" 2>&1; then
    tail -n 40 "$folder/log" >&2
    echo "deploy/packages/abi.sh: the library of $1 is not built" >&2
    exit 1
  fi
}

mkdir "$folder/tag"
git -C "$source" archive "$tag" | tar -C "$folder/tag" -xf -
library "$folder/tag" before
library "$source" now
abidiff --no-added-syms --headers-dir1 "$folder/tag/clients/include" --headers-dir2 "$source/clients/include" \
  "$folder/before/clients/libknitting.so.0" "$folder/now/clients/libknitting.so.0" ||
  { echo "deploy/packages/abi.sh: programs linked with $tag would not run with this library" >&2; exit 1; }
echo "deploy/packages/abi.sh: programs linked with $tag run with this library"
