#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The build for those who install Knitting: optimised across files, by a profile of calls over each path. README.md in this
# folder says what it gives, and what makes two builds the same.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/.." && pwd)

usage()
{
  cat <<'TEXT'
usage: deploy/release.sh [--build DIR] [--profile FILE] [OPTION-OF-MESON-SETUP...]

Builds Knitting twice: with counters, which calls over shm, unix and TCP then fill; and, by what they say, for use. Then
`meson install -C DIR --no-rebuild` installs the same files as those of an ordinary build. The compiler is that of $CC, gcc or
clang; with clang there is no optimisation across files, since its archive would suit clang alone.

  --build DIR     build folder (build-release); DIR-training has the counters, DIR/profile.tar the profile
  --profile FILE  that of a build of the same sources by the same compiler: nothing is trained
  --help          this text

Options for meson setup, such as --prefix=/usr, are for both builds.
TEXT
}

build=build-release profile=''
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift ;;
    --profile) profile=$(realpath "$2"); shift ;;
    --help) usage; exit 0 ;;
    *) break ;;
  esac
  shift
done
mkdir -p "$build"
release=$(cd "$build" && pwd)
# Beside it: counts are of functions in files, whose names are relative to the folder.
training=$release-training
common=(-Dbuildtype=release -Dtests=false "$@")
if ${CC:-cc} --version | grep -q clang; then clang=yes; else clang=no; fi

# quietly COMMAND...: says nothing unless it fails.
quietly()
{
  if ! "$@" </dev/null >"$release/log" 2>&1; then
    cat "$release/log" >&2
    echo "deploy/release.sh: $* did not work" >&2
    return 1
  fi
  rm "$release/log"
}

# setup DIR OPTION...
setup()
{
  local dir=$1 again=()
  shift
  [ ! -f "$dir/build.ninja" ] || again=(--reconfigure)
  quietly meson setup "${again[@]}" "$@" "$dir" "$source"
}

# ---- The profile -----------------------------------------------------------------------------------------------------

# A line for each case: calls of all sizes that travel in different ways, alone and many at once. Their number is fixed and not
# their time, so that a busy machine counts the same.
cases()
{
  local path count
  for path in knit unix shm; do
    if [ $path = shm ]; then count=60000; else count=15000; fi
    for load in '-b 1000 empty' '-b 64 echo:64' '-d 1 echo:64' '-c 4 -d 16 echo:64' '-d 16 empty*3,add(2,3)*2,echo:37*2' \
      '-d 16 echo:200*4,echo:1000*4,echo:65536' 'add(2,3)'; do
      echo "--url $(url $path) --count $count $load"
    done
  done
}

# Calls from the shell, and calls that fail. Those of `crash` leave no counts: the worker dies of it.
by_tool()
{
  local knit=$build/clients/tool/knit path address
  for path in knit unix shm; do
    address=$(url $path)
    "$knit" -u "$address" tasks
    "$knit" -u "$address" stats
    printf '[%d, 1]\n' $(seq 500) | "$knit" -u "$address" batch add
    [ "$("$knit" -u "$address" call add 2 3)" = 5 ]
    "$knit" -u "$address" call echo '{"a": [1, 2.5, null, true, "text"]}'
    for call in 'fail 7' 'add 1' 'add 1 "text"' 'no_such_task'; do
      # shellcheck disable=SC2086 # words
      if "$knit" -u "$address" call $call; then return 1; fi
    done
    # It ends with an error, since calls fail: that is what is wanted here.
    "$build/bench/knit-bench" --url "$address" --count 2000 -d 8 'fail(7)*2,add(2,3)' || true
  done
}

train()
{
  local options=(-Db_pgo=generate) scratch
  if [ $clang = yes ]; then
    options+=("-Dc_args=${CFLAGS:-} -fprofile-generate=$training/raw")
  fi
  setup "$training" "${common[@]}" "${options[@]}"
  quietly ninja -C "$training" server/knittingd fastpath/knitting-worker clients/tool/knit clients/examples/example.so \
    bench/knit-bench bench/bench-tasks.so
  find "$training" -name '*.gcda' -delete
  rm -rf "$training/raw"
  (
    build=$training
    scratch=$(mktemp -d)
    . "$source/bench/daemon.sh"
    trap finish EXIT
    # A confined worker could not write what it counted.
    start_daemon --permission unsafe
    cases >"$scratch/cases"
    quietly "$build/bench/knit-bench" --cases="$scratch/cases" --rounds=1
    by_tool >"$release/log" 2>&1 || { cat "$release/log" >&2; exit 1; }
    # They write their counts when they end.
    kill -TERM "$daemon"
    wait "$daemon" || { cat "$scratch/log" >&2; exit 1; }
    daemon=
  )
  keep_profile
}

# One file, which two times the same counts make the same.
keep_profile()
{
  local names=default.profdata
  if [ $clang = yes ]; then
    llvm-profdata merge -o "$training/default.profdata" "$training"/raw/*.profraw
  else
    names=$(cd "$training" && find . -name '*.gcda' -size +0 | LC_ALL=C sort)
  fi
  # shellcheck disable=SC2086 # names of ours
  tar -C "$training" --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$training/profile.tar" $names
}

# ---- The build -------------------------------------------------------------------------------------------------------

# By name, so that a profile of other sources is not taken for one of these.
check_profile()
{
  local file
  [ $clang = no ] || return 0
  for file in fastpath/libknitfastpath.a.p/worker_runner.c server/libknit-server.a.p/rpc_router.c \
    proto/libknit-proto.a.p/signature.c clients/libknitting_parts.a.p/lib_call.c; do
    [ -s "$release/$file.gcda" ] || { echo "deploy/release.sh: the profile has nothing of $file" >&2; return 1; }
  done
}

options=(-Db_pgo=use)
[ $clang = yes ] || options+=(-Db_lto=true)
if [ -z "$profile" ]; then
  train
  profile=$training/profile.tar
fi
setup "$release" "${common[@]}" "${options[@]}"
# ninja does not know that the objects depend on it.
if ! cmp -s "$profile" "$release/profile.tar"; then
  quietly ninja -C "$release" -t clean
  find "$release" -name '*.gcda' -delete
  cp "$profile" "$release/profile.tar"
fi
tar -C "$release" -xf "$release/profile.tar"
check_profile
mapfile -t targets < <(meson introspect --targets "$release" | python3 -c '
import json, os, sys
for target in json.load(sys.stdin):
    if target["installed"] or target["name"] in ("example", "bench-tasks", "worker-beside"):
        print(os.path.relpath(target["filename"][0], sys.argv[1]))' "$release")
quietly ninja -C "$release" "${targets[@]}"
echo "$release: built; meson install -C $release --no-rebuild installs it"
