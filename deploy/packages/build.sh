#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Knitting as Debian packages, from the sources as they stand in this folder, whether committed or not. Nothing is written
# into it but the folder of the packages.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)

usage()
{
  cat <<'TEXT'
usage: deploy/packages/build.sh [--out DIR] [--keep]

Builds the packages knittingd, knitting-tools, libknitting0, libknitting-dev and knitting-doc, and prints their paths. What
building needs is in deploy/packages.sh. DEB_BUILD_OPTIONS is heeded (noautodbgsym: without packages of debugging symbols).

  --out DIR   folder for the packages (build-packages)
  --keep      keep the folder in which they are built, DIR/knitting-VERSION
  --help      this text
TEXT
}

out=build-packages keep=no
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=${2:?--out takes a folder}; shift ;;
    --keep) keep=yes ;;
    --help) usage; exit 0 ;;
    *) echo "deploy/packages/build.sh: $1 is not known" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

# Debian's Python is the one that Debian's Meson and modules are for.
export PATH=/usr/bin:/bin:$PATH
mkdir -p "$out"
out=$(cd "$out" && pwd)
version=$(sed -n "s/^  version: '\(.*\)',$/\1/p" "$source/meson.build")
packaged=$(dpkg-parsechangelog -l "$source/deploy/debian/changelog" -S Version)
if [ "$version" != "$packaged" ]; then
  echo "deploy/packages/build.sh: deploy/debian/changelog is of version $packaged, meson.build of $version" >&2
  exit 1
fi

# files: what belongs to the sources, each path ended by a NUL.
files()
{
  if git -C "$source" rev-parse --git-dir >/dev/null 2>&1; then
    git -C "$source" ls-files -z --cached --others --exclude-standard --deduplicate
  else
    (cd "$source" && find . -name 'build*' -type d -prune -o -path "$out" -prune -o -type f -print0)
  fi
}

tree=$out/knitting-$version
rm -rf "$tree" "$out"/*.deb "$out"/*.buildinfo "$out"/*.changes
mkdir "$tree"
# A file that is removed and not yet committed is listed all the same.
files | tar -C "$source" --null --ignore-failed-read -T - -cf - | tar -C "$tree" -xf -
cp -r "$tree/deploy/debian" "$tree/debian"
# Their tests are tests/run.sh.
export DEB_BUILD_OPTIONS="nocheck parallel=$(nproc) ${DEB_BUILD_OPTIONS:-}"
if ! (cd "$tree" && dpkg-buildpackage -us -uc -b) </dev/null >"$out/log" 2>&1; then
  tail -n 40 "$out/log" >&2
  echo "deploy/packages/build.sh: the packages are not built; all that was said is in $out/log" >&2
  exit 1
fi
[ "$keep" = yes ] || rm -rf "$tree"
ls "$out"/*.deb
