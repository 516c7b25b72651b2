#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds Knitting and shows it at work. What does not exist yet is not shown.
set -euo pipefail
cd "$(dirname "$0")/.."

usage()
{
  cat <<'TEXT'
usage: deploy/quickstart.sh [--no-install] [--keep]

  --no-install  never install packages; say what is missing and fail
  --keep        leave the daemon running and print url=... for each way to call it, and pid=...
  --help        this text
TEXT
}

install=yes
while [ $# -gt 0 ]; do
  case $1 in
    --no-install) install=no ;;
    --keep) : ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

# Debian's own Python is the one that has Debian's msgpack.
export PATH=/usr/bin:/bin:$PATH
. deploy/packages.sh
packages_need "$install" "${PACKAGES_BUILD[@]}" "${PACKAGES_QUICKSTART[@]}"

[ -f build/build.ninja ] || meson setup build >/dev/null </dev/null
ninja -C build --quiet </dev/null
echo "built:"
find build -maxdepth 2 -type f -perm -100 \( -name 'knit*' -o -name 'lib*.so*' \) | sort
