#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Static analysis of the sources of a configured build:  deploy/lint.sh clang-tidy|cppcheck BUILD-DIR
# Its checks are in .clang-tidy, or below beside the call.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 2 ] || { sed -n 's/^# //p' "$0" | sed -n 2,3p >&2; exit 2; }

# The C files that the build compiles, without tests, whose macros cause false reports.
sources()
{
  python3 - "$1" <<'PYTHON'
import json, os, sys
root = os.getcwd()
for entry in json.load(open(os.path.join(sys.argv[1], 'compile_commands.json'), encoding='utf-8')):
    path = os.path.relpath(os.path.join(entry['directory'], entry['file']), root)
    if path.endswith('.c') and not path.startswith(('tests/', '..')):
        print(path)
PYTHON
}

mapfile -t files < <(sources "$2" | sort -u)
[ ${#files[@]} -gt 0 ] || { echo "$2 compiles nothing" >&2; exit 1; }

case $1 in
  clang-tidy)
    printf '%s\0' "${files[@]}" |
      xargs -0 -n 4 -P "$(nproc)" clang-tidy --quiet --warnings-as-errors='*' -p "$2" 2>/dev/null
    ;;
  cppcheck)
    # The include path is the root only: headers of the system are not read, except one with macros that declare
    # structures.
    queue=$(echo '#include <sys/queue.h>' | cc -E -M -x c - | grep -o '/[^ ]*queue\.h')
    cppcheck --quiet --include="$queue" --error-exitcode=1 --std=c11 --inline-suppr --enable=warning,portability \
      --suppress=missingIncludeSystem --suppress=unknownMacro -I . -I clients/include "${files[@]}"
    ;;
  *)
    echo "$1: clang-tidy or cppcheck is known" >&2
    exit 2
    ;;
esac
