#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts the files of the image together, for the Containerfile and for build.sh alike: daemon, worker, tool and library of a build
# with the prefix /usr, and what these link with, as Debian's packages have installed it here. No shell, no package manager.
#   root.sh BUILD-DIR ROOT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
build=$(realpath -m "$1") root=$(realpath -m "$2")
for program in cc meson ninja; do
  command -v "$program" >/dev/null ||
    { echo "deploy/container/root.sh: $program is not installed; deploy/packages.sh has what a build needs" >&2; exit 1; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# quietly COMMAND...: says nothing unless it fails.
quietly()
{
  if ! "$@" </dev/null >"$scratch/log" 2>&1; then
    cat "$scratch/log" >&2
    echo "deploy/container/root.sh: $* did not work" >&2
    return 1
  fi
}

# Others may build there at the same time.
mkdir -p "$build"
exec {lock}>"$build/root.lock"
flock "$lock"
# The loader looks into /usr/lib unasked, and no ldconfig runs in the image. One folder of modules for all architectures.
[ -f "$build/build.ninja" ] ||
  quietly meson setup --prefix /usr --libdir lib -Dbuildtype=release -Dtests=false -Dbench=false "$build" "$source"
grep -q 'KNIT_MODULEDIR "/usr/lib/knitting/modules"' "$build/config.h" ||
  { echo "deploy/container/root.sh: $build is no build with --prefix /usr --libdir lib" >&2; exit 1; }
quietly ninja -C "$build"
quietly meson install -C "$build" --no-rebuild --destdir "$scratch/install"
install=$scratch/install/usr
# The library by the one name that the loader asks for.
cp -L "$install/lib/libknitting.so.0" "$scratch/libknitting.so.0"
programs=("$install/bin/knittingd" "$install/bin/knit" "$install/libexec/knitting-worker" "$scratch/libknitting.so.0")

# The packages of the libraries. dpkg knows some of them by /lib, which has become a link to /usr/lib.
mapfile -t libraries < <(ldd "${programs[@]}" | sed -n 's,^\t\([^/ ]*\) => /.*,\1,p' | grep -v '^libknitting\.' | sort -u)
mapfile -t packages < <(dpkg-query --search "${libraries[@]/#/"*/$(cc -print-multiarch)/"}" | cut -d: -f1 | sort -u)

rm -rf "$root"
mkdir -p "$root"/{etc/knitting,proc,dev,sys,tmp,run,usr/bin,usr/lib/knitting/modules,usr/lib64,usr/libexec}
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
# Of a package the libraries and the licence. Translations, and conversions between character sets, nothing here uses.
dpkg-query --listfiles "${packages[@]}" | grep -E '\.so(\.|$)|/copyright$' | grep -vE '/gconv/|/audit/' | sort -u |
  tar -C / --no-recursion -cf - -T - 2>/dev/null | tar -C "$root" --keep-directory-symlink -xf -
install -m 0755 -s "$install/bin/knittingd" "$install/bin/knit" "$root/usr/bin/"
install -m 0755 -s "$install/libexec/knitting-worker" "$root/usr/libexec/"
install -m 0644 -s "$scratch/libknitting.so.0" "$root/usr/lib/"
install -m 0644 "$here/knittingd.conf" "$root/etc/knitting/"
install -D -m 0644 "$source/LICENSE" "$root/usr/share/doc/knitting/copyright"
install -m 0644 /etc/os-release "$root/usr/lib/os-release"
ln -s ../usr/lib/os-release "$root/etc/os-release"
printf 'root:x:0:0::/:/none\nknitting:x:10001:10001::/run/knitting:/none\n' >"$root/etc/passwd"
printf 'root:x:0:\nknitting:x:10001:\n' >"$root/etc/group"
chmod 0644 "$root"/etc/{passwd,group}
chmod 1777 "$root/tmp"
