#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check-hardening.sh must fail: for each protection a file without it must be named.  check-hardening-test.sh CC...
set -euo pipefail
check=$(dirname "$0")/check-hardening.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/a.c" <<'C'
#include <stdio.h>
#include <string.h>
int main(int count, char **words)
{
    char line[64];
    if (count > 1)
        strcpy(line, words[1]);
    snprintf(line + 8, 40, "%d", count);
    return puts(line);
}
C

# shellcheck disable=SC2054 # the commas are the linker's
good=(-O2 -fPIE -pie -fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wl,-z,relro,-z,now,-z,noexecstack)
if [ "$(uname -m)" = x86_64 ]; then good+=(-fcf-protection=full); fi

# expect WORDS FLAG...: the program built with these flags added is refused with this text.
expect()
{
  local words=$1 output
  shift
  "${cc[@]}" "${good[@]}" -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 "$@" -w -o "$dir/a" "$dir/a.c"
  if output=$("$check" "$dir/a"); then
    echo "not refused: $*"
    exit 1
  fi
  grep -q "$words" <<<"$output" || { echo "expected '$words', got: $output"; exit 1; }
}

cc=("$@")
"${cc[@]}" "${good[@]}" -w -o "$dir/a" "$dir/a.c"
"$check" "$dir/a"
expect 'not position-independent' -fno-pie -no-pie
expect 'no RELRO' -Wl,-z,norelro
expect 'bound late' -Wl,-z,lazy
expect 'executable stack' -Wl,-z,execstack
expect 'no stack protector' -fno-stack-protector
expect 'no FORTIFY' -D_FORTIFY_SOURCE=0
if "$check" "$dir/absent" 2>/dev/null; then echo 'an absent file passed'; exit 1; fi
