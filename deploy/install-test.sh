#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The installation is complete and the README is correct: installs into a folder of its own, builds the module and the caller
# of README.md with the installed files, starts the installed daemon with them and calls it.
#   install-test.sh BUILD-DIR CC...
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=$1
shift
cc=("$@")
dir=$(mktemp -d)
: >"$dir/log"
daemon=
end()
{
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" || true
  fi
  rm -rf "$dir"
}
trap end EXIT
trap 'echo "line $LINENO did not work" >&2; cat "$dir/log" >&2 || true' ERR

meson install -C "$build" --no-rebuild --destdir "$dir/root" >"$dir/install.log"

# installed NAME: the path of the installed file whose path ends in that; fails if there is none.
installed()
{
  local found
  found=$(find "$dir/root" -path "*/$1" -print -quit)
  [ -n "$found" ] || { echo "$1 is not installed" >&2; return 1; }
  echo "$found"
}

for name in libknitting.a libknitting.so.0 knittingd.conf knittingd.service knittingd@.service knittingd.socket $(cd "$source/deploy/man" && basename -s .scd ./*.scd) \
  tasks.c caller.py knit.fish _knit TUTORIAL.md OPERATING.md SYSTEMD.md; do
  installed "$name" >/dev/null
done
bash -n "$(installed bash-completion/completions/knit)"
# Examples are documentation: the daemon's default folder of modules is the user's own.
if find "$dir/root" -path '*/knitting/modules/*' -print | grep .; then
  echo 'a module is installed where the daemon loads every module' >&2
  exit 1
fi
unit=$(installed knittingd.service)
for line in Type=notify RestartPreventExitStatus=2 'ExecStart=[^ ]*/bin/knittingd' RuntimeDirectory=knitting; do
  grep -qx "$line" "$unit" || { echo "the unit lacks $line" >&2; exit 1; }
done
# Whoever names the settings file names the one that is read.
usual=$("$(installed knittingd)" --help | grep -o '/[^ ]*/knittingd\.conf')
grep -q "is in $usual," "$unit" || { echo "the unit does not name $usual" >&2; exit 1; }
[ "$usual" != /usr/local/etc/knitting/knittingd.conf ] || grep -q '`/usr/local/etc/knitting`' "$source/README.md"
knittingd=$(installed knittingd) worker=$(installed knitting-worker) knit=$(installed bin/knit)
pkgconfig=$(dirname "$(installed knitting.pc)")
# Nothing but what is installed here: a program that compiles against the library needs no other's headers.
export PKG_CONFIG_LIBDIR=$pkgconfig PKG_CONFIG_SYSROOT_DIR=$dir/root
# The loader's cache, which `ldconfig` makes, belongs to the machine. The README's caller is told where the library is by this
# instead; the tool must start as it is.
libdir=$(dirname "$(installed libknitting.so)")
unset LD_LIBRARY_PATH

# The blocks of C in the README, in their order: the module, then the caller, which is the body of a function.
awk -v dir="$dir" '/^```c$/ { n++; on = 1; next } /^```/ { on = 0 } on { print > (dir "/block" n) }' "$source/README.md"
cp "$dir/block1" "$dir/add.c"
{
  printf '#include <stdio.h>\n'
  grep '^#include' "$dir/block2"
  printf 'int main(int argc, char **argv)\n{\n'
  grep -v '^#include' "$dir/block2" | sed 's,"shm://[^"]*",argv[argc - 1],'
  printf '    return 0;\n}\n'
} >"$dir/caller.c"
read -ra cflags < <(pkg-config --cflags knitting)
read -ra libs < <(pkg-config --libs knitting)
# A module links with no library of ours: -z defs would report what is missing.
"${cc[@]}" -Wall -Wextra -Werror -shared -fPIC -Wl,-z,defs -o "$dir/add.so" "$dir/add.c" "${cflags[@]}"
"${cc[@]}" -Wall -Wextra -Werror -o "$dir/caller" "$dir/caller.c" "${cflags[@]}" "${libs[@]}"
# The archive as well, by whatever compiler there is, and by none that would have to be of the same release.
archive=$(installed libknitting.a)
if readelf -SW "$archive" | grep '\.gnu\.lto_'; then
  echo 'the archive has code that one release of a compiler can read' >&2
  exit 1
fi
callers=("$dir/caller")
for by in "${cc[*]}" clang; do
  command -v "${by%% *}" >/dev/null || continue
  callers+=("$dir/static${#callers[@]}")
  # shellcheck disable=SC2086 # words
  $by -o "${callers[-1]}" "$dir/caller.c" "${cflags[@]}" "$archive" $(pkg-config --static --libs knitting | sed 's/-lknitting\b//')
done

"$knittingd" --config "$(installed knittingd.conf)" --worker-program "$worker" --module "$dir/add.so" \
  --socket "$dir/socket" --check-config
if "$knittingd" --config /dev/null --worker-program "$worker" --listen none --socket "$dir/socket" 2>"$dir/log"; then
  echo 'a daemon without a module has started' >&2
  exit 1
fi
grep -q 'no modules are named' "$dir/log"
"$knittingd" --config /dev/null --listen 127.0.0.1:0 --admin none --socket "$dir/socket" --module "$dir/add.so" \
  --worker-program "$worker" --ready-file "$dir/ready" </dev/null >"$dir/log" 2>&1 &
daemon=$!
for _ in $(seq 400); do
  if [ -e "$dir/ready" ] || ! kill -0 "$daemon" 2>/dev/null; then break; fi
  sleep 0.05
done
while read -r url; do
  [ "$("$knit" -u "$url" call add 2 3)" = 5 ]
  for caller in "${callers[@]}"; do
    [ "$(LD_LIBRARY_PATH=$libdir "$caller" "$url")" = 5 ]
  done
done < <(sed -n 's/^url=//p' "$dir/ready")
# Its tool's bench, beside it, on the address that the tool was given.
"$knit" -u "shm://$dir/socket" bench --quick 'add(2,3)' | grep -q 'shm *add(2,3)'
kill "$daemon"
wait "$daemon"
daemon=

# In its own place nobody is told where anything is.
prefix=${knittingd#"$dir/root"}
prefix=${prefix%/bin/knittingd}
if [ -d "$prefix" ] && unshare -m true 2>/dev/null; then
  unshare -m bash -euc '
    mount --bind "$1/root$2" "$2"
    "$2/bin/knittingd" --config /dev/null --listen none --socket "$1/own" --module "$1/add.so" --ready-file "$1/own-ready" \
      </dev/null >"$1/log" 2>&1 &
    trap "kill $! 2>/dev/null || true" EXIT
    for _ in $(seq 400); do
      if [ -e "$1/own-ready" ] || ! kill -0 $! 2>/dev/null; then break; fi
      sleep 0.05
    done
    [ "$("$2/bin/knit" -u "unix://$1/own" call add 2 3)" = 5 ]
    kill $!
    wait $!' - "$dir" "$prefix"
  echo "run in $prefix"
else
  echo "not run in $prefix: it is not there, or mounts cannot be made for it"
fi
echo 'installed, built against, called'
