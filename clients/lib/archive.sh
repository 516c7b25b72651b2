#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the installed archive: one object of the parts that public functions need, in which all other names are local. So a
# program that links it may use any name that no installed header has, and gets no other library's function in place of one of
# ours.
#
# usage: archive.sh ARCHIVE AR OBJCOPY VERSION-SCRIPT COMPILER... -- PART...
set -euo pipefail
archive=$1 ar=$2 objcopy=$3 script=$4
shift 4
compiler=()
while [ "$1" != -- ]; do
  compiler+=("$1")
  shift
done
shift
object=$archive.o
wanted=()
while read -r name; do
  wanted+=("-Wl,-u,$name")
done < <(sed -n 's/^ *\(knit_[a-z0-9_]*\);$/\1/p' "$script")
# Members come in as far as they are wanted. Those of an optimisation across files have machine code too, which is taken: the
# intermediate code of one release of a compiler is an error to another.
"${compiler[@]}" -r -nostdlib "${wanted[@]}" -o "$object" -Wl,--start-group "$@" -Wl,--end-group
"$objcopy" --localize-hidden --remove-section='.gnu.lto_*' --remove-section='.gnu.debuglto_*' "$object"
rm -f "$archive"
"$ar" rcsD "$archive" "$object"
rm "$object"
