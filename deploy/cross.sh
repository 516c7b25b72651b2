#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles and links everything for 64-bit ARM:  deploy/cross.sh BUILD-DIR
# Needs Debian's gcc-aarch64-linux-gnu and mmdebstrap. The arm64 libraries are unpacked into BUILD-DIR.sysroot, not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 1 ] || { sed -n 's/^# //p' "$0" | sed -n 2,3p >&2; exit 2; }
build=$1 sysroot=$(realpath -m "$1.sysroot")
. deploy/packages.sh

if [ ! -d "$sysroot/usr/include" ]; then
  # The packages for building, without those that run on the building machine.
  libraries=$(printf '%s\n' "${PACKAGES_BUILD[@]}" | grep -- '-dev$' | paste -sd,)
  mmdebstrap --quiet --variant=extract --arch=arm64 --include="$libraries" bookworm "$sysroot" </dev/null
fi
if [ ! -f "$build/build.ninja" ]; then
  printf "[constants]\nsysroot = '%s'\n" "$sysroot" >"$sysroot/sysroot.ini"
  meson setup "$build" --cross-file "$sysroot/sysroot.ini" --cross-file deploy/cross/aarch64-linux-gnu.ini </dev/null >/dev/null
fi
ninja -C "$build" --quiet </dev/null
