#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds Knitting and runs its tests. The last line says how many programs passed, failed, were skipped; the exit status is
# not 0 when one failed. A line before it names each that did not pass.
#
# Every configuration is one Meson native file under deploy/native, so each part of --all can be had alone, for example:
#   meson setup build-asan --native-file deploy/native/asan.ini && meson test -C build-asan
set -euo pipefail
cd "$(dirname "$0")/.."

usage()
{
  cat <<'TEXT'
usage: tests/run.sh [--no-install] [--keep] [--quick | --all] [ARGUMENT FOR meson test...]

Installs what is missing from Debian's packages, builds in build/, runs the tests, builds a release in build-release/ and runs
a few of them on it, then deploy/quickstart.sh.
With arguments for meson test (a test's name, --suite unit, --list, ...) only that, no release, no quickstart.

  --no-install  never install; say what is missing and fail
  --keep        leave the quickstart's daemon running, see deploy/quickstart.sh --help
  --quick       suites unit and style alone, under a minute: for every commit
  --all         also: clang, AddressSanitizer + UBSan, ThreadSanitizer, valgrind, the static analysers, long tests
  --help        this text

KNIT_TEST_SEED=n repeats random tests, KNIT_TEST_SLOWDOWN=n stretches their deadlines, KNIT_TEST_LONG=1 asks for long forms,
KNIT_TEST_MINUTES=n says how long kills, network and soak last in them; 10 with --all.
TEXT
}

install=yes keep=no quick=no all=no
while [ $# -gt 0 ]; do
  case $1 in
    --no-install) install=no ;;
    --keep) keep=yes ;;
    --quick) quick=yes ;;
    --all) all=yes ;;
    --help) usage; exit 0 ;;
    *) break ;;
  esac
  shift
done

# Debian's own Python is the one that has Debian's msgpack, and Meson's tests look it up here.
export PATH=/usr/bin:/bin:$PATH
. deploy/packages.sh

passed=0 failed=0 skipped=0 not_passed=()

finish()
{
  [ ${#not_passed[@]} -eq 0 ] || printf '%s\n' "${not_passed[@]}"
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ]
  exit
}

# note RESULT NAME: counts one result; RESULT is passed, failed or skipped.
note()
{
  printf -v "$1" %d $(($1 + 1))
  [ "$1" = passed ] || not_passed+=("$1: $2")
}

# step NAME COMMAND...: a thing that passes or fails as a whole.
step()
{
  local name=$1
  shift
  echo "== $name"
  if "$@" </dev/null; then note passed "$name"; else note failed "$name"; return 1; fi
}

# build DIR MESON-SETUP-ARGUMENT...: configures (again) and builds; one that fails counts as one failure.
build()
{
  local dir=$1
  shift
  echo "== build $dir"
  if [ ! -f "$dir/build.ninja" ]; then
    rm -rf "$dir"
    set -- setup "$dir" "$@"
  else
    set -- setup --reconfigure "$dir" "$@"
  fi
  if ! meson "$@" </dev/null >"$dir.log" 2>&1; then
    tail -n 20 "$dir.log"
    rm -f "$dir.log"
    note failed "configure $dir"
    return 1
  fi
  rm -f "$dir.log"
  if ! ninja -C "$dir" --quiet </dev/null; then
    note failed "build $dir"
    return 1
  fi
}

# run_tests DIR MESON-TEST-ARGUMENT...: counts what Meson's log says.
run_tests()
{
  local dir=$1 result name status=0
  shift
  echo "== test $dir ${*}"
  rm -f "$dir/meson-logs/run.json"
  # Through a wrapper Meson adds its name to that of the log.
  rm -f "$dir"/meson-logs/run-*.json
  ${UNDER:-} meson test -C "$dir" --no-rebuild --print-errorlogs --logbase run "$@" </dev/null || status=$?
  set -- "$dir"/meson-logs/run*.json
  if [ -f "$1" ]; then
    while read -r result name; do
      note "$result" "$name ($dir)"
    done < <(python3 -c '
import json, sys
KIND = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}
for line in open(sys.argv[1], encoding="utf-8"):
    test = json.loads(line)
    print(KIND.get(test["result"], "failed"), test["name"])' "$1")
  fi
  if [ "$status" != 0 ] && [ "$failed" = 0 ]; then
    note failed "meson test -C $dir"
  fi
}

# fetch_npm FROM DIR: what FROM/package-lock.json names, each by its checksum, once, into DIR.
fetch_npm()
{
  cmp -s "$1/package-lock.json" "$2/package-lock.json" && [ -d "$2/node_modules" ] && return 0
  mkdir -p "$2"
  cp "$1/package.json" "$1/package-lock.json" "$2"
  npm ci --prefix "$2" --ignore-scripts --no-audit --no-fund --legacy-peer-deps --loglevel error >/dev/null
}

packages=("${PACKAGES_BUILD[@]}" "${PACKAGES_TEST[@]}")
[ "$quick" = yes ] || { command -v npm && command -v node; } >/dev/null || packages+=("${PACKAGES_NPM[@]}")
[ "$quick" = yes ] || command -v promtool >/dev/null || packages+=("${PACKAGES_METRICS[@]}")
[ "$quick" = yes ] || packages+=("${PACKAGES_BOOT[@]}")
[ "$quick" = yes ] || packages+=("${PACKAGES_CONTAINERS[@]}")
[ "$quick" = yes ] || packages+=("${PACKAGES_SITE[@]}")
{ [ "$all" = no ] && [ "${KNIT_TEST_LONG:-}" != 1 ]; } || packages+=("${PACKAGES_DEBIAN[@]}")
[ "$all" = no ] || packages+=("${PACKAGES_ALL[@]}")
if ! packages_need "$install" "${packages[@]}"; then
  note failed packages
  finish
fi

build build -Dwerror=true || finish
# Three times their usual bound, since a machine that builds is often a busy one.
if [ "$quick" = yes ]; then
  run_tests build --timeout-multiplier 3 --suite unit --suite style "$@"
  finish
fi
# What comes from elsewhere than Debian; without it the tests of that client, and of manifests and chart, are skipped, and say so.
if [ "$install" = yes ] && ! { fetch_npm tests/system/foreign build/npm && fetch_npm tests/system/manifests build/npm-manifests; }; then
  echo 'npm ci failed: what comes from there is not tested' >&2
fi
# What is in the image; the test of it would build this too, beside all others.
[ $# -gt 0 ] || build build-image --prefix /usr --libdir lib -Dbuildtype=release -Dtests=false -Dbench=false || true
run_tests build --timeout-multiplier 3 "$@"
# What is installed by others is built otherwise: across files and by a profile, which can drop what only a module refers to,
# or inline what must stand apart. The tests here look at the built files and call them over each path.
if [ $# -eq 0 ]; then
  if step 'release build' deploy/release.sh --build build-release -Dtests=true &&
    step 'modules for it' ninja -C build-release --quiet tests/system/{print,leftovers,fast,escape}.so tests/system/old_kernel; then
    run_tests build-release --timeout-multiplier 3 deploy-hardening deploy-install clients-exports bench-calls \
      system-{leftovers,confinement,examples,wire_attach,wire_start}
  fi
fi
if [ $# -eq 0 ]; then
  options=(--no-install)
  [ "$keep" = no ] || options+=(--keep)
  step quickstart ./deploy/quickstart.sh "${options[@]}" || true
fi
[ "$all" = yes ] || finish

# ---- --all ----

# With the fuzz targets, which nothing else builds.
if build build-clang --native-file deploy/native/clang.ini -Dfuzz=true; then
  run_tests build-clang --no-suite style --no-suite model "$@"
fi
if build build-asan --native-file deploy/native/asan.ini; then
  export KNIT_TEST_SLOWDOWN=4 ASAN_OPTIONS=verify_asan_link_order=0
  run_tests build-asan --suite unit --suite stress --suite fuzz --suite conformance --timeout-multiplier 4 "$@"
  # These look at the memory of the daemon, which freed blocks that ASan holds back would swell.
  ASAN_OPTIONS+=:quarantine_size_mb=1
  run_tests build-asan --suite system --timeout-multiplier 4 "$@"
  unset KNIT_TEST_SLOWDOWN ASAN_OPTIONS
fi
if build build-tsan --native-file deploy/native/tsan.ini; then
  # Its runtime wants the address space laid out as usual; kernels that randomise more bits than it knows upset it.
  UNDER='setarch -R' KNIT_TEST_SLOWDOWN=8 run_tests build-tsan --suite unit --suite stress --timeout-multiplier 8 "$@"
fi
if build build-yield --native-file deploy/native/yield.ini; then
  KNIT_TEST_SLOWDOWN=4 run_tests build-yield --suite unit --suite stress --timeout-multiplier 8 "$@"
  KNIT_TEST_SLOWDOWN=4 run_tests build-yield fastpath-pool fastpath-supervisor chaos-chaos chaos-kills system-hostile_caller --timeout-multiplier 8
fi
if build build-valgrind --native-file deploy/native/valgrind.ini; then
  KNIT_TEST_SLOWDOWN=30 run_tests build-valgrind --suite unit --timeout-multiplier 30 --wrap \
    'valgrind --quiet --fair-sched=try --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --child-silent-after-fork=yes' "$@"
fi
if build build-analyzer --native-file deploy/native/analyzer.ini; then
  note passed 'gcc -fanalyzer'
fi
step coverage tests/coverage.sh build-coverage || true
step clang-tidy deploy/lint.sh clang-tidy build-clang || true
step cppcheck deploy/lint.sh cppcheck build || true
step 'cross compile for aarch64' deploy/cross.sh build-aarch64 || true
# Long forms. First those that end when they have been everywhere, then those that go by the clock or by a number of calls:
# a soak by itself lasts a day.
KNIT_TEST_LONG=1 run_tests build --no-suite style --no-suite system --timeout-multiplier 40 "$@"
KNIT_TEST_LONG=1 KNIT_TEST_MINUTES=${KNIT_TEST_MINUTES:-10} run_tests build --suite system --timeout-multiplier 40 "$@"
finish
