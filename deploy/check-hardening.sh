#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks built files and prints which protection each lacks:  deploy/check-hardening.sh [--no-fortify] FILE...
#
# Flags in a build file may have no effect, so the linked files are checked. Checked: position-independent, full RELRO
# (relocations read-only and all bound at start), no executable stack, no text relocations, stack protector, FORTIFY, and on
# x86-64 that functions begin with the landing mark of -fcf-protection. The note that would switch that on for a process is
# not checked: the start files of the C library drop it.
set -euo pipefail
export LC_ALL=C

fortify=yes
if [ "${1:-}" = --no-fortify ]; then
  fortify=no
  shift
fi
[ $# -gt 0 ] || { echo 'usage: check-hardening.sh [--no-fortify] FILE...' >&2; exit 2; }

failures=0

# lacks FILE WHAT: counts and prints it.
lacks()
{
  echo "$1: $2"
  failures=$((failures + 1))
}

# Each output is read as a whole into a variable: grep -q would end the pipe early, which pipefail reports as a failure.
check()
{
  local file=$1 header segments dynamic symbols code
  header=$(readelf -Wh "$file")
  segments=$(readelf -Wl "$file")
  dynamic=$(readelf -Wd "$file")
  symbols=$(readelf -W --dyn-syms "$file")

  grep -q 'Type: *DYN' <<<"$header" || lacks "$file" 'not position-independent'
  grep -q GNU_RELRO <<<"$segments" || lacks "$file" 'no RELRO'
  grep -Eq 'BIND_NOW|FLAGS_1.*NOW' <<<"$dynamic" || lacks "$file" 'RELRO is not full: symbols are bound late'
  grep -q GNU_STACK <<<"$segments" || lacks "$file" 'says nothing about its stack'
  if grep -Eq 'GNU_STACK.*RWE' <<<"$segments"; then lacks "$file" 'executable stack'; fi
  if grep -q TEXTREL <<<"$dynamic"; then lacks "$file" 'text relocations'; fi
  grep -q __stack_chk_fail <<<"$symbols" || lacks "$file" 'no stack protector'
  if [ "$fortify" = yes ]; then
    grep -Eq '__[a-z]+_chk\b' <<<"$symbols" || lacks "$file" 'no FORTIFY'
  fi
  if grep -q 'Machine:.*X86-64' <<<"$header"; then
    code=$(objdump -d --no-show-raw-insn "$file")
    grep -q endbr64 <<<"$code" || lacks "$file" 'not compiled with -fcf-protection'
  fi
}

for file in "$@"; do
  check "$file"
done
echo "$# files looked at, $failures failures"
[ "$failures" = 0 ]
